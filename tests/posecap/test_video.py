from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.engines.pyav import PyAV
from posecap.stages.decode import Decode, Split
from posecap.types import Media, Span
from posecap.video import (
    FrameBuffer,
    FrameRateLimiter,
    ShotDetector,
    decode_span,
    shift_media,
    thumbnails,
    working_size,
)
from tests.footage import numbers, video, write_video

DECODE = Decode(prober=PyAV(), decoders=(PyAV(),))


@pytest.fixture
def stretch(tmp_path: Path) -> Path:
    """Two seconds at 30 frames a second, taken from a video at 7.5 s."""
    return write_video(tmp_path / "stretch.mp4", frames=60)


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [(None, 0, 59), (Span(8.0, 9.0), 15, 44), (Span(0.0, 8.0), 0, 14), (Span(9.0, math.inf), 45, 59)],
)
def test_spans_and_times_are_the_videos(stretch: Path, span: Span | None, first: int, last: int) -> None:
    media = PyAV().probe(stretch)
    blocks = list(decode_span(PyAV(), stretch, media, begins_seconds=7.5, span=span, size=(media.width, media.height)))
    assert numbers(np.concatenate([b.frames_THW3 for b in blocks])) == list(range(first, last + 1))
    pts = np.concatenate([b.pts_T for b in blocks])
    np.testing.assert_allclose(pts, 7.5 + np.arange(first, last + 1) / 30, atol=1e-9)


def test_a_span_before_the_stretch_holds_no_frame(stretch: Path) -> None:
    media = PyAV().probe(stretch)
    size = (media.width, media.height)
    assert list(decode_span(PyAV(), stretch, media, begins_seconds=7.5, span=Span(1.0, 7.5), size=size)) == []


def test_the_end_is_told_shift_media(stretch: Path) -> None:
    media = PyAV().probe(stretch)
    assert shift_media(media, 7.5).seconds == pytest.approx(9.5)
    assert shift_media(media, 0.0) == media
    assert shift_media(replace(media, seconds=None), 7.5).seconds is None


def test_a_clip_of_a_stretch_has_the_videos_times(stretch: Path) -> None:
    item = video(stretch, start=8.0, end=9.0)
    (cut,) = Split()(replace(item, begins_seconds=7.5))
    (clip,) = DECODE(cut)
    assert numbers(clip.frames_THW3) == list(range(15, 45))
    assert clip.span == Span(8.0, 9.0)
    np.testing.assert_allclose(clip.pts_T, np.arange(240, 270) / 30, atol=1e-9)


def test_a_stretch_is_cut_into_shots_shift_media(stretch: Path) -> None:
    item = video(stretch, start=None, end=None)
    (cut,) = Split(shortest_seconds=0.5, longest_seconds=1.0)(replace(item, begins_seconds=7.5))
    spans = [(r.span.start_seconds, r.span.end_seconds) for r in DECODE(cut)]
    assert spans == [pytest.approx((7.5, 8.5)), pytest.approx((8.5, 9.5))]


# .


def grey(*levels: int, height: int = 90, width: int = 160) -> np.ndarray:
    return np.stack([np.full((height, width, 3), level, np.uint8) for level in levels])


def test_a_thumbnail_is_the_mean_grey_of_each_cell() -> None:
    frame = grey(0)
    frame[0, :45, :80] = (255, 0, 0)  # the upper left quarter, pure red: 255 * 77 / 256 grey levels
    small = thumbnails(frame)[0] / (256 * 16)
    assert small.shape == (18, 32)
    assert (small[:9, :16] == 255 * 77 / 256).all()
    assert (small[9:] == 0).all()
    assert (small[:, 16:] == 0).all()


@pytest.mark.parametrize(("jump", "found"), [(42, False), (43, True)])
def test_a_shot_begins_where_the_jump_exceeds_the_threshold(jump: int, found: bool) -> None:
    assert ShotDetector(42).begins(grey(100, 100, 100 + jump, 100 + jump)).tolist() == [False, False, found, False]


