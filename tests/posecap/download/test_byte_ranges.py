"""Stretches of remote videos: the same frames as the whole, few bytes read, troubles passed on."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from posecap.download.byte_ranges import RangeFile, remux_span
from posecap.engines.pyav import PyAV
from posecap.stage import Reject, TransientError
from posecap.types import Span
from tests import footage

SIZE = (160, 96)
LAYOUTS = {
    "progressive.mp4": ("libx264", {"bf": "3", "g": "30"}, {"movflags": "+faststart"}),
    "fragmented.mp4": ("libx264", {"bf": "3", "g": "30"}, {"movflags": "+dash+global_sidx+frag_keyframe+empty_moov"}),
    "open_gop.mp4": ("libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=30:min-keyint=30:scenecut=0"}, {}),
    "vp9.webm": ("libvpx-vp9", {"g": "30", "deadline": "realtime", "cpu-used": "8"}, {"cues_to_front": "1"}),
}


class Remote:
    """A file in memory that remembers what was asked of it."""

    def __init__(self, body: bytes) -> None:
        self.body, self.asked = body, 0

    def __call__(self, first: int, last: int) -> tuple[bytes, int]:
        part = self.body[first : last + 1]
        self.asked += len(part)
        return part, len(self.body)


def opened(ask: Callable[[int, int], tuple[bytes, int]], *, limit: int = 1 << 30, block: int = 4096) -> RangeFile:
    return RangeFile(ask, size_limit=limit, name="it", block_bytes=block)


def decoded(path: Path, span: Span | None) -> tuple[np.ndarray, np.ndarray]:
    pyav = PyAV()
    blocks = list(pyav.frames(path, pyav.probe(path), span=span, size=SIZE))
    return np.concatenate([b.frames_THW3 for b in blocks]), np.concatenate([b.pts_T for b in blocks])


@pytest.fixture(scope="module", params=LAYOUTS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds, a keyframe every second."""
    codec, options, muxing = LAYOUTS[request.param]
    path = tmp_path_factory.mktemp("whole") / request.param
    return footage.write_video(path, frames=300, size=SIZE, codec=codec, options=options, muxing=muxing)


@pytest.mark.parametrize(
    ("start", "end", "margin", "begins"),
    [(0.0, 1.0, 0.5, 0.0), (4.0, 5.0, 0.0, 4.0), (5.51, 6.7, 0.6, 4.0), (2.95, 3.05, 0.0, 2.0), (9.5, 99.0, 1.0, 8.0)],
)
def test_a_stretch_decodes_to_the_same_frames_at_the_same_times(
    whole: Path, tmp_path: Path, start: float, end: float, margin: float, begins: float
) -> None:
    stretch = tmp_path / "stretch.mp4"
    with stretch.open("wb") as out:
        remote = opened(Remote(whole.read_bytes()))
        container = whole.suffix[1:]
        found = remux_span(remote, out, span=Span(start, end), margin_seconds=margin, container=container)
    assert found == begins
    wanted, wanted_pts = decoded(whole, Span(start, end))
    got, got_pts = decoded(stretch, Span(start - begins, end - begins))
    assert len(wanted) > 2
    assert np.array_equal(got, wanted)
    np.testing.assert_allclose(got_pts + begins, wanted_pts, rtol=0, atol=1e-9)
    assert footage.numbers(got)[0] == round(wanted_pts[0] * 30)


