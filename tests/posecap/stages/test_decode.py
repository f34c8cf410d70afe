from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from posecap.engines.decord import Decord
from posecap.engines.pyav import PyAV
from posecap.files import clip_id
from posecap.interfaces import DecoderGaveUpError, Frames
from posecap.signatures import make_signature
from posecap.stage import PermanentError, Reject, Rejected, configuration
from posecap.stages.decode import Decode, Split
from posecap.types import Clip, CutVideo, Media, ShotRule, Span
from tests.damage import damaged as damaged_copies
from tests.damage import false_fields
from tests.decoders import check_times
from tests.footage import damaged, numbers, real_video, truncated, video, write_sound, write_video

CUT = Split(shortest_seconds=0.5, longest_seconds=2.0)
DECODE = Decode(prober=PyAV(), decoders=(Decord(), PyAV()))
Result = tuple[float, float, list[int] | str]


def decode(
    path: Path, start: float | None = None, end: float | None = None, *, stage: Decode = DECODE, cut: Split = CUT
) -> list[Clip | Rejected]:
    results = results_of(path, start, end, stage=stage, cut=cut)
    for result in results:
        if isinstance(result, Clip):
            check_times(path, result.pts_T)
    return results


def results_of(
    path: Path, start: float | None, end: float | None, *, stage: Decode, cut: Split
) -> list[Clip | Rejected]:
    """Without a comparison with a player: of headers that lie, versions of FFmpeg believe different things."""
    return [result for item in cut(video(path, start=start, end=end)) for result in stage(item)]


def told(results: list[Clip | Rejected]) -> list[Result]:
    """Start, end, and the numbers of the frames or the reason why there are none."""
    return [
        (
            round(r.span.start_seconds, 4),
            round(r.span.end_seconds, 4),
            r.reason if isinstance(r, Rejected) else numbers(r.frames_THW3),
        )
        for r in results
    ]


def rejected(path: Path, start: float | None = None, end: float | None = None, *, stage: Decode = DECODE) -> Reject:
    with pytest.raises(Reject) as caught:
        decode(path, start, end, stage=stage)
    assert str(path.parent) not in caught.value.detail
    return caught.value


@dataclass(frozen=True)
class Tiring:
    """Gives ``blocks`` blocks of ten frames, one a shot, then gives up or raises."""

    blocks: int
    ends: Exception
    name: ClassVar[str] = "tiring"
    asked: list[Span | None] = field(default_factory=list)

    def accepts(self, media: Media) -> bool:
        return True

    def frames(self, path: Path, media: Media, *, span: Span | None, size: tuple[int, int]) -> Iterator[Frames]:
        self.asked.append(span)
        for block, frames in enumerate(PyAV(block_frames=10).frames(path, media, span=span, size=size)):
            if block == self.blocks:
                raise self.ends
            yield frames


def test_its_engines_are_in_its_configuration() -> None:
    written = configuration(DECODE)
    assert [written["prober"]["name"], *(d["name"] for d in written["decoders"])] == ["pyav", "decord", "pyav"]


def test_a_clip_knows_all_about_itself(tmp_path: Path) -> None:
    path = write_video(tmp_path / "walk.mp4", frames=60, size=(1280, 720))
    (clip,) = decode(path, 0.5, 1.5)
    assert isinstance(clip, Clip)
    assert clip.decoder == "decord"
    assert clip.frames_THW3.shape == (30, 288, 512, 3)
    assert numbers(clip.frames_THW3) == list(range(15, 45))
    np.testing.assert_allclose(clip.pts_T, np.arange(15, 45) / 30, rtol=0, atol=1e-9)
    assert (clip.media.width, clip.media.height, clip.source_per_working) == (1280, 720, (2.5, 2.5))
    assert clip.clip_id == clip_id("a1" * 32, "row-1", Span(0.5, 1.5))
    assert clip.signature == ""
    (signed,) = decode(path, 0.5, 1.5, stage=replace(DECODE, signature="perceptual"))
    assert isinstance(signed, Clip)
    assert signed.signature == make_signature(clip.frames_THW3, clip.pts_T)


