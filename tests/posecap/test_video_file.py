"""Frames, sizes and times are those that a player shows, whatever the container and the codec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from posecap.engines.decord import Decord
from posecap.engines.pyav import PyAV
from posecap.engines.torchcodec import TorchCodec
from posecap.interfaces import DecoderGaveUpError, Frames
from posecap.stage import Reject
from posecap.stages.decode import Decode, Split
from posecap.types import Clip, CutVideo, Span
from posecap.video_file import Reading, opened
from tests.decoders import check_times, installed, read
from tests.footage import (
    Picture,
    damaged,
    filtered,
    numbers,
    overwritten,
    painted,
    remuxed,
    video,
    with_edits,
    write_field_pairs,
    write_interlaced,
    write_rough_video,
    write_streams,
    write_video,
)

DECODERS = (Decord(), PyAV())
DECODE = Decode(prober=PyAV(), decoders=DECODERS)
SIZE = (160, 96)
CODECS = {
    ".avi": "mpeg4",
    ".mpg": "mpeg2video",
    ".m2v": "mpeg2video",
    ".flv": "flv",
    ".asf": "wmv2",
    ".ogv": "libvpx",
    ".webm": "libvpx",
}
SOUNDS = {".mpg": "mp2", ".ogv": "libopus", ".webm": "libopus", ".asf": "libmp3lame"}
CONTAINERS = (".mp4", ".mov", ".mkv", ".ts", ".avi", ".mpg", ".flv", ".asf", ".ogv", ".webm")

every_container = pytest.mark.parametrize("suffix", CONTAINERS)


def codec(suffix: str) -> str:
    return CODECS.get(suffix, "libx264")


def cut_of(path: Path, start: float | None = None, end: float | None = None) -> CutVideo:
    (cut,) = Split(shortest_seconds=0.2)(video(path, start=start, end=end))
    return cut


def clips(path: Path, start: float | None = None, end: float | None = None) -> Sequence[Clip]:
    found = [found for found in DECODE(cut_of(path, start, end)) if isinstance(found, Clip)]
    for clip in found:
        check_times(path, clip.pts_T)
    return found


def agreeing(path: Path) -> dict[str, Frames]:
    """What each decoder gives that takes the file, by its name; they must give the same frames at the same times, all
    those that a player shows."""
    found, media = {}, PyAV().probe(path)
    for decoder in (*DECODERS, TorchCodec()):
        if installed(decoder) and decoder.accepts(media):
            try:
                found[decoder.name] = read(decoder, path)
            except DecoderGaveUpError:
                continue
    wanted = found["pyav"]
    for frames in found.values():
        assert numbers(frames.frames_THW3) == numbers(wanted.frames_THW3)
        np.testing.assert_allclose(frames.pts_T, wanted.pts_T, rtol=0, atol=1e-6)
    assert media.frame_count == len(wanted.pts_T) + len(wanted.damaged)
    return found


# Displayed geometry.


@pytest.mark.parametrize("shape", [Fraction(2), Fraction(1, 2), Fraction(16, 15)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi", ".mpg"])
def test_pixels_are_those_that_are_displayed(tmp_path: Path, suffix: str, shape: Fraction) -> None:
    picture = Picture(frames=5, shape=shape, codec=codec(suffix))
    if suffix == ".mpg":  # MPEG-2 states one of four shapes of the whole picture
        picture = Picture(frames=5, shape=Fraction(16, 15), size=(768, 576), codec="mpeg2video")
    path = write_streams(tmp_path / f"anamorphic{suffix}", picture)
    media = PyAV().probe(path)
    assert (media.width, media.height, Fraction(*media.sample_aspect_ratio)) == (*picture.size, picture.shape)
    for decoder in DECODERS:
        if decoder.accepts(media):
            frame = read(decoder, path, size=picture.size).frames_THW3[3]
            assert np.abs(frame.astype(int) - painted(3, 40, picture.size)).mean() < 6


def test_the_clip_says_so(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "wide.mp4", Picture(size=(640, 360), shape=Fraction(2)))
    (clip,) = clips(path, 0.0, 1.0)
    assert (clip.decoder, clip.media.width, clip.media.height, clip.frames_THW3.shape[1:3]) == (
        "decord",
        640,
        360,
        (288, 512),
    )
    assert clip.source_per_working == (1.25, 1.25)


@pytest.mark.parametrize("rotation", [-90, 90, 180])
def test_stretched_pictures_are_turned(tmp_path: Path, rotation: int) -> None:
    upright = write_streams(tmp_path / "upright.mp4", Picture(frames=3))
    path = write_streams(tmp_path / "turned.mp4", Picture(frames=3, shape=Fraction(2), rotation=rotation))
    media = PyAV().probe(path)
    size = SIZE if rotation == 180 else SIZE[::-1]
    assert (media.width, media.height) == size
    wanted = np.rot90(read(PyAV(), upright).frames_THW3[1], rotation // 90)
    for decoder in DECODERS:
        shown = read(decoder, path, size=size).frames_THW3[1]
        assert np.abs(shown.astype(int) - wanted).mean() < 6


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("said_by", ["container", "frames"])
def test_mirrored_pictures_are_mirrored(tmp_path: Path, rotation: int, said_by: str) -> None:
    """As selfie cameras write them. Degrees are counterclockwise. A container's picture is mirrored after it is turned,
    one by a message of H.264 (SEI) before."""
    upright = write_streams(tmp_path / "upright.mp4", Picture(frames=3))
    path = tmp_path / "mirrored.mp4"
    if said_by == "container":
        write_streams(path, Picture(frames=3, rotation=rotation, mirrored=True))
    else:
        words = f"display_orientation=insert:rotate={rotation}:flip=horizontal"
        filtered(upright, path, f"h264_metadata={words}")
    media = PyAV().probe(path)
    assert (media.mirrored, media.turned_by_frames) == (True, said_by == "frames")
    assert (media.width, media.height) == (SIZE[::-1] if rotation % 180 else SIZE)
    wanted = read(PyAV(), upright).frames_THW3[1]
    if said_by == "container":
        wanted = np.rot90(wanted, rotation // 90)[:, ::-1]
    else:
        wanted = np.rot90(wanted[:, ::-1], rotation // 90)
    shown = read(PyAV(), path, size=(media.width, media.height)).frames_THW3[1]
    assert np.abs(shown.astype(int) - wanted).mean() < 6
    assert list(agreeing(path)) == ["pyav"]


def test_pictures_that_are_cropped_at_the_left_are_so_to_the_pixel(tmp_path: Path) -> None:
    """FFmpeg crops no further there than keeps its memory aligned, unless it is asked to."""
    whole = write_streams(tmp_path / "whole.mp4", Picture(frames=3))
    path = filtered(whole, tmp_path / "cropped.mp4", "h264_metadata=crop_left=20:crop_right=30:crop_bottom=8")
    media = PyAV().probe(path)
    assert (media.width, media.height) == (110, 88)
    shown = read(PyAV(), path, size=(110, 88)).frames_THW3[1]
    assert np.abs(shown.astype(int) - read(PyAV(), whole).frames_THW3[1, :88, 20:130]).mean() < 3
    for decoder in (Decord(), TorchCodec()):
        if installed(decoder) and decoder.accepts(media):
            with pytest.raises(DecoderGaveUpError, match="cropped"):
                read(decoder, path)


def test_absurd_shapes_are_no_shapes(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "absurd.mkv", Picture(frames=2, size=(640, 96), shape=Fraction(20)))
    assert PyAV().probe(path).sample_aspect_ratio == (1, 1)
    wide = write_streams(tmp_path / "wide.mkv", Picture(frames=2, size=(640, 96), shape=Fraction(2)))
    with pytest.raises(Reject, match="too_large: displayed at 640x96 pixels, at most 600 a side"):
        PyAV(side_at_most=600).probe(wide)


# Which stream.


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("defaults", "wanted"), [((False, True), 1), ((True, False), 0), ((True, True), 0), ((False, False), 0)]
)
def test_the_stream_is_ffmpegs_best_one(tmp_path: Path, suffix: str, defaults: tuple[bool, bool], wanted: int) -> None:
    pictures = [Picture(size=(40, 24), default=defaults[0], offset=200), Picture(default=defaults[1])]
    if suffix == ".mp4" and defaults == (True, True):
        wanted = 1  # the one of more bits: this container says how many
    path = write_streams(tmp_path / f"two{suffix}", *pictures)
    media = PyAV().probe(path)
    assert (media.stream, media.video_streams) == (wanted, 2)
    assert (media.width, media.height) == pictures[wanted].size
    assert not Decord().accepts(media)
    (clip,) = clips(path, 0.0, 1.0)
    first = pictures[wanted].offset
    assert (clip.decoder, numbers(clip.frames_THW3)) == ("pyav", list(range(first, first + 30)))


def test_a_cover_is_no_video_though_it_comes_first_and_is_larger(tmp_path: Path) -> None:
    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 320, 240, "rgb24", Disposition.attached_pic
        film = container.add_stream("libx264", rate=30)
        film.width, film.height, film.pix_fmt = *SIZE, "yuv420p"
        image = av.VideoFrame.from_ndarray(painted(500, 40, (320, 240)), format="rgb24")
        image.pts = 0
        container.mux(cover.encode(image))
        for index in range(30):
            frame = av.VideoFrame.from_ndarray(painted(index, 40, SIZE), format="rgb24")
            frame.pts = index
            container.mux(film.encode(frame))
        container.mux(film.encode(None))
    media = PyAV().probe(path)
    assert (media.width, media.height, media.codec, media.video_streams) == (*SIZE, "h264", 1)
    (clip,) = clips(path, 0.0, 1.0)
    assert numbers(clip.frames_THW3) == list(range(30))


# The player's clock.


@every_container
def test_a_video_that_begins_after_the_sound_has_the_players_times(tmp_path: Path, suffix: str) -> None:
    path = write_streams(
        tmp_path / f"late{suffix}",
        Picture(frames=120, start=1.0, codec=codec(suffix), options={"g": "20"}),
        sound=(0.0, 5.0),
        codec=SOUNDS.get(suffix, "aac"),
    )
    found = read(PyAV(), path)
    assert numbers(found.frames_THW3) == list(range(120))
    late = found.pts_T - np.arange(120) / 30
    assert late[1:].min() > 0.95
    assert late[1:].max() < 1.07  # AVI only knows decode times; MPEG's sound begins a little before its picture
    agreeing(path)
    (clip,) = clips(path, 2.0, 3.0)
    inside = (found.pts_T >= 2.0 - 1e-6) & (found.pts_T < 3.0 - 1e-6)
    assert numbers(clip.frames_THW3) == np.flatnonzero(inside).tolist()
    if suffix in (".mp4", ".mov"):
        assert numbers(clip.frames_THW3) == list(range(30, 60))
        assert clip.decoder == "decord"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_a_sound_that_begins_later_changes_nothing(tmp_path: Path, suffix: str) -> None:
    path = write_streams(tmp_path / f"silent{suffix}", Picture(codec=codec(suffix)), sound=(1.0, 2.0))
    media = PyAV().probe(path)
    assert media.starts_seconds == 0
    np.testing.assert_allclose(agreeing(path)["pyav"].pts_T, np.arange(60) / 30, atol=0.034)


# Where a video ends.


@every_container
@pytest.mark.parametrize("sound", [(0.0, 4.0), (0.0, 1.0)])
def test_a_row_without_an_end_reaches_to_the_last_frame(
    tmp_path: Path, suffix: str, sound: tuple[float, float]
) -> None:
    path = write_streams(
        tmp_path / f"long{suffix}", Picture(codec=codec(suffix)), sound=sound, codec=SOUNDS.get(suffix, "aac")
    )
    media = PyAV().probe(path)
    assert media.seconds == pytest.approx(2.0, abs=0.07)
    (clip,) = clips(path, 0.5, None)
    assert clip.span.end_seconds == pytest.approx(2.0, abs=0.07)
    assert numbers(clip.frames_THW3)[-1] == 59


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mpg", ".flv"])
def test_a_clock_that_starts_late_or_early_counts_from_there(tmp_path: Path, suffix: str) -> None:
    path = write_streams(tmp_path / f"offset{suffix}", Picture(frames=30, start=90.0, codec=codec(suffix)))
    media = PyAV().probe(path)
    assert (media.starts_seconds, media.seconds) == (0.0, pytest.approx(1.0, abs=0.04))
    np.testing.assert_allclose(read(PyAV(), path).pts_T, np.arange(30) / 30, atol=1e-3)


def test_a_matroska_file_that_is_cut_off_promises_what_it_says(tmp_path: Path) -> None:
    whole = write_streams(tmp_path / "whole.mkv", Picture(frames=120, options={"g": "10"}), sound=(0.0, 4.0))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    assert PyAV().probe(cut).seconds == pytest.approx(4.0, abs=0.04)


# Seeking in files without an index.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("closed.ts", {"g": "30", "bf": "2"}),
        ("open.ts", {"x264-params": "keyint=30:open-gop=1:bframes=3:b-adapt=0"}),
        ("vp8.ogv", {"g": "20"}),
        ("mpeg2.mpg", {"g": "15", "bf": "2"}),
        ("mpeg2.m2v", {"g": "15", "bf": "2"}),
        ("wmv2.asf", {"g": "20"}),
    ],
)
def test_a_late_span_is_reached_without_decoding_what_comes_before(
    tmp_path: Path, name: str, options: dict[str, str]
) -> None:
    picture = Picture(frames=450, codec=codec(Path(name).suffix), options=options)
    path = write_streams(tmp_path / name, picture)
    through = read(PyAV(), path)
    for start, end in ((14.0, 14.2), (7.51, 7.6), (3.0, 3.1)):
        inside = (through.pts_T >= start - 1e-6) & (through.pts_T < end - 1e-6)
        found = read(PyAV(), path, Span(start, end))
        assert numbers(found.frames_THW3) == np.flatnonzero(inside).tolist()
        np.testing.assert_array_equal(found.pts_T, through.pts_T[inside])
        assert np.array_equal(found.frames_THW3, through.frames_THW3[inside])
    with opened(path, side_at_most=8192) as file:
        reading = Reading(file, side_at_most=8192, seconds_per_block=60.0)
        assert next(iter(reading.since(14.0)))[0] > 12.0


# Two recordings in one file.


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
@pytest.mark.parametrize("second", [0.0, 3000.0])
def test_the_clock_goes_on_over_a_join(tmp_path: Path, suffix: str, second: float) -> None:
    first = write_streams(tmp_path / f"1{suffix}", Picture(frames=90, codec=codec(suffix), options={"g": "30"}))
    other = Picture(frames=110, codec=codec(suffix), offset=200, start=second, options={"g": "30"})
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(first.read_bytes() + write_streams(tmp_path / f"2{suffix}", other).read_bytes())
    media, found = PyAV().probe(path), read(PyAV(), path)
    assert numbers(found.frames_THW3) == [*range(90), *range(200, 310)]
    np.testing.assert_allclose(np.diff(found.pts_T), 1 / 30, atol=2e-3)
    assert media.joins == pytest.approx((3.0,), abs=0.04)
    assert media.seconds == pytest.approx(200 / 30, abs=0.04)
    shots = clips(path)
    assert [numbers(clip.frames_THW3) for clip in shots] == [list(range(90)), list(range(200, 310))]
    (late,) = clips(path, 5.0, 6.0)
    assert numbers(late.frames_THW3) == numbers(found.frames_THW3)[150:180]


def test_a_span_that_is_sought_has_the_frames_before_a_join_too(tmp_path: Path) -> None:
    """FFmpeg calls them damaged, as the numbering of packets breaks off there."""
    parts = [write_streams(tmp_path / f"{n}.ts", Picture(frames=90, offset=90 * n)) for n in range(3)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    through = read(PyAV(), path)
    assert numbers(through.frames_THW3) == list(range(270))
    found = read(PyAV(), path, Span(4.5, 6.5))
    assert numbers(found.frames_THW3) == list(range(135, 195))


def test_joined_matroska_files_lose_no_frame(tmp_path: Path) -> None:
    """Their frames are shown later than their decoding times say: a clock that went on from those would put the first
    frames of the second file among the last of the first."""
    options = {"x264-params": "keyint=30:bframes=3:b-adapt=0"}
    parts = [write_streams(tmp_path / f"{n}.mkv", Picture(offset=60 * n, options=options)) for n in range(2)]
    path = tmp_path / "joined.mkv"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert numbers(read(PyAV(), path).frames_THW3) == list(range(120))
    assert PyAV().probe(path).joins == pytest.approx((2.0,), abs=0.01)


# Edit lists, and what containers say of their own length.


def test_an_edit_list_leaves_frames_out(tmp_path: Path) -> None:
    """Two edits; with B frames, the decoding times of the second begin before those of the first one's last frames."""
    options = {"x264-params": "keyint=30:bframes=3:b-adapt=0"}
    whole = write_streams(tmp_path / "whole.mp4", Picture(frames=120, options=options))
    delay, tick = 1024, 512  # two frames, which the first edit of the file leaves out of its decoding times
    edits = [(1000, delay + 15 * tick), (1000, delay + 60 * tick)]
    path = with_edits(whole, tmp_path / "edited.mp4", edits)
    media = PyAV().probe(path)
    assert (media.frame_count, media.seconds, media.joins) == (60, pytest.approx(2.0), ())
    shown = agreeing(path)["pyav"]
    assert numbers(shown.frames_THW3) == [*range(15, 45), *range(60, 90)]
    (clip,) = clips(path, 1.2, 1.6)
    assert set(numbers(clip.frames_THW3)) <= set(range(60, 90))


