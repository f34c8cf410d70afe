"""What RTMDet and RTMO share: batches, scores, edges of the frame, and files that are no good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecap.engines.rtmdet_onnx import RTMDetOnnx
from posecap.engines.rtmo_onnx import RTMOOnnx
from posecap.inference.onnx import OnnxDetector
from posecap.interfaces import Detections
from posecap.models import MissingWeightsError
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError

pytest.importorskip("onnxruntime")
pytest.importorskip("mmpose")
pytest.importorskip("onnx")

from tests.random_weights import mmpose as random_mmpose

KINDS = {RTMDetOnnx: ("n", random_mmpose.rtmdet_onnx), RTMOOnnx: ("t", random_mmpose.rtmo_onnx)}


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request) -> type[OnnxDetector]:
    return request.param


@pytest.fixture(scope="module")
def exported(kind, tmp_path_factory) -> Path:
    return KINDS[kind][1](tmp_path_factory.mktemp("weights") / "exported.onnx")


@pytest.fixture
def engine(kind):
    def make(path: Path, **changes) -> OnnxDetector:
        given = {"size": KINDS[kind][0], "weights_from": str(path), "device": "cpu", "conf": 0.05}
        return kind(**{**given, **changes})

    return make


def assert_equal(got: Detections, expected: Detections, first: int | None = None) -> None:
    """Of ``expected`` the ``first`` best are compared."""
    np.testing.assert_array_equal(got.boxes_N4, expected.boxes_N4[:first])
    np.testing.assert_array_equal(got.scores_N, expected.scores_N[:first])
    if expected.joints_NJ3 is not None:
        np.testing.assert_array_equal(got.joints_NJ3, expected.joints_NJ3[:first])


def test_people_lie_in_the_frame_best_first(exported, engine, real_frames):
    height, width = real_frames.shape[1:3]
    for found in engine(exported).detect(real_frames):
        assert found.boxes_N4.dtype == found.scores_N.dtype == np.float32
        assert len(found.scores_N) == len(found.boxes_N4) > 0
        assert (np.diff(found.scores_N) <= 0).all()
        assert (found.scores_N >= np.float32(0.05)).all()
        assert (found.boxes_N4 >= 0).all()
        assert (found.boxes_N4 <= [width, height, width, height]).all()
        assert (found.boxes_N4[:, 2:] > found.boxes_N4[:, :2]).all()
        if found.joints_NJ3 is not None:
            assert found.joints_NJ3.dtype == np.float32
            assert len(found.joints_NJ3) == len(found.scores_N)
            assert ((found.joints_NJ3[..., 2] >= 0) & (found.joints_NJ3[..., 2] <= 1)).all()


def test_a_higher_score_keeps_the_best(exported, engine, real_frames):
    (many,) = engine(exported).detect(real_frames[:1])
    least = float(np.median(many.scores_N))
    count = int((many.scores_N >= least).sum())
    assert 0 < count < len(many.scores_N)
    assert_equal(engine(exported, conf=least).detect(real_frames[:1])[0], many, count)


def test_no_frames_and_nobody(exported, engine, real_frames):
    assert engine(exported).detect(real_frames[:0]) == []
    (found,) = engine(exported, conf=1.1).detect(real_frames[:1])
    assert found.boxes_N4.shape == (0, 4)
    assert found.scores_N.shape == (0,)
    assert found.joints_NJ3 is None or found.joints_NJ3.shape == (0, 17, 3)


def test_frames_in_a_batch_are_those_alone_and_memory_that_ends_halves_it(exported, engine, real_frames, monkeypatch):
    """The exports take one picture, so one for several is played: it fills up with nobody as the published files do."""
    alone = [engine(exported, conf=0.0).detect(frame[None])[0] for frame in real_frames]
    detector = engine(exported, conf=0.0, batch=4)
    session, sizes = detector._network._session, []

    class Wide:
        def run(self, outputs, feeds):
            sizes.append(len(feeds["input"]))
            if len(feeds["input"]) > 2:
                raise Exception("BFCArena: Failed to allocate memory for requested buffer of size 1")
            found = [session.run(outputs, {"input": picture[None]}) for picture in feeds["input"]]
            longest = 1 + max(dets.shape[1] for dets, _ in found)

            def filled(one: np.ndarray, value: float) -> np.ndarray:
                missing = ((0, longest - one.shape[1]), *[(0, 0)] * (one.ndim - 2))
                return np.pad(one[0], missing, constant_values=value)

            return [np.stack([filled(pair[i], (0, -1)[i]) for pair in found]) for i in range(2)]

    monkeypatch.setattr(detector._network, "_session", Wide())
    monkeypatch.setattr(detector._network.batches, "most", 4)
    for got, expected in zip(detector.detect(real_frames), alone, strict=True):
        assert_equal(got, expected)
    assert sizes == [4, 2, 2]


def test_missing_weights_say_so(engine, tmp_path):
    with pytest.raises(MissingWeightsError, match="nothing-here"):
        engine(tmp_path / "nothing-here.onnx").load()


def test_a_truncated_file_is_refused(exported, engine, tmp_path):
    path = tmp_path / "short.onnx"
    path.write_bytes(exported.read_bytes()[:-200_000])
    with pytest.raises(CheckpointError, match=r"short\.onnx"):
        engine(path).load()


def test_a_pickle_is_refused_and_does_not_run(engine, tmp_path):
    path, target = tmp_path / "hostile.onnx", tmp_path / "it-ran"
    path.write_bytes(b"cposix\nsystem\n(S'touch " + str(target).encode() + b"'\ntR.")
    with pytest.raises(CheckpointError, match=r"hostile\.onnx"):
        engine(path).load()
    assert not target.exists()


def test_another_network_is_refused(kind, engine, tmp_path):
    pose = random_mmpose.rtmpose_onnx(tmp_path / "pose.onnx")
    with pytest.raises(WrongArchitectureError, match=f"simcc_x, simcc_y; expected .* {', '.join(kind.outputs)}"):
        engine(pose).load()


def test_random_weights_are_not_used_by_accident(exported, engine, monkeypatch):
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)
    with pytest.raises(RandomWeightsError):
        engine(exported).load()


def test_an_empty_batch_is_refused(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: batch is 0"):
        kind(batch=0)
