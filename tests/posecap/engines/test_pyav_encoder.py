import io
from pathlib import Path

import av
import numpy as np
import pytest

from posecap.engines.pyav_encoder import PyAVEncoder
from posecap.interfaces import VideoEncoder
from posecap.types import ShapeError

TICK = 1 / 90_000


def two_colours(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:, : height // 2] = (200, 30, 40)
    frames[:, height // 2 :] = (20, 180, 60)
    return frames


def decoded(mp4: bytes) -> tuple[np.ndarray, np.ndarray, float]:
    with av.open(io.BytesIO(mp4)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        pts = np.array([float(frame.pts * stream.time_base) for frame in frames])
        return (
            np.stack([frame.to_ndarray(format="rgb24") for frame in frames]),
            pts,
            float(stream.duration * stream.time_base),
        )


def test_it_fits_the_port():
    assert isinstance(PyAVEncoder(), VideoEncoder)


def test_every_frame_keeps_its_uneven_time_and_the_clip_its_length():
    pts_T = 5.0 + np.cumsum([0.0, 0.01, 0.05, 0.033, 0.2, 0.04, 0.5, 0.02])
    frames, found, seconds = decoded(PyAVEncoder().encode(two_colours(8), pts_T))
    assert len(frames) == 8
    assert np.abs(found - (pts_T - 5.0)).max() <= TICK
    assert seconds == pytest.approx(pts_T[-1] - 5.0 + 0.02, abs=2 * TICK)


def test_colours_survive():
    frames, _, _ = decoded(PyAVEncoder().encode(two_colours(3), np.arange(3) / 25))
    assert np.abs(frames[1, 10, 30].astype(int) - (200, 30, 40)).max() <= 4
    assert np.abs(frames[1, 40, 30].astype(int) - (20, 180, 60)).max() <= 4


def test_each_frame_is_its_own_picture():
    frames_THW3 = np.stack([np.full((32, 32, 3), 20 * i, np.uint8) for i in range(12)])
    frames, _, _ = decoded(PyAVEncoder().encode(frames_THW3, np.arange(12) / 30))
    assert np.abs(frames.mean((1, 2, 3)) - 20 * np.arange(12)).max() <= 3


def test_odd_sizes_grow_by_the_edge_s_own_pixels():
    frames, _, _ = decoded(PyAVEncoder(crf=1).encode(two_colours(2, 33, 65), np.arange(2) / 25))
    assert frames.shape[1:] == (34, 66, 3)
    assert np.abs(frames[0, 33, 65].astype(int) - (20, 180, 60)).max() <= 6


def test_one_frame_lasts_a_twenty_fifth_of_a_second():
    frames, found, seconds = decoded(PyAVEncoder().encode(two_colours(1), np.array([7.5])))
    assert len(frames) == 1
    assert found.tolist() == [0.0]
    assert seconds == pytest.approx(0.04)


def test_repeats_give_the_same_bytes_and_the_index_comes_first():
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 80, 3), np.uint8)
    first, again = (PyAVEncoder().encode(noise, np.arange(20) / 30) for _ in range(2))
    assert first == again
    assert first.find(b"moov") < first.find(b"mdat")
    assert b"Lavf" not in first


def test_crf_is_obeyed():
    noise = np.random.default_rng(0).integers(0, 256, (5, 64, 80, 3), np.uint8)
    assert (
        len(PyAVEncoder(crf=40).encode(noise, np.arange(5) / 30))
        < len(PyAVEncoder(crf=18).encode(noise, np.arange(5) / 30)) / 2
    )


@pytest.mark.parametrize(
    ("frames", "pts", "words"),
    [
        (two_colours(2).astype(np.float32), [0, 1], "float32"),
        (two_colours(2)[..., 0], [0, 1], r"\(2, 48, 64\)"),
        (two_colours(0), [], r"\(0, 48, 64, 3\)"),
        (two_colours(2), [0, 1, 2], r"\(3,\), expected \(2,\)"),
        (two_colours(2), [1, 1], "must rise"),
        (two_colours(2), [1, 1 + 1e-6], "must rise"),
    ],
)
def test_wrong_input_is_named(frames: np.ndarray, pts: list[float], words: str):
    with pytest.raises(ShapeError, match=words):
        PyAVEncoder().encode(frames, np.array(pts, np.float64))


def test_what_x264_does_not_have_is_refused_before_the_first_clip():
    with pytest.raises(ValueError, match="crf is 52"):
        PyAVEncoder(crf=52)
    with pytest.raises(ValueError, match="preset is 'very fast', expected one of ultrafast"):
        PyAVEncoder(preset="very fast")


def test_frames_are_written_as_they_come(tmp_path: Path):
    frames_THW3, pts_T = two_colours(4), 3.0 + np.array([0.0, 0.04, 0.1, 0.2])
    path = tmp_path / "out.mp4"
    assert PyAVEncoder().encode_to(path, zip(frames_THW3, pts_T.tolist(), strict=True), fps=20.0) == 4
    found, times, seconds = decoded(path.read_bytes())
    assert len(found) == 4
    assert np.abs(times - (pts_T - 3.0)).max() <= TICK
    assert seconds == pytest.approx(0.3, abs=2 * TICK)
    rate = 4 / 0.3  # what encode counts: with the same hint both write the same bytes
    assert PyAVEncoder().encode_to(path, zip(frames_THW3, pts_T.tolist(), strict=True), fps=rate) == 4
    assert path.read_bytes() == PyAVEncoder().encode(frames_THW3, pts_T)


def test_frames_that_do_not_fit_are_named_as_they_come(tmp_path: Path):
    path = tmp_path / "out.mp4"
    small, large = two_colours(1)[0], two_colours(1, height=64)[0]
    assert PyAVEncoder().encode_to(path, [], fps=25.0) == 0
    assert not path.exists()
    with pytest.raises(ShapeError, match=r"uint8 \(64, 64, 3\), expected uint8 \(48, 64, 3\)"):
        PyAVEncoder().encode_to(path, [(small, 0.0), (large, 0.1)], fps=25.0)
    with pytest.raises(ShapeError, match="times must rise"):
        PyAVEncoder().encode_to(path, [(small, 0.1), (small, 0.1)], fps=25.0)