def test_a_pause_before_the_only_stream_is_not_shown(tmp_path: Path) -> None:
    """An empty edit, which counts in the length that FFmpeg states."""
    whole = write_streams(tmp_path / "whole.mp4", Picture(frames=120, options={"bf": "0", "g": "10"}))
    path = with_edits(whole, tmp_path / "edited.mp4", [(500, -1), (1000, 15 * 512), (1000, 60 * 512)])
    assert PyAV().probe(path).seconds == pytest.approx(2.0)
    assert numbers(agreeing(path)["pyav"].frames_THW3) == [*range(15, 45), *range(60, 90)]
    (clip,) = clips(path, 1.5, None)
    assert numbers(clip.frames_THW3) == list(range(75, 90))
    assert clip.span.end_seconds == pytest.approx(2.0)


@pytest.mark.parametrize(("place", "length"), [(b"mdhd", 100), (b"mdhd", 10**7)])
def test_an_mp4_that_states_a_false_length_ends_with_its_last_frame(tmp_path: Path, place: bytes, length: int) -> None:
    path = write_streams(tmp_path / "clip.mp4", Picture(frames=90))
    content = bytearray(path.read_bytes())
    at = content.index(place) + 20
    content[at : at + 4] = length.to_bytes(4, "big")
    path.write_bytes(content)
    assert PyAV().probe(path).seconds == pytest.approx(3.0)
    (clip,) = clips(path, 1.0, 2.0)
    assert numbers(clip.frames_THW3) == list(range(30, 60))


