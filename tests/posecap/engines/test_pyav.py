from __future__ import annotations

from itertools import accumulate, cycle, islice
from pathlib import Path

import av
import numpy as np
import pytest

from posecap.engines.pyav import PyAV
from posecap.interfaces import Prober
from posecap.stage import PermanentError, Reject
from posecap.types import Media, Span
from tests import decoders
from tests.footage import damaged, numbers, real_video, truncated, write_sound, write_video

SIZE = (160, 96)


def read(path: Path, span: Span | None = None, engine: PyAV | None = None) -> tuple[list[int], np.ndarray]:
    frames = decoders.read(engine or PyAV(), path, span)
    return numbers(frames.frames_THW3), frames.pts_T


def refused(path: Path, engine: PyAV | None = None) -> Reject:
    with pytest.raises(Reject) as caught:
        (engine or PyAV()).probe(path)
    assert str(path.parent) not in str(caught.value)
    return caught.value


def test_probe_fits_the_port() -> None:
    assert isinstance(PyAV(), Prober)


def test_probe_says_what_the_container_says(tmp_path: Path) -> None:
    path = write_video(tmp_path / "walk.mp4", frames=50, fps=25, size=(160, 96))
    assert PyAV().probe(path) == Media(
        width=160,
        height=96,
        fps=25.0,
        codec="h264",
        rotation_degrees=0,
        seconds=2.0,
        container="mov,mp4,m4a,3gp,3g2,mj2",
        frame_count=50,
    )


@pytest.mark.parametrize(
    ("rotation", "clockwise", "shown"), [(-90, 90, (96, 160)), (90, 270, (96, 160)), (180, 180, SIZE)]
)
def test_probe_sees_rotation(tmp_path: Path, rotation: int, clockwise: int, shown: tuple[int, int]) -> None:
    media = PyAV().probe(write_video(tmp_path / "turned.mp4", frames=3, rotation=rotation))
    assert (media.rotation_degrees, (media.width, media.height)) == (clockwise, shown)


@pytest.mark.parametrize("flags", ["frag_keyframe", "frag_keyframe+empty_moov"])
def test_probe_counts_the_frames_of_all_fragments(tmp_path: Path, flags: str) -> None:
    path = write_video(tmp_path / "fragments.mp4", frames=50, fps=25, options={"g": "12"}, muxing={"movflags": flags})
    media = PyAV().probe(path)
    assert (media.frame_count, media.seconds) == (50, pytest.approx(2.0))
    assert read(path)[0] == list(range(50))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    assert refused(write_sound(tmp_path / "song.mp4")).reason == "no_video_stream"


@pytest.mark.parametrize(
    "content", [b"", b"<html><body>404</body></html>" * 50, bytes(5000)], ids=["empty", "page", "zeros"]
)
def test_what_is_no_video_is_undecodable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    assert refused(path).reason == "undecodable"


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    write_video(tmp_path / "part.ts", frames=30)
    playlist = tmp_path / "video.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npart.ts\n#EXT-X-ENDLIST\n")
    assert refused(playlist).reason == "undecodable"


def test_a_missing_file_is_no_verdict_on_the_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PyAV().probe(tmp_path / "gone.mp4")


def test_what_ffmpeg_does_not_permit_is_the_files_fault(tmp_path: Path) -> None:
    """Of an ASF stream of unknown kind FFmpeg says "operation not permitted", as of a file without permission."""
    path = write_video(tmp_path / "video.wmv", codec="wmv2", frames=3)
    kind_of_video = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")
    path.write_bytes(path.read_bytes().replace(kind_of_video, kind_of_video[::-1]))
    assert refused(path).reason == "undecodable"


def test_a_stream_that_takes_its_size_back_is_undecodable(tmp_path: Path) -> None:
    """VP8 states its size in every keyframe too, here 0 x 96."""
    path = write_video(tmp_path / "video.webm", codec="libvpx", frames=3, options={"deadline": "realtime"})
    start = bytes.fromhex("9d012a")
    path.write_bytes(path.read_bytes().replace(start + b"\xa0\0", start + b"\0\0"))
    assert refused(path).reason == "undecodable"


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = write_video(tmp_path / "wide.mp4", frames=2)
    drop = refused(path, PyAV(side_at_most=128))
    assert (drop.reason, drop.detail) == (
        "too_large",
        "160x96 pixels, at most 128 a side; shrink the video or raise side_at_most",
    )