@pytest.mark.parametrize(
    ("start", "end", "span"),
    [
        (0.5, 1.5, (0.5, 1.5)),
        (0.51, 1.51, (0.51, 1.51)),
        (None, 1.0, (0.0, 1.0)),
        (1.0, None, (1.0, 2.0)),
        (1.0, 2.01, (1.0, 2.01)),
        (1.0, 2.5, (1.0, 2.0)),
    ],
)
def test_a_span_keeps_its_times_as_far_as_the_video_goes(
    tmp_path: Path, start: float | None, end: float | None, span: tuple[float, float]
) -> None:
    path = write_video(tmp_path / "walk.mp4", frames=60)
    (clip,) = decode(path, start, end)
    assert (clip.span.start_seconds, clip.span.end_seconds) == pytest.approx(span, abs=1e-9)


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (2.0, 3.0, "span_outside_video"),
        (5.0, None, "span_outside_video"),
        (1.5, 4.0, "span_outside_video"),
        (1.0, 1.03, "too_short"),
    ],
)
def test_a_span_that_the_video_does_not_hold_is_rejected(
    tmp_path: Path, start: float, end: float | None, reason: str
) -> None:
    assert rejected(write_video(tmp_path / "walk.mp4", frames=60), start, end).reason == reason


def test_a_span_of_too_many_frames_is_rejected(tmp_path: Path) -> None:
    path = write_video(tmp_path / "walk.mp4", frames=60)
    stage = replace(DECODE, frames_at_most=40)
    assert len(decode(path, 0.0, 1.3, stage=stage)) == 1
    assert rejected(path, 0.0, 1.4, stage=stage).reason == "too_many_frames"


def test_a_span_of_which_half_is_missing_is_rejected(tmp_path: Path) -> None:
    path = write_video(tmp_path / "walk.mp4", frames=120, options={"bf": "0"}, muxing={"movflags": "faststart"})
    path = truncated(path, 0.45)
    there = decode(path, cut=Split(longest_seconds=9.0))[0].span.end_seconds
    assert 0.5 < there < 1.9
    drop = rejected(path, 0.0, 3.9)
    assert (drop.reason, drop.detail) == ("truncated", f"frames cover {there:.3f} s of the span's 3.900 s, needs 50%")
    (clip,) = decode(path, 0.0, 1.5 * there)
    assert clip.span.end_seconds == pytest.approx(there)


def test_shots_become_clips_that_meet(tmp_path: Path) -> None:
    path = write_video(tmp_path / "shots.mp4", shots=(30, 24, 36))
    assert told(decode(path)) == [
        (0.0, 1.0, list(range(30))),
        (1.0, 1.8, list(range(30, 54))),
        (1.8, 3.0, list(range(54, 90))),
    ]


def test_short_shots_are_accounted_for(tmp_path: Path) -> None:
    path = write_video(tmp_path / "shots.mp4", shots=(30, 6, 30))
    assert told(decode(path)) == [
        (0.0, 1.0, list(range(30))),
        (1.0, 1.2, "too_short"),
        (1.2, 2.2, list(range(36, 66))),
    ]


@pytest.mark.parametrize(
    ("frames", "parts"),
    [
        (60, [(0, 60)]),
        (72, [(0, 36), (36, 72)]),
        (75, [(0, 38), (38, 75)]),
        (90, [(0, 60), (60, 90)]),
        (130, [(0, 60), (60, 95), (95, 130)]),
        (135, [(0, 60), (60, 98), (98, 135)]),
        (140, [(0, 60), (60, 120), (120, 140)]),
    ],
)
def test_a_long_shot_gives_several_clips_and_loses_nothing(
    tmp_path: Path, frames: int, parts: list[tuple[int, int]]
) -> None:
    results = told(decode(write_video(tmp_path / "long.mp4", frames=frames)))
    assert [numbers for *_, numbers in results] == [list(range(*part)) for part in parts]
    assert [(start, end) for start, end, _ in results] == [(round(a / 30, 4), round(b / 30, 4)) for a, b in parts]


def test_no_clip_holds_more_frames_than_allowed(tmp_path: Path) -> None:
    results = decode(write_video(tmp_path / "long.mp4", frames=60), stage=replace(DECODE, frames_at_most=25))
    assert [r.frame_count if isinstance(r, Clip) else r.reason for r in results] == [25, 25, "too_short"]


def test_fast_footage_is_thinned(tmp_path: Path) -> None:
    path = write_video(tmp_path / "fast.mp4", frames=120, fps=120)
    (clip,) = decode(path, stage=replace(DECODE, fps_at_most=30.0))
    assert numbers(clip.frames_THW3) == list(range(0, 120, 4))
    assert (clip.span.start_seconds, clip.span.end_seconds) == (0.0, pytest.approx(1.0))