@pytest.mark.parametrize("length", [30, 120])
def test_an_avi_that_states_a_false_number_of_frames_has_those_that_are_there(tmp_path: Path, length: int) -> None:
    path = write_streams(tmp_path / "clip.avi", Picture(frames=90, codec="mpeg4"))
    content = bytearray(path.read_bytes())
    for at in (content.index(b"avih") + 24, content.index(b"strh") + 40):
        content[at : at + 4] = length.to_bytes(4, "little")
    path.write_bytes(content)
    media = PyAV().probe(path)
    assert (media.frame_count, media.fps) == (90, 30)
    (clip,) = clips(path, 1.5, 2.5)
    assert numbers(clip.frames_THW3) == list(range(45, 75))
    agreeing(path)


def test_joined_avi_files_have_the_frames_of_both(tmp_path: Path) -> None:
    """FFmpeg reads on behind the first one, which states its own length alone."""
    parts = [write_streams(tmp_path / f"{n}.avi", Picture(offset=60 * n, codec="mpeg4")) for n in range(2)]
    path = tmp_path / "joined.avi"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    media = PyAV().probe(path)
    assert (media.frame_count, media.seconds) == (120, pytest.approx(4.0))
    (clip,) = clips(path, 2.5, 3.5)
    assert numbers(clip.frames_THW3) == list(range(75, 105))


