from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from footage import numbers, video, write_video

from posecap.engines.pyav import PyAV
from posecap.footage.clock import frames_of, on_the_videos_clock
from posecap.stages.cut import Cut
from posecap.stages.decode import Decode
from posecap.types import Span

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
    blocks = list(frames_of(PyAV(), stretch, media, begins_seconds=7.5, span=span, size=(media.width, media.height)))
    assert numbers(np.concatenate([b.frames_THW3 for b in blocks])) == list(range(first, last + 1))
    pts = np.concatenate([b.pts_T for b in blocks])
    np.testing.assert_allclose(pts, 7.5 + np.arange(first, last + 1) / 30, atol=1e-9)


def test_a_span_before_the_stretch_holds_no_frame(stretch: Path) -> None:
    media = PyAV().probe(stretch)
    size = (media.width, media.height)
    assert list(frames_of(PyAV(), stretch, media, begins_seconds=7.5, span=Span(1.0, 7.5), size=size)) == []


def test_the_end_is_told_on_the_videos_clock(stretch: Path) -> None:
    media = PyAV().probe(stretch)
    assert on_the_videos_clock(media, 7.5).seconds == pytest.approx(9.5)
    assert on_the_videos_clock(media, 0.0) == media
    assert on_the_videos_clock(replace(media, seconds=None), 7.5).seconds is None


def test_a_clip_of_a_stretch_has_the_videos_times(stretch: Path) -> None:
    item = video(stretch, start=8.0, end=9.0)
    (cut,) = Cut()(replace(item, begins_seconds=7.5))
    (clip,) = DECODE(cut)
    assert numbers(clip.frames_THW3) == list(range(15, 45))
    assert clip.span == Span(8.0, 9.0)
    np.testing.assert_allclose(clip.pts_T, np.arange(240, 270) / 30, atol=1e-9)


def test_a_stretch_is_cut_into_shots_on_the_videos_clock(stretch: Path) -> None:
    item = video(stretch, start=None, end=None)
    (cut,) = Cut(shortest_seconds=0.5, longest_seconds=1.0)(replace(item, begins_seconds=7.5))
    spans = [(r.span.start_seconds, r.span.end_seconds) for r in DECODE(cut)]
    assert spans == [pytest.approx((7.5, 8.5)), pytest.approx((8.5, 9.5))]