def test_variable_frame_rate_keeps_every_frames_own_time(tmp_path: Path) -> None:
    times = list(accumulate(islice(cycle([20, 50, 30]), 59), initial=0))
    found, pts = read(write_video(tmp_path / "variable.mp4", milliseconds=times, options={"bf": "0"}))
    assert found == list(range(60))
    np.testing.assert_allclose(pts, np.array(times) / 1000, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("open_gop.mp4", "libx264", {"x264-params": "keyint=20:open-gop=1:bframes=8:b-adapt=0:b-pyramid=normal"}),
        ("late.ts", "libx264", {"g": "20"}),
        ("b_frames.mkv", "mpeg4", {"g": "12", "bf": "2"}),
        ("b_frames.avi", "mpeg4", {"g": "12", "bf": "2"}),
        ("reordered.avi", "libx264", {"x264-params": "keyint=20:bframes=3:b-adapt=0"}),
        ("flash.flv", "flv", {"g": "12"}),
        ("windows.asf", "wmv2", {"g": "12"}),
        ("b_frames.mpg", "mpeg2video", {"g": "12", "bf": "2"}),
        ("hevc.mp4", "libx265", {"x265-params": "log-level=none:keyint=20"}),
        ("vp9.webm", "libvpx-vp9", {"g": "20", "deadline": "realtime", "cpu-used": "8"}),
        ("raw.h264", "libx264", {"g": "20", "bf": "0"}),
    ],
)
def test_seeking_gives_what_reading_through_gives(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = write_video(tmp_path / name, frames=150, codec=codec, options=options)
    found, pts = read(path)
    assert found == list(range(150))
    assert 0 <= pts[0] < 0.034  # AVI only knows decode times, one frame behind
    for start, end in ((0.7, 1.9), (2.6, 2.7), (4.5, 9.0)):
        within, times = read(path, Span(start, end))
        inside = (pts >= start - 1e-6) & (pts < end - 1e-6)
        assert within == [n for n, wanted in zip(found, inside, strict=True) if wanted]
        np.testing.assert_allclose(times, pts[inside], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["whole.mp4", "whole.mkv", "whole.avi", "whole.ts"])
def test_a_span_behind_the_end_gives_nothing(tmp_path: Path, name: str) -> None:
    found, _ = read(write_video(tmp_path / name, options={"bf": "0"}), Span(50.0, 60.0))
    assert found == []


def test_shuffled_times_are_put_in_order(tmp_path: Path) -> None:
    # AVI stores decode times only, so frames that were reordered come with their neighbours' times.
    path = write_video(tmp_path / "b_frames.avi", codec="libx264", options={"x264-params": "bframes=3:b-adapt=0"})
    found, pts = read(path)
    assert found == list(range(60))
    assert np.all(np.diff(pts) > 0)
    np.testing.assert_allclose(np.diff(pts), 1 / 30, rtol=0, atol=1e-6)


def test_a_clock_that_starts_late_starts_at_zero(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mp4", milliseconds=[5000 + 40 * n for n in range(30)], options={"bf": "0"})
    found, pts = read(path)
    assert found == list(range(30))
    np.testing.assert_allclose(pts, np.arange(30) * 0.04, rtol=0, atol=1e-9)


def test_damage_costs_the_frames_up_to_the_next_keyframe(tmp_path: Path) -> None:
    path = write_video(tmp_path / "hurt.mp4", options={"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "0"})
    found, pts = read(damaged(path, 28))
    assert found == [*range(28), *range(40, 60)]
    np.testing.assert_allclose(pts, np.array(found) / 30, rtol=0, atol=1e-9)


def test_damage_is_told_by_its_times(tmp_path: Path) -> None:
    path = damaged(write_video(tmp_path / "hurt.mp4", options={"g": "20", "sc_threshold": "0", "bf": "0"}), 22)
    assert read(path)[0] == [*range(22), *range(40, 60)]
    (block,) = PyAV(block_frames=99).frames(path, PyAV().probe(path), span=None, size=SIZE)
    np.testing.assert_allclose(block.damaged, np.arange(22, 40) / 30, atol=1e-9)
    (block,) = PyAV().frames(path, PyAV().probe(path), span=Span(0.8, 1.2), size=SIZE)
    assert (len(block.pts_T), len(block.damaged)) == (0, 12)


def test_a_file_that_stops_is_read_to_where_it_stops(tmp_path: Path) -> None:
    path = write_video(tmp_path / "whole.mp4", options={"bf": "0"}, muxing={"movflags": "faststart"})
    found, _ = read(truncated(path, 0.8))
    assert found == list(range(len(found)))
    assert 10 < len(found) < 60


def test_a_stream_without_a_single_sound_frame_is_undecodable(tmp_path: Path) -> None:
    path = damaged(write_video(tmp_path / "hurt.mp4", frames=20, options={"bf": "0"}), *range(20))
    with pytest.raises(Reject, match="no usable frame"):
        read(path)


def test_pictures_that_change_their_size_all_get_the_wanted_one(tmp_path: Path) -> None:
    """Two raw streams, one after the other; both are scaled by what was set up for the first."""
    written = b""
    for width, height, grey in ((320, 240, 40), (640, 352, 200)):
        path = tmp_path / f"{grey}.m2v"
        with av.open(str(path), "w", format="mpeg2video") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.full((height, width, 3), grey, np.uint8), format="rgb24")
            container.mux([packet for frame in (picture, picture, None) for packet in stream.encode(frame)])
        written += path.read_bytes()
    (whole := tmp_path / "whole.m2v").write_bytes(written)
    (block,) = PyAV().frames(whole, PyAV().probe(whole), span=None, size=SIZE)
    assert block.frames_THW3.shape[1:] == (SIZE[1], SIZE[0], 3)
    np.testing.assert_allclose(block.frames_THW3[[0, -1]].mean((1, 2, 3)), [40, 200], atol=3)


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    found, pts = read(write_video(tmp_path / "one.mp4", frames=1))
    assert (found, pts.tolist()) == ([0], [0.0])


def test_a_block_that_takes_too_long_fails(tmp_path: Path) -> None:
    path = write_video(tmp_path / "slow.mp4", frames=10)
    with pytest.raises(PermanentError) as caught:
        read(path, engine=PyAV(seconds_per_block=1e-9))
    assert caught.value.reason == "decode_timeout"


@pytest.mark.data
def test_real_files_that_others_stumble_over() -> None:
    engine = PyAV()
    turned = engine.probe(real_video("hostile/video_90.mov"))
    assert (turned.width, turned.height, turned.rotation_degrees) == (320, 568, 90)
    for name, count in (("hostile/flipping_a_pancake.mkv", 310), ("hostile/unordered.mov", 4)):
        path = real_video(name)
        blocks = list(engine.frames(path, engine.probe(path), span=None, size=(80, 48)))
        pts = np.concatenate([b.pts_T for b in blocks])
        assert len(pts) == count
        assert np.all(np.diff(pts) > 0)
    # A tag that is no UTF-8, packed B frames, and times out of order, all in one.
    path = real_video("torchvision/RATRACE_wave_f_nm_np1_fr_goo_37.avi")
    assert sum(len(b.pts_T) for b in engine.frames(path, engine.probe(path), span=None, size=(80, 48))) == 72
    path = real_video("hostile/corrupted.mp4")
    (block,) = engine.frames(path, engine.probe(path), span=None, size=(80, 48))
    assert (len(block.pts_T), len(block.damaged), block.damaged[0]) == (29, 21, pytest.approx(2.9))


@pytest.mark.parametrize("name", ["side_at_most", "block_frames", "seconds_per_block"])
def test_a_number_out_of_its_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} (is )?-1"):
        PyAV(**{name: -1})