def test_an_avi_that_leaves_frames_out_has_the_rate_of_those_it_has(tmp_path: Path) -> None:
    times = [40 * n for n in range(0, 60, 2)]
    path = write_video(tmp_path / "every_second.avi", codec="mpeg4", milliseconds=times, fps=25)
    media = PyAV().probe(path)
    assert (media.frame_count, media.fps) == (30, pytest.approx(12.5))
    shown = agreeing(path)["pyav"]
    np.testing.assert_allclose(shown.pts_T, np.array(times) / 1000, atol=1e-6)


@pytest.mark.parametrize(("name", "codec_name"), [("bare.h264", "libx264"), ("bare.hevc", "libx265")])
def test_a_bare_stream_has_the_rate_that_it_states(tmp_path: Path, name: str, codec_name: str) -> None:
    quiet = {"x265-params": "log-level=none"} if codec_name == "libx265" else {}
    path = write_video(tmp_path / name, codec=codec_name, fps=50, options=quiet)
    assert PyAV().probe(path).fps == 50
    np.testing.assert_allclose(read(PyAV(), path).pts_T, np.arange(60) / 50, atol=1e-9)


def test_frames_of_one_time_are_both_kept(tmp_path: Path) -> None:
    """The second half way to the next one."""
    path = tmp_path / "equal.mkv"
    with (
        av.open(str(write_video(tmp_path / "source.mp4", options={"bf": "0"}))) as source,
        av.open(str(path), "w") as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.stream = stream
                packet.pts = packet.dts = 512 * (number - (number == 25))
                out.mux(packet)
    found = read(PyAV(), path)
    assert numbers(found.frames_THW3) == list(range(60))
    np.testing.assert_allclose(found.pts_T[24:27], [0.8, 0.8335, 0.867], atol=1e-3)


def test_a_hidden_frame_is_no_frame(tmp_path: Path) -> None:
    """VP8's "alternate reference": here a frame that is marked as not to be shown."""
    path = write_video(tmp_path / "hidden.webm", codec="libvpx", options={"deadline": "realtime", "g": "20"})
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][25]
    at = content.index(bytes(packet))
    content[at] &= ~0x10
    path.write_bytes(content)
    media, found = PyAV().probe(path), read(PyAV(), path)
    assert numbers(found.frames_THW3) == [*range(25), *range(26, 60)]
    assert (media.frame_count, found.damaged) == (59, ())