def test_what_decord_leaves_goes_to_pyav(tmp_path: Path) -> None:
    path = write_video(tmp_path / "walk.mkv", shots=(30, 30))
    assert [r.decoder for r in decode(path) if isinstance(r, Clip)] == ["pyav", "pyav"]
    assert [r.decoder for r in decode(write_video(tmp_path / "b.mp4", frames=150), 3.0, 4.0)] == ["pyav"]


def test_the_next_decoder_goes_on_where_one_gave_up(tmp_path: Path) -> None:
    path = write_video(tmp_path / "shots.mp4", shots=(30, 30, 30))
    tiring = Tiring(5, DecoderGaveUpError("tired"))
    results = decode(path, stage=replace(DECODE, decoders=(tiring, PyAV())))
    assert told(results) == told(decode(path))
    assert [r.decoder for r in results] == ["tiring", "pyav", "pyav"]


def test_a_span_begins_again_with_the_next_decoder(tmp_path: Path) -> None:
    path = write_video(tmp_path / "walk.mp4", frames=60)
    tiring = Tiring(2, DecoderGaveUpError("tired"))
    (clip,) = decode(path, 0.0, 2.0, stage=replace(DECODE, decoders=(tiring, PyAV())))
    assert (clip.decoder, numbers(clip.frames_THW3)) == ("pyav", list(range(60)))


def test_when_all_give_up_the_reasons_are_told(tmp_path: Path) -> None:
    stage = replace(DECODE, decoders=(Tiring(0, DecoderGaveUpError("tired")), Tiring(1, DecoderGaveUpError("bored"))))
    path = write_video(tmp_path / "walk.mp4", frames=60)
    for span in ((None, None), (0.0, 1.0)):
        drop = rejected(path, *span, stage=stage)
        assert (drop.reason, drop.detail) == ("undecodable", "tiring: tired; tiring: bored")


def test_damage_behind_good_clips_rejects_only_the_rest(tmp_path: Path) -> None:
    path = write_video(tmp_path / "shots.mp4", shots=(30, 30, 30))
    stage = replace(DECODE, decoders=(Tiring(5, Reject("undecodable", "broken")),))
    assert told(decode(path, stage=stage)) == [(0.0, 1.0, list(range(30))), (1.0, 3.0, "undecodable")]


def test_a_failure_stays_a_failure(tmp_path: Path) -> None:
    stage = replace(DECODE, decoders=(Tiring(5, PermanentError("decode_timeout", "slow")),))
    with pytest.raises(PermanentError, match="decode_timeout"):
        decode(write_video(tmp_path / "shots.mp4", shots=(30, 30, 30)), stage=stage)


def test_a_gap_ends_a_clip_and_is_accounted_for(tmp_path: Path) -> None:
    times = [40 * n for n in range(25)] + [4000 + 40 * n for n in range(25)]
    path = write_video(tmp_path / "gap.mp4", milliseconds=times, options={"bf": "0"})
    assert told(decode(path)) == [
        (0.0, 1.0, list(range(25))),
        (1.0, 4.0, "no_frames"),
        (4.0, 5.0, list(range(25, 50))),
    ]