def noise(path: Path, muxing: dict[str, str]) -> Path:
    """Ten seconds of pictures that do not compress, a keyframe every second."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream("mpeg4", rate=25, options={"g": "25", "sc_threshold": "1000000000"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *SIZE, "yuv420p", 8_000_000
        for _ in range(250):
            picture = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("flags", ["+faststart", "+dash+global_sidx+frag_keyframe+empty_moov"])
def test_only_the_bytes_around_the_span_are_read(tmp_path: Path, flags: str) -> None:
    remote = Remote(noise(tmp_path / "long.mp4", {"movflags": flags}).read_bytes())
    file, out = opened(remote, block=1 << 14), io.BytesIO()
    assert remux_span(file, out, span=Span(8.1, 8.9), margin_seconds=0.0, container="mp4") == 8.0
    assert len(remote.body) > 1_000_000
    assert len(out.getvalue()) < remote.asked < 0.25 * len(remote.body)


def test_a_stretch_before_the_first_keyframe_begins_there(tmp_path: Path) -> None:
    whole = footage.write_video(tmp_path / "whole.mp4", frames=90, size=SIZE, options={"g": "30", "bf": "0"})
    late = tmp_path / "late.mp4"
    with av.open(whole) as source, av.open(late, "w") as sink:
        stream = source.streams.video[0]
        copied = sink.add_stream_from_template(stream)
        for packet in list(source.demux(stream))[10:-1]:
            packet.stream = copied
            sink.mux_one(packet)

    def begins(start: float, end: float) -> float:
        remote = opened(Remote(late.read_bytes()))
        return remux_span(remote, io.BytesIO(), span=Span(start, end), margin_seconds=0.0, container="mp4")

    first = (30 - 10) / 30
    assert begins(0.0, 1.5) == pytest.approx(first)
    assert begins(first, 1.5) == pytest.approx(first)
    with pytest.raises(Reject, match="span_outside_video"):
        begins(0.0, 0.5)


def test_the_same_stretch_has_the_same_bytes(whole: Path) -> None:
    outs = [io.BytesIO(), io.BytesIO()]
    for out in outs:
        remote = opened(Remote(whole.read_bytes()))
        remux_span(remote, out, span=Span(3.0, 4.0), margin_seconds=1.0, container=whole.suffix[1:])
    assert outs[0].getvalue() == outs[1].getvalue()
    assert b"Lavf" not in outs[0].getvalue()


def test_a_rotation_is_kept(tmp_path: Path) -> None:
    path = footage.write_video(tmp_path / "turned.mp4", frames=90, size=SIZE, rotation=90, options={"g": "30"})
    stretch = tmp_path / "stretch.mp4"
    with stretch.open("wb") as out:
        remote = opened(Remote(path.read_bytes()))
        remux_span(remote, out, span=Span(1.0, 2.0), margin_seconds=0.0, container="mp4")
    assert PyAV().probe(stretch).rotation_degrees == PyAV().probe(path).rotation_degrees == 270


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    for body, reason in ((b"<!doctype html>" * 9000, "undecodable"), (b"#EXTM3U\n/etc/passwd\n", "undecodable")):
        with pytest.raises(Reject) as caught:
            remux_span(opened(Remote(body)), io.BytesIO(), span=Span(0, 1), margin_seconds=0, container="mp4")
        assert caught.value.reason == reason
    sound = footage.write_sound(tmp_path / "sound.mp4").read_bytes()
    with pytest.raises(Reject, match="no_video_stream"):
        remux_span(opened(Remote(sound)), io.BytesIO(), span=Span(0, 1), margin_seconds=0, container="mp4")


def test_what_an_mp4_cannot_hold_is_refused(tmp_path: Path) -> None:
    raw = footage.write_video(tmp_path / "raw.mov", frames=30, size=SIZE, codec="qtrle", pixels="rgb24").read_bytes()
    with pytest.raises(Reject, match="undecodable"):
        remux_span(opened(Remote(raw)), io.BytesIO(), span=Span(0, 1), margin_seconds=0, container="mp4")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_refused_or_kept(whole: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    body = bytearray(whole.read_bytes())
    head = rng.integers(0, 2)  # damage the tables in front, or anything
    for place in rng.integers(0, 4000 if head else len(body), 30):
        body[place] = rng.integers(0, 256)
    with contextlib.suppress(Reject):
        span = Span(3.0, 4.0)
        remux_span(opened(Remote(bytes(body))), io.BytesIO(), span=span, margin_seconds=0, container=whole.suffix[1:])


def test_troubles_of_reading_are_raised_not_taken_for_the_end(whole: Path) -> None:
    remote = Remote(whole.read_bytes())
    for allowed in range(0, len(remote.body) - 4096, len(remote.body) // 4):
        remote.asked = 0

        def ask(first: int, last: int, allowed: int = allowed) -> tuple[bytes, int]:
            if remote.asked > allowed:
                raise TransientError("connection", "cut")
            return remote(first, last)

        file, container = opened(ask), whole.suffix[1:]
        with pytest.raises(TransientError, match="cut"):
            remux_span(file, io.BytesIO(), span=Span(0.0, 99.0), margin_seconds=0, container=container)


def test_reads_like_a_file() -> None:
    body = bytes(range(256)) * 100
    remote, file = opened(Remote(body), block=1000), io.BytesIO(body)
    for offset, whence, size in ((0, 0, 10), (995, 0, 10), (-5, 2, 10), (3, 1, 1), (24_990, 0, -1), (99_999, 0, 5)):
        assert remote.seek(offset, whence) == file.seek(offset, whence)
        assert remote.read(size) == file.read(size)
        assert remote.tell() == file.tell()
    assert remote.size == len(body)


def test_the_limit_counts_every_byte_fetched() -> None:
    body = bytes(10_000)
    assert len(opened(Remote(body), limit=10_000).read()) == 10_000
    with pytest.raises(Reject) as caught:
        opened(Remote(body), limit=9_999).read()
    assert caught.value.reason == "too_large"


def test_a_file_that_changes_or_comes_short_is_tried_again_later() -> None:
    sizes = iter((10_000, 9_000))
    with pytest.raises(TransientError, match="changed"):
        opened(lambda first, last: (bytes(last + 1 - first), next(sizes))).read()
    with pytest.raises(TransientError, match="truncated"):
        opened(lambda first, last: (bytes(7), 10_000)).read()