def test_a_slow_video_has_its_own_times(tmp_path: Path) -> None:
    """Its B frames are shown tens of seconds after they are decoded, which is no restart of its clock."""
    path = write_video(tmp_path / "slow.ts", frames=12, fps=Fraction(1, 10))
    found = read(PyAV(), path)
    assert numbers(found.frames_THW3) == list(range(12))
    np.testing.assert_allclose(found.pts_T, 10 * np.arange(12), atol=1e-3)
    assert PyAV().probe(path).fps == pytest.approx(0.1)


# Rates.


RATES = {"vfr.mkv": {}, "vfr.mp4": {}, "vfr.ts": {}, "vfr.webm": {"codec": "libvpx"}, "vfr.flv": {"codec": "flv"}}


@pytest.mark.parametrize("name", RATES)
def test_a_variable_rate_is_its_average_and_keeps_every_frame(tmp_path: Path, name: str) -> None:
    steps = [12, 80, 30, 41] * 30  # milliseconds: 24.5 a second on average, a quarter of them under 15 ms
    times = [0, *np.cumsum(steps).tolist()][:120]
    path = write_video(tmp_path / name, milliseconds=times, options={"bf": "0"}, **RATES[name])
    media = PyAV().probe(path)
    assert media.fps == pytest.approx(119_000 / times[-1], rel=0.02)
    (clip,) = clips(path, 0.0, times[-1] / 1000 + 0.01)
    assert numbers(clip.frames_THW3) == list(range(120))
    np.testing.assert_allclose(clip.pts_T, np.array(times) / 1000, atol=1.1e-3)
    assert math.isfinite(clip.span.end_seconds)