def test_a_truncated_file_gives_what_is_there_and_says_what_is_not(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mp4", frames=120, options={"bf": "0"}, muxing={"movflags": "faststart"})
    results = decode(truncated(path, 0.5))
    *clips, rest = results
    assert isinstance(rest, Rejected)
    assert (rest.reason, rest.span.end_seconds) == ("truncated", pytest.approx(4.0))
    found = [n for clip in clips for n in numbers(clip.frames_THW3)]
    assert found == list(range(len(found)))
    assert rest.span.start_seconds == pytest.approx(len(found) / 30)


def test_a_damaged_gop_is_left_out_and_the_clip_stays_honest(tmp_path: Path) -> None:
    path = write_video(tmp_path / "hurt.mp4", options={"g": "20", "sc_threshold": "0", "bf": "0"})
    hurt = damaged(path, 28)
    for span in ((None, None), (0.0, 2.0)):
        (clip,) = decode(hurt, *span)
        assert isinstance(clip, Clip)
        assert (clip.decoder, clip.damaged_frames) == ("pyav", 12)
        assert numbers(clip.frames_THW3) == [*range(28), *range(40, 60)]
        stage = replace(DECODE, most_damaged=0.19)
    (rest,) = decode(hurt, stage=stage)
    assert rest == Rejected(Span(0.0, 2.0), "damaged", "12 of 60 frames are damaged and left out, at most 19% may be")
    assert rejected(hurt, 0.0, 2.0, stage=stage).reason == "damaged"
    (clip,) = decode(hurt, stage=replace(DECODE, fps_at_most=15.0))
    assert isinstance(clip, Clip)
    assert (clip.frame_count, clip.damaged_frames) == (24, 6)


def test_one_frame_is_too_short(tmp_path: Path) -> None:
    assert told(decode(write_video(tmp_path / "one.mp4", frames=1))) == [(0.0, 0.0333, "too_short")]


def test_what_is_no_video_is_rejected(tmp_path: Path) -> None:
    assert rejected(write_sound(tmp_path / "song.mp4")).reason == "no_video_stream"
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    assert rejected(empty).reason == "undecodable"


def test_the_same_clips_twice(tmp_path: Path) -> None:
    path = write_video(tmp_path / "shots.mp4", shots=(40, 100))
    for one, other in zip(decode(path), decode(path), strict=True):
        assert isinstance(one, Clip)
        assert isinstance(other, Clip)
        assert (one.clip_id, one.frames_THW3.tobytes()) == (other.clip_id, other.frames_THW3.tobytes())


def test_an_open_span_has_a_finite_end(tmp_path: Path) -> None:
    (clip,) = decode(write_video(tmp_path / "walk.mkv", frames=60), 0.5, None)
    assert math.isfinite(clip.span.end_seconds)
    assert clip.span.end_seconds == pytest.approx(2.0, abs=2e-3)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision/SOX5yA1l24A.mp4", [138, 81, 73, 40]),  # three cuts, looked at
        ("mmskeleton/skateboarding.mp4", [300]),  # fast camera, one flash, no cut
        ("hostile/video_90.mov", ["too_short"]),
        ("hostile/unordered.mov", ["too_short"]),
        ("hostile/flipping_a_pancake.mkv", [310]),
        ("torchvision/RATRACE_wave_f_nm_np1_fr_goo_37.avi", [72]),
    ],
)
def test_real_footage(name: str, expected: list[int | str]) -> None:
    results = decode(real_video(name), stage=replace(DECODE, long_side=64), cut=Split())
    assert [r.frame_count if isinstance(r, Clip) else r.reason for r in results] == expected


