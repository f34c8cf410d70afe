"""What every decoder must do with a file that it accepts."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from posecap.engines.decord import Decord
from posecap.engines.pyav import PyAV
from posecap.engines.torchcodec import TorchCodec
from posecap.interfaces import Decoder, DecoderGaveUpError
from posecap.types import Span
from tests.decoders import installed_or_skip, read
from tests.footage import numbers, real_video, write_video

DECODERS = [Decord(), PyAV(), TorchCodec()]
SIZE = (160, 96)
CLOSED = {"x264-params": "keyint=20:bframes=3:b-adapt=0"}
OPEN = {"x264-params": "keyint=20:open-gop=1:bframes=8:b-adapt=0:b-pyramid=normal"}
KINDS = {
    "h264.mp4": {"options": CLOSED},
    "open_gop.mp4": {"options": OPEN},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "12"}},
    "b_frames.mp4": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "msmpeg4.avi": {"codec": "msmpeg4"},
    "mjpeg.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
}

each_decoder = pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    if "decoder" in request.fixturenames:
        installed_or_skip(request.getfixturevalue("decoder"))


@pytest.fixture(scope="module", params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("footage") / request.param, frames=90, size=SIZE, **KINDS[request.param])


@each_decoder
def test_fits_the_port(decoder: Decoder) -> None:
    assert isinstance(decoder, Decoder)


@each_decoder
def test_gives_every_frame_once_in_order_at_its_time(decoder: Decoder, path: Path) -> None:
    frames = read(decoder, path)
    assert numbers(frames.frames_THW3) == list(range(90))
    np.testing.assert_allclose(frames.pts_T, np.arange(90) / 30, rtol=0, atol=1e-9)
    assert frames.frames_THW3.dtype == np.uint8
    assert frames.pts_T.dtype == np.float64


@each_decoder
@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (0.0, 1.0, range(30)),
        (0.5, 2.5, range(15, 75)),
        (1.0, 1.05, range(30, 32)),
        (2.0, math.inf, range(60, 90)),
        (1.01, 1.02, range(0)),
    ],
)
def test_a_span_holds_its_start_and_not_its_end(
    decoder: Decoder, path: Path, start: float, end: float, wanted: range
) -> None:
    assert numbers(read(decoder, path, Span(start, end)).frames_THW3) == list(wanted)


@each_decoder
def test_gives_the_size_that_was_asked_for(decoder: Decoder, path: Path) -> None:
    assert read(decoder, path, size=(80, 48)).frames_THW3.shape == (90, 48, 80, 3)


@each_decoder
def test_rotation_is_applied(decoder: Decoder, tmp_path: Path) -> None:
    upright = write_video(tmp_path / "upright.mp4", frames=3, size=SIZE)
    turned = write_video(tmp_path / "turned.mp4", frames=3, size=SIZE, rotation=-90)
    shown = read(decoder, turned, size=(96, 160)).frames_THW3
    expected = np.rot90(read(decoder, upright).frames_THW3, -1, axes=(1, 2))
    assert np.abs(shown.astype(int) - expected).mean() < 2
    # The red corner, lower right as stored, is lower left once the picture is turned clockwise.
    assert shown[0, 150, 10].tolist() == pytest.approx([220, 20, 20], abs=30)


@each_decoder
def test_the_same_bytes_from_every_thread(decoder: Decoder, path: Path) -> None:
    first = read(decoder, path).frames_THW3
    with ThreadPoolExecutor(3) as threads:
        for again in threads.map(lambda _: read(decoder, path).frames_THW3, range(6)):
            assert np.array_equal(again, first)


@each_decoder
def test_an_unreadable_stream_ends_typed(decoder: Decoder, path: Path, tmp_path: Path) -> None:
    media = PyAV().probe(path)
    rubbish = tmp_path / path.name
    rubbish.write_bytes(b"not a video at all" * 99)
    with pytest.raises((DecoderGaveUpError, Exception)) as caught:
        list(decoder.frames(rubbish, media, span=None, size=SIZE))
    assert type(caught.value).__name__ in {"DecoderGaveUpError", "Reject"}
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.slow
@pytest.mark.data
@each_decoder
@pytest.mark.parametrize(
    "name",
    ["mmskeleton/ta_chi.mp4", "torchvision/WUzgd7C1pWA.mp4", "torchvision/v_SoccerJuggling_g23_c01.avi"],
)
def test_decoders_agree_on_real_footage(decoder: Decoder, name: str) -> None:
    one, other = (read(decoder, real_video(name), size=(170, 128)) for decoder in (decoder, PyAV()))
    np.testing.assert_allclose(one.pts_T, other.pts_T, rtol=0, atol=1e-9)
    apart = np.abs(one.frames_THW3.astype(int) - other.frames_THW3).mean(axis=(1, 2, 3))
    assert apart.max() < 1.5