@pytest.mark.parametrize("number", [0, 5, 19])
def test_a_time_that_no_video_reaches_is_none(number: int, tmp_path: Path) -> None:
    """Of an IVF, which has a time in 64 bits before each frame: one of them is damaged, the frames are not."""
    path = write_video(tmp_path / "clip.ivf", codec="libvpx", frames=20, options={"deadline": "realtime", "g": "5"})
    content = bytearray(path.read_bytes())
    place = 32
    for _ in range(number):
        place += 12 + int.from_bytes(content[place : place + 4], "little")
    content[place + 4 : place + 12] = (2**62).to_bytes(8, "little")
    path.write_bytes(bytes(content))
    media = PyAV().probe(path)
    assert (media.joins, media.seconds is None or media.seconds < 2) == ((), True)
    found = read(PyAV(), path)
    assert (np.diff(found.pts_T) > 0).all()
    assert found.pts_T[-1] < 1
    assert len(found.pts_T) >= (1 if number == 0 else 19)


# Damage.


KINDS_OF_DAMAGE = {
    "h264.mp4": {"options": {"x264-params": "keyint=30:bframes=3:b-adapt=0"}},
    "open_gop.mkv": {"options": {"x264-params": "keyint=30:bframes=3:open-gop=1:b-adapt=0"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "30"}},
    "b_frames.mp4": {"codec": "mpeg4", "options": {"g": "30", "bf": "2"}},
    "mpeg2.mkv": {"codec": "mpeg2video", "options": {"g": "30", "bf": "2"}},
}


