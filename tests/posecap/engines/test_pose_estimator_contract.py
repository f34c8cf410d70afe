"""What every pose estimator must do, with random weights: everything but finding people's real joints."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from posecap.interfaces import PoseEstimator
from posecap.joints import LAYOUTS
from posecap.stage import configuration
from posecap.types import Tracks

pytest.importorskip("mmpose")
pytest.importorskip("onnx")

from posecap.engines.mmpose import RTMPose
from posecap.engines.rtmpose_onnx import RTMPoseOnnx
from posecap.engines.vitpose import ViTPose
from tests.random_weights import mmpose as random_mmpose


def _rtmpose(folder, **changes):
    path = random_mmpose.rtmpose(folder / "rtmpose.pth", joints=changes.get("joints", "coco17"))
    return RTMPose(size="t", weights_from=str(path), batch=4, device="cpu", **changes)


def _rtmpose_onnx(folder, *, exported="any", **changes):
    path = folder / "rtmpose.onnx"
    random_mmpose.rtmpose_onnx(path, joints=changes.get("joints", "coco17"), batch=exported)
    return RTMPoseOnnx(size="t", weights_from=str(path), batch=4, device="cpu", **changes)


def _vitpose(folder, **changes):
    pytest.importorskip("transformers", reason="needs posecap[transformers]")
    from tests.random_weights import vitpose as random_vitpose

    size = changes.get("size", "base-simple")
    with random_vitpose.tiny():  # of the published size a file of 133 MB or more
        path = random_vitpose.write(folder / "vitpose.safetensors", size=size)
        made = ViTPose(weights_from=str(path), batch=4, device="cpu", **changes)
        made.load()
    return made


ESTIMATORS = {
    "rtmpose": lambda folder: _rtmpose(folder),
    "rtmpose-no-flip-halpe26": lambda folder: _rtmpose(folder, joints="halpe26", flip_test="off"),
    "rtmpose-onnx": lambda folder: _rtmpose_onnx(folder),
    "rtmpose-onnx-halpe26-one-crop": lambda folder: _rtmpose_onnx(folder, joints="halpe26", exported="one"),
    "vitpose": lambda folder: _vitpose(folder),
    "vitpose-plus-no-flip": lambda folder: _vitpose(folder, size="plus-small", flip_test="off"),
}


@pytest.fixture(scope="module", params=ESTIMATORS)
def estimator(request, tmp_path_factory) -> PoseEstimator:
    return ESTIMATORS[request.param](tmp_path_factory.mktemp("weights"))


@pytest.fixture
def tracks(real_frames) -> Tracks:
    """The first person is seen in every frame, the second in the frames 1 and 2, the third never."""
    frames, height, width = real_frames.shape[:3]
    boxes = np.zeros((3, frames, 4), np.float32)
    boxes[0] = np.array([0.3, 0.1, 0.55, 0.9]) * [width, height, width, height]
    boxes[1, 1:3] = np.array([0.61, 0.333, 1.05, 0.707]) * [width, height, width, height]
    return Tracks(boxes_MT4=boxes, scores_MT=(boxes[..., 2] > 0).astype(np.float32) * 0.9)


def only(tracks: Tracks, people: slice, frames: slice) -> Tracks:
    return Tracks(boxes_MT4=tracks.boxes_MT4[people, frames], scores_MT=tracks.scores_MT[people, frames])


def test_it_fits_the_port(estimator):
    assert isinstance(estimator, PoseEstimator)
    assert estimator.layout in LAYOUTS
    assert estimator.layout in estimator.name


def test_its_fields_are_its_configuration(estimator):
    fresh = type(estimator)(**{name: getattr(estimator, name) for name in configuration(estimator) if name != "name"})
    assert fresh == estimator
    assert hash(fresh) == hash(estimator)
    assert pickle.loads(pickle.dumps(fresh)) == fresh


def test_everybody_who_is_seen_has_joints_and_nobody_else(estimator, real_frames, tracks):
    joints = estimator.estimate(real_frames, tracks)
    assert joints.shape == (3, len(real_frames), len(LAYOUTS[estimator.layout].names), 3)
    assert joints.dtype == np.float32
    assert np.isfinite(joints).all()
    assert (joints[..., 2] >= 0).all()
    assert (joints[..., 2] <= 1).all()
    np.testing.assert_array_equal((joints[..., 2] > 0).any(-1), tracks.scores_MT > 0)
    assert not joints[joints[..., 2] == 0].any()


def test_joints_lie_in_what_the_network_sees(estimator, real_frames, tracks):
    joints = estimator.estimate(real_frames, tracks)[0]
    x0, y0, x1, y1 = tracks.boxes_MT4[0, 0]
    high = 1.25 * max(y1 - y0, (x1 - x0) * 4 / 3)
    away = np.abs(joints[joints[..., 2] > 0][:, :2] - [(x0 + x1) / 2, (y0 + y1) / 2])
    assert (away <= [high * 3 / 8 + 0.01, high / 2 + 0.01]).all()
    assert (away.max(0) > [high * 3 / 16, high / 4]).all()


def test_joints_move_with_the_picture(estimator, real_frames, tracks):
    """A black border changes nothing: what lies outside a frame is black anyway.

    Other places are rounded otherwise, by a grey level here and there; random networks have joints that this moves.
    """
    framed = np.pad(real_frames, ((0, 0), (64, 32), (96, 128), (0, 0)))
    moved = Tracks(
        boxes_MT4=np.where(tracks.scores_MT[..., None] > 0, tracks.boxes_MT4 + np.float32([96, 64, 96, 64]), 0),
        scores_MT=tracks.scores_MT,
    )
    expected = estimator.estimate(real_frames, tracks)
    expected[..., :2] += np.where(expected[..., 2:] > 0, np.float32([96, 64]), 0)
    away = np.abs(estimator.estimate(framed, moved) - expected).max(-1)
    assert (away < 0.01).mean() > 0.98


def test_joints_grow_with_the_picture(estimator):
    """On one colour, of which the network sees the same at every size."""
    box = np.float32([60, 50, 100, 90])
    one, two = (
        estimator.estimate(
            np.full((1, 140 * scale, 160 * scale, 3), 90, np.uint8),
            Tracks(boxes_MT4=scale * box[None, None], scores_MT=np.ones((1, 1), np.float32)),
        )
        for scale in (1, 2)
    )
    assert (one[..., 2] > 0).any()
    np.testing.assert_allclose(two[..., :2], 2 * one[..., :2], atol=0.01)
    np.testing.assert_allclose(two[..., 2], one[..., 2], atol=1e-4)


def test_a_person_does_not_depend_on_the_others(estimator, real_frames, tracks):
    together = estimator.estimate(real_frames, tracks)
    alone = estimator.estimate(real_frames[1:2], only(tracks, slice(1, 2), slice(1, 2)))
    np.testing.assert_allclose(alone, together[1:2, 1:2], atol=1e-3)


def test_the_same_twice_to_the_bit(estimator, real_frames, tracks):
    first, second = estimator.estimate(real_frames, tracks), estimator.estimate(real_frames, tracks)
    assert first.tobytes() == second.tobytes()


def test_a_clip_without_people(estimator, real_frames, tracks):
    joints = len(LAYOUTS[estimator.layout].names)
    nobody = only(tracks, slice(0, 0), slice(None))
    assert estimator.estimate(real_frames, nobody).shape == (0, len(real_frames), joints, 3)
    unseen = only(tracks, slice(2, 3), slice(None))
    np.testing.assert_array_equal(
        estimator.estimate(real_frames, unseen), np.zeros((1, len(real_frames), joints, 3), np.float32)
    )


def test_a_box_without_area_is_nobody(estimator, real_frames):
    boxes = np.tile(np.float32([50, 20, 50, 90]), (1, len(real_frames), 1))
    flat = Tracks(boxes_MT4=boxes, scores_MT=np.ones(boxes.shape[:2], np.float32))
    assert not estimator.estimate(real_frames, flat).any()
