from __future__ import annotations

import sys
from dataclasses import replace
from itertools import accumulate, cycle, islice
from pathlib import Path

import pytest

from posecap.engines.decord import Decord
from posecap.engines.pyav import PyAV
from posecap.interfaces import DecoderGaveUpError
from posecap.types import Span
from tests.decoders import MEDIA
from tests.footage import damaged, truncated, write_video


def gives_up(path: Path, span: Span | None = None) -> str:
    with pytest.raises(DecoderGaveUpError) as caught:
        list(Decord().frames(path, PyAV().probe(path), span=span, size=(160, 96)))
    return str(caught.value)


def test_accepts_only_what_it_is_known_to_read_right() -> None:
    assert Decord().accepts(MEDIA)
    for codec in ("vp9", "av1", "hevc", "mpeg2video", "h263"):
        assert not Decord().accepts(replace(MEDIA, codec=codec))
    for container in ("matroska,webm", "mpegts", "flv", ""):
        assert not Decord().accepts(replace(MEDIA, container=container))
    assert not Decord().accepts(replace(MEDIA, fps=0.0))


def test_accepts_nothing_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    Decord().load()
    assert not Decord().accepts(MEDIA)


def test_does_not_accept_more_frames_than_there_can_be() -> None:
    """Decord makes room for all of them at once, and the process ends where there is none."""
    assert Decord().accepts(replace(MEDIA, frame_count=60, seconds=None))
    assert not Decord().accepts(replace(MEDIA, frame_count=2**32 - 1))
    assert not Decord().accepts(replace(MEDIA, seconds=600_000.0))
    assert not Decord().accepts(replace(MEDIA, seconds=None))


@pytest.mark.parametrize("place", ["frames", "length"])
def test_gives_up_a_container_that_states_billions_of_frames(tmp_path: Path, place: str) -> None:
    """The prober counts 3, as the numbers cannot be right; Decord believes them, and ends the process."""
    path = write_video(tmp_path / "clip.avi", codec="mpeg4", frames=3)
    content = bytearray(path.read_bytes())
    header = content.index(b"strh") + 8  # of the stream: type, codec, 24 more bytes, length in frames
    content[header + 32 : header + 36] = b"\xff" * 4
    if place == "frames":
        main = content.index(b"avih") + 8
        content[main + 16 : main + 20] = b"\xff" * 4
    path.write_bytes(bytes(content))
    assert PyAV().probe(path).frame_count == 3
    assert gives_up(path) == "the container states more frames than there can be"


def test_gives_up_a_variable_frame_rate(tmp_path: Path) -> None:
    times = list(accumulate(islice(cycle([20, 50, 30]), 59), initial=0))
    path = write_video(tmp_path / "variable.mp4", milliseconds=times)
    assert gives_up(path) == "its frame times do not follow one constant rate"


def test_gives_up_avi_without_presentation_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "b_frames.avi", codec="mpeg4", options={"bf": "2"})
    assert gives_up(path) == "its frame times do not follow one constant rate"


def test_gives_up_a_span_that_needs_seeking(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", frames=120)
    assert gives_up(path, Span(3.0, 4.0)) == "the span begins too late to be reached without seeking"


def test_gives_up_a_span_after_which_much_would_have_to_be_looked_at(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", frames=120)
    assert gives_up(path, Span(0.0, 1.0)) == "too much of the video follows the span"


def test_gives_up_a_file_that_is_damaged_after_the_span(tmp_path: Path) -> None:
    """Decord would meet it, or not, as its threads happen to run."""
    path = write_video(tmp_path / "sound.mp4", options={"bf": "0", "g": "20"}, frames=60)
    for _ in range(5):
        assert gives_up(damaged(path, 50), Span(0.0, 1.0)) == "frames are damaged"


def test_gives_up_damaged_and_truncated_streams(tmp_path: Path) -> None:
    path = write_video(tmp_path / "sound.mp4", muxing={"movflags": "faststart"}, options={"bf": "0", "g": "20"})
    assert gives_up(damaged(path, 25, 26)) == "frames are damaged"
    with pytest.raises(DecoderGaveUpError):
        list(Decord().frames(truncated(path, 0.6), PyAV().probe(path), span=None, size=(160, 96)))


def test_gives_up_a_file_without_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "empty.avi", codec="msmpeg4", frames=3)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") - 5] + b"00dc")
    assert gives_up(path) == "the stream cannot be read"


def test_a_number_out_of_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="block_frames is 0"):
        Decord(block_frames=0)
    with pytest.raises(ValueError, match="reads_over_seconds -1"):
        Decord(reads_over_seconds=-1.0)