@pytest.mark.parametrize("filler", [b"\x55", b"\xff"], ids=["55", "ff"])
@pytest.mark.parametrize("name", KINDS_OF_DAMAGE)
def test_spoilt_frames_are_left_out_by_every_decoder_and_counted(tmp_path: Path, name: str, filler: bytes) -> None:
    """The middle of a packet is overwritten; the picture is rough, so that a packet has a few thousand bytes."""
    path = write_rough_video(tmp_path / name, frames=90, **KINDS_OF_DAMAGE[name])
    sound = read(PyAV(), path)
    hurt = overwritten(path, packet=33, content=filler * 2000)
    media = PyAV().probe(hurt)
    blocks = list(PyAV().frames(hurt, media, span=None, size=SIZE))
    pts = np.concatenate([block.pts_T for block in blocks])
    shown = np.concatenate([block.frames_THW3 for block in blocks])
    lost = sorted(time for block in blocks for time in block.damaged)
    at = np.abs(sound.pts_T[:, None] - pts).argmin(axis=0)
    assert np.abs(shown.astype(int) - sound.frames_THW3[at]).mean(axis=(1, 2, 3)).max() < 1
    assert 1 <= len(lost) <= 30
    np.testing.assert_allclose(sorted((*pts, *lost)), sound.pts_T, atol=2e-3)
    if Decord().accepts(media):
        with pytest.raises(DecoderGaveUpError, match="damaged"):
            list(Decord().frames(hurt, media, span=None, size=SIZE))
    (clip,) = clips(hurt, 0.0, 1.0)
    assert clip.damaged_frames == 0
    (clip,) = (found for found in replace(DECODE, most_damaged=0.5)(cut_of(hurt, 0.0, 3.0)) if isinstance(found, Clip))
    assert (clip.decoder, clip.damaged_frames) == ("pyav", len(lost))


def test_frames_that_are_shown_before_a_damaged_one_but_made_from_it_are_left_out(tmp_path: Path) -> None:
    path = write_rough_video(tmp_path / "b.mp4", frames=60, options={"x264-params": "keyint=60:bframes=3:b-adapt=0"})
    hurt = overwritten(path, packet=17, content=b"\x55" * 2000)  # 1 + 4 * 4: a P frame, with its B frames after it
    found = read(PyAV(), hurt)
    assert round(found.pts_T[-1] * 30) == 16