def test_a_jump_on_half_the_picture_counts_half() -> None:
    frames = grey(50, 50)
    frames[1, :, :80] = 150
    assert ShotDetector(49).begins(frames).tolist() == [False, True]
    assert ShotDetector(50).begins(frames).tolist() == [False, False]


@given(st.lists(st.integers(0, 255), min_size=2, max_size=20), st.data())
def test_blocks_make_no_difference(levels: list[int], data: st.DataObject) -> None:
    frames = grey(*levels, height=20, width=34)
    at = data.draw(st.integers(1, len(levels) - 1))
    whole, parts = ShotDetector(30), ShotDetector(30)
    assert whole.begins(frames).tolist() == [*parts.begins(frames[:at]).tolist(), *parts.begins(frames[at:]).tolist()]


@pytest.mark.parametrize("size", [(1, 1), (7, 500), (17, 31), (512, 290)])
def test_any_size_of_frame_will_do(size: tuple[int, int]) -> None:
    assert ShotDetector(30).begins(grey(0, 200, height=size[0], width=size[1])).tolist() == [False, True]


# .


def kept(fps: float, fps_at_most: float, count: int = 240) -> list[int]:
    limiter = FrameRateLimiter(fps_at_most)
    return [n for n in range(count) if limiter.keeps(n / fps)]


def test_frames_are_handed_out_from_the_front() -> None:
    buffer = FrameBuffer()
    for n in range(5):
        buffer.append(np.full((2, 4, 3), n, np.uint8), n / 10)
    first = buffer.pop(3)
    assert first.frames_THW3[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert first.pts_T.tolist() == [0.0, 0.1, 0.2]
    buffer.drop(1)
    assert (len(buffer), buffer.first_pts, buffer.last_pts, buffer.pts) == (1, 0.4, 0.4, [0.4])


@pytest.mark.parametrize(
    ("fps", "step"),
    [(24, 1), (30, 1), (59.94, 1), (60, 1), (120, 2), (119.88, 2), (180, 3), (240, 4), (480, 8), (600, 10)],
)
def test_footage_is_thinned_evenly(fps: float, step: int) -> None:
    assert kept(fps, 60) == list(range(0, 240, step))


def test_rates_that_do_not_divide_alternate() -> None:
    assert kept(90, 60, 9) == [0, 2, 3, 5, 6, 8]


def test_times_rounded_to_milliseconds_lose_no_frame() -> None:
    limiter = FrameRateLimiter(60)
    assert all(limiter.keeps(round(n / 60, 3)) for n in range(600))


def test_a_pause_does_not_let_the_frames_behind_it_pass() -> None:
    limiter = FrameRateLimiter(10)
    times = [0.0, 5.0, 5.05, 5.1, 5.15, 5.2]
    assert [t for t in times if limiter.keeps(t)] == [0.0, 5.0, 5.1, 5.2]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=200), st.integers(1, 100))
def test_never_more_frames_than_allowed(gaps: list[int], rate: int) -> None:
    times = np.cumsum(gaps) / 1000
    limiter = FrameRateLimiter(rate)
    passed = [t for t in times if limiter.keeps(t)]
    assert passed[0] == times[0]
    assert len(passed) <= (times[-1] - times[0]) * rate + 1.5


@pytest.mark.parametrize(
    ("source", "long_side", "working"),
    [
        ((1920, 1080), 512, (512, 288)),
        ((1080, 1920), 512, (288, 512)),
        ((340, 256), 512, (340, 256)),
        ((427, 241), 512, (426, 240)),
        ((1768, 994), 512, (512, 288)),
        ((4000, 20), 512, (512, 2)),
        ((1, 1), 512, (2, 2)),
    ],
)
def test_working_size_keeps_the_shape_and_never_enlarges(
    source: tuple[int, int], long_side: int, working: tuple[int, int]
) -> None:
    media = Media(width=source[0], height=source[1], fps=30, codec="h264", rotation_degrees=0, seconds=None)
    assert working_size(media, long_side) == working
