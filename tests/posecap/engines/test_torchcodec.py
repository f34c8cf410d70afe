from __future__ import annotations

import sys
from dataclasses import replace
from itertools import accumulate, cycle, islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from posecap.engines.pyav import PyAV
from posecap.engines.torchcodec import TorchCodec
from posecap.interfaces import DecoderGaveUpError
from posecap.stage import check_installed
from posecap.stages.decode import Decode
from posecap.types import Span
from tests.decoders import MEDIA as MP4
from tests.decoders import installed_or_skip, read
from tests.footage import damaged, numbers, truncated, write_video

SIZE = (160, 96)
MEDIA = replace(MP4, frame_count=60)


def test_accepts_containers_that_their_first_bytes_tell() -> None:
    assert TorchCodec().accepts(MEDIA)
    for container in ("mpegts", "mpeg", "h264", "mxf", ""):
        assert not TorchCodec().accepts(replace(MEDIA, container=container))
    assert not TorchCodec().accepts(replace(MEDIA, frame_count=0))
    assert not TorchCodec().accepts(replace(MEDIA, joins=(1.0,)))


@pytest.mark.parametrize("start", [0.0, 0.3, 1.0, 1.001, 2.9, 2.99])
def test_a_span_of_a_variable_rate_is_found_by_its_times(start: float, tmp_path: Path) -> None:
    """Frames of 20, 50 and 30 ms, 33 ms on average."""
    installed_or_skip(TorchCodec())
    times = list(accumulate(islice(cycle([20, 50, 30]), 89), initial=0))
    path = write_video(tmp_path / "variable.mp4", milliseconds=times, options={"bf": "0", "g": "30"})
    found = read(TorchCodec(), path, Span(start, 9.0))
    shown = numbers(found.frames_THW3)
    assert shown == [n for n in range(90) if times[n] >= start * 1000 - 1e-3]
    np.testing.assert_allclose(found.pts_T, [times[n] / 1000 for n in shown], atol=1e-6)


def test_the_frames_are_those_of_pyav(tmp_path: Path) -> None:
    """To a level of rounding, as the two may load different versions of FFmpeg; at the stored size, since they scale
    edges in different ways."""
    installed_or_skip(TorchCodec())
    path = write_video(tmp_path / "late.mkv", frames=40)
    one, other = (read(decoder, path).frames_THW3.astype(int) for decoder in (TorchCodec(), PyAV()))
    assert np.abs(one - other).max() <= 2


def test_gives_up_where_it_counts_other_frames_than_the_prober(tmp_path: Path) -> None:
    installed_or_skip(TorchCodec())
    path = write_video(tmp_path / "clip.mp4")
    with pytest.raises(DecoderGaveUpError, match="it counts 60 frames and the prober 61"):
        list(TorchCodec().frames(path, replace(PyAV().probe(path), frame_count=61), span=None, size=SIZE))


def test_gives_up_truncated_streams(tmp_path: Path) -> None:
    installed_or_skip(TorchCodec())
    path = write_video(tmp_path / "clip.mp4", muxing={"movflags": "faststart"})
    media = PyAV().probe(path)
    with pytest.raises(DecoderGaveUpError):
        list(TorchCodec().frames(truncated(path, 0.6), media, span=None, size=SIZE))


@pytest.mark.parametrize(("span", "sound"), [(None, False), (Span(0.0, 0.6), True), (Span(0.9, 1.2), False)])
def test_gives_up_damage_of_its_span(span: Span | None, sound: bool, tmp_path: Path) -> None:
    """x264 conceals it, and TorchCodec shows smeared frames. The packet 25 is in the frames 20 to 40."""
    installed_or_skip(TorchCodec())
    path = damaged(write_video(tmp_path / "clip.mp4", options={"bf": "0", "g": "20"}), 25)
    media = PyAV().probe(path)
    if sound:
        (block,) = TorchCodec().frames(path, media, span=span, size=SIZE)
        assert numbers(block.frames_THW3) == list(range(18))
    else:
        with pytest.raises(DecoderGaveUpError, match=r"damaged|cannot be read"):
            list(TorchCodec().frames(path, media, span=span, size=SIZE))


def test_without_its_package_a_pipeline_that_names_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'posecap\[torchcodec\]'"):
        check_installed([Decode(prober=PyAV(), decoders=(TorchCodec(), PyAV()))])


def test_without_ffmpeg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = ModuleType("torchcodec")
    empty.ffmpeg_major_version = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchcodec", empty)
    with pytest.raises(ModuleNotFoundError, match="apt install ffmpeg"):
        TorchCodec().load()


def test_says_which_ffmpeg_it_loads() -> None:
    """Its wheel brings none, and the version of the wheel says nothing of it."""
    (version,) = TorchCodec().libraries.values()
    assert version == "not found" or 4 <= int(version) <= 8


def test_a_number_out_of_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="block_frames is 0"):
        TorchCodec(block_frames=0)