# Interlaced frames.


INTERLACED = {
    "mpeg2_tff.mpg": ("mpeg2video", {"flags": "+ildct+ilme"}, "tff"),
    "mpeg2_bff.ts": ("mpeg2video", {"flags": "+ildct+ilme"}, "bff"),
    "mbaff_tff.mp4": ("libx264", {"x264-params": "tff=1"}, "tff"),
    "mbaff_bff.mkv": ("libx264", {"x264-params": "bff=1"}, "bff"),
    "fields.mov": ("prores_ks", {"flags": "+ildct"}, "tff"),
}


@pytest.mark.parametrize("name", INTERLACED)
def test_of_interlaced_frames_the_field_shown_first_is_given(tmp_path: Path, name: str) -> None:
    """A bar moves by 8 pixels with every field; only half of its lines would be at its place in a combed frame."""
    codec_name, options, order = INTERLACED[name]
    path = write_interlaced(tmp_path / name, codec=codec_name, options=options, order=order)
    media = PyAV().probe(path)
    assert media.interlaced
    assert not Decord().accepts(media)
    (block,) = PyAV().frames(path, media, span=None, size=(320, 240))
    assert block.deinterlaced_T is not None
    assert block.deinterlaced_T.all()
    for index, frame in enumerate(block.frames_THW3[2:8], start=2):
        bright = frame[60:180, :, 0] > 128
        np.testing.assert_allclose(np.argmax(bright, axis=1), 16 * index, atol=2)
        np.testing.assert_allclose(bright.sum(axis=1), 40, atol=3)
    (clip,) = clips(path, 0.0, 0.3)
    assert (clip.decoder, clip.deinterlaced_frames) == ("pyav", clip.frame_count)


@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize("suffix", [".h264", ".ts", ".mkv"])
def test_of_fields_that_are_coded_alone_the_first_is_given(tmp_path: Path, suffix: str, order: str) -> None:
    """Each is a packet of its own, two of which are a frame."""
    bare = write_field_pairs(tmp_path / "pairs.h264", frames=30, order=order)
    path = bare if suffix == ".h264" else remuxed(bare, tmp_path / f"pairs{suffix}", packets_per_second=50)
    media, found = PyAV().probe(path), read(PyAV(), path)
    assert (media.interlaced, media.frame_count, media.fps) == (True, 30, pytest.approx(25, abs=0.02))
    assert numbers(found.frames_THW3) == list(range(30))
    np.testing.assert_allclose(found.pts_T, np.arange(30) / 25, atol=1.1e-3)
    assert found.deinterlaced_T is not None
    assert found.deinterlaced_T.all()
    assert found.damaged == ()


@pytest.mark.parametrize("name", ["mbaff_tff.mp4", "fields.mov"])
def test_damage_does_not_make_whole_frames_fields(tmp_path: Path, name: str) -> None:
    codec_name, options, order = INTERLACED[name]
    path = write_interlaced(tmp_path / name, codec=codec_name, options=options, order=order)
    for packet in range(1, 6):
        media = PyAV().probe(damaged(path, packet))
        assert (media.frame_count, media.fps) == (10, 25.0)


def test_damage_does_not_make_fields_whole_frames(tmp_path: Path) -> None:
    path = write_field_pairs(tmp_path / "pairs.h264", frames=30, order="tff")
    for packet in (2, 3):
        media = PyAV().probe(damaged(path, packet))
        assert (media.interlaced, media.fps) == (True, pytest.approx(25, abs=1))


def test_a_progressive_video_is_left_alone(tmp_path: Path) -> None:
    path = write_video(tmp_path / "plain.mp4", frames=20)
    assert not PyAV().probe(path).interlaced
    (block,) = PyAV().frames(path, PyAV().probe(path), span=None, size=SIZE)
    assert block.deinterlaced_T is None
    assert block.damaged == ()