@pytest.mark.data
def test_of_the_corrupted_real_file_the_sound_half_is_kept() -> None:
    clip, rest = decode(real_video("hostile/corrupted.mp4"), cut=Split())
    assert isinstance(clip, Clip)
    assert (clip.decoder, clip.frame_count, clip.damaged_frames) == ("pyav", 29, 0)
    assert rest == Rejected(Span(clip.span.end_seconds, 5.0), "damaged", "21 frames are damaged and left out")
    assert rejected(real_video("hostile/corrupted.mp4"), 0.0, 5.0).detail == (
        "21 of 50 frames are damaged and left out, at most 25% may be"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"long_side": 1},
        {"fps_at_most": 0.0},
        {"gap_seconds": 0.0},
        {"fewest_frames": 0},
        {"frames_at_most": 1},
        {"least_share": 1.5},
        {"most_damaged": 1.5},
    ],
)
def test_a_number_out_of_its_range_is_refused_by_name(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        replace(DECODE, **fields)


def test_no_decoder_is_refused():
    with pytest.raises(ValueError, match="decoders is empty"):
        replace(DECODE, decoders=())


DAMAGED_KINDS = {
    "h264.mp4": {},
    "pieces.mp4": {"muxing": {"movflags": "frag_keyframe+empty_moov"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "h264.mkv": {},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "h264.flv": {},
}


def end_of(path: Path, stage: Decode, start: float | None, end: float | None) -> set[str]:
    """The reasons with which a video ends, empty for a good one; an error that is no reason is raised."""
    try:
        results = results_of(path, start, end, stage=stage, cut=Split(shortest_seconds=0.2, longest_seconds=0.5))
    except Reject as reject:
        return {reject.reason}
    for result in results:
        if isinstance(result, Clip):
            assert (np.diff(result.pts_T) > 0).all()
    return {result.reason for result in results if isinstance(result, Rejected)}


@pytest.mark.parametrize("name", DAMAGED_KINDS)
def test_a_damaged_file_ends_with_a_reason(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = DAMAGED_KINDS[name]
    whole = write_video(tmp_path / name, frames=12, fps=12, size=(64, 48), **options).read_bytes()
    path, ends = tmp_path / f"damaged-{name}", set[str]()
    for number, content in enumerate(damaged_copies(whole, count=90, seed=7)):
        path.write_bytes(content)
        for stage in (DECODE, replace(DECODE, decoders=(PyAV(),))):
            ends |= end_of(path, stage, *((None, None), (0.2, 0.9), (3.0, 9.0))[number % 3])
    assert "undecodable" in ends


@pytest.mark.parametrize("box", [b"mdhd", b"mvhd", b"stts", b"stsz", b"stsc", b"ctts", b"elst", b"tkhd"])
def test_false_numbers_in_the_boxes_of_an_mp4_end_with_a_reason(box: bytes, tmp_path: Path) -> None:
    """As a clock of 0 ticks a second, or four billion frames, for which Decord would make room."""
    whole = write_video(tmp_path / "whole.mp4", frames=12, fps=12, size=(64, 48)).read_bytes()
    found, path = whole.find(box), tmp_path / "false.mp4"
    assert found > 0
    for content in false_fields(whole, found + 8, found + 32):
        path.write_bytes(content)
        end_of(path, DECODE, None, None)
        end_of(path, DECODE, 2.5, 9.0)


@dataclass(frozen=True)
class Slow:
    """A prober to which every video has a frame in four seconds."""

    name: ClassVar[str] = "slow"

    def probe(self, path: Path) -> Media:
        return replace(PyAV().probe(path), fps=0.25)


def test_frames_that_last_longer_than_a_gap_have_none_between_them(tmp_path: Path) -> None:
    path = write_video(tmp_path / "slow.mkv", milliseconds=[0, 3000, 6000, 9000])
    stage = replace(DECODE, prober=Slow(), decoders=(PyAV(),), fewest_frames=1)
    results = decode(path, stage=stage, cut=Split(shortest_seconds=0.5, longest_seconds=20.0))
    assert [(result.span.start_seconds, result.span.end_seconds) for result in results] == [
        (0.0, 3.0),
        (3.0, 6.0),
        (6.0, 9.0),
        (9.0, 13.0),
    ]
    assert all(isinstance(result, Clip) for result in results)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "walk.mp4"
    path.write_bytes(b"never opened by this stage")
    return path


def cut(path: Path, start: float | None, end: float | None, stage: Split | None = None) -> CutVideo:
    (result,) = (stage or Split())(video(path, start=start, end=end))
    return result


@pytest.mark.parametrize(
    ("start", "end", "span"),
    [
        (None, None, None),
        (1.5, 4.0, Span(1.5, 4.0)),
        (4.4, 64.4, Span(4.4, 64.4)),  # 60 s, though the difference of the two floats is a little more
        (1.5, None, Span(1.5, math.inf)),
        (None, 4.0, Span(0.0, 4.0)),
        (0.0, None, Span(0.0, math.inf)),
        (0.0, 60.0, Span(0.0, 60.0)),
    ],
)
def test_a_rows_span_is_kept(path: Path, start: float | None, end: float | None, span: Span | None) -> None:
    assert cut(path, start, end).span == span


def test_the_rule_for_shots_goes_along(path: Path) -> None:
    rule = cut(path, None, None, Split(threshold=50.0, shortest_seconds=2.0, longest_seconds=8.0)).shots
    assert rule == ShotRule(threshold=50.0, shortest_seconds=2.0, longest_seconds=8.0)


@pytest.mark.parametrize(
    ("start", "end"),
    [(2.0, 2.0), (3.0, 2.0), (-1.0, 2.0), (None, 0.0), (None, -1.0), (math.nan, 2.0), (0.0, math.nan), (0.0, math.inf)],
)
def test_a_span_that_is_none_is_rejected(path: Path, start: float | None, end: float | None) -> None:
    with pytest.raises(Reject) as caught:
        cut(path, start, end)
    assert caught.value.reason == "bad_span"


def test_a_span_beyond_the_bound_is_rejected(path: Path) -> None:
    with pytest.raises(Reject) as caught:
        cut(path, 10.0, 75.0)
    assert caught.value.reason == "span_too_long"
    assert caught.value.detail == "65 s, at most 60: shorten the row's span or raise row_longest_seconds"


def test_bounds_that_contradict_each_other_are_an_error() -> None:
    with pytest.raises(ValueError, match="no longer than the longest"):
        Split(shortest_seconds=5.0, longest_seconds=4.0)


@pytest.mark.parametrize(
    "fields", [{"shortest_seconds": 0.0, "longest_seconds": 0.0}, {"row_longest_seconds": 0.0}, {"threshold": -1.0}]
)
def test_a_number_of_the_split_out_of_its_range_is_refused_by_name(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=list(fields)[-1]):
        Split(**fields)
