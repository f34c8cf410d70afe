"""What every detector must do: with real weights on real frames, and with random weights on any frames.

What random weights find means nothing, but its shape, order, type and scale must be right all the same.
"""

import importlib.util
import pickle

import numpy as np
import pytest

from posecap.engines.blazepose import BlazePose
from posecap.engines.movenet import MoveNet
from posecap.engines.multi_scale import MultiScale
from posecap.engines.rtmdet_onnx import RTMDetOnnx
from posecap.engines.rtmo_onnx import RTMOOnnx
from posecap.engines.transformers_detector import TransformersDetector
from posecap.engines.ultralytics import Ultralytics
from posecap.inference.package_compat import ensure_torchvision
from posecap.interfaces import Detector
from posecap.joints import LAYOUTS
from posecap.stage import engines_of
from tests.models_at_hand import weights_or_skip

MULTI_SCALE = MultiScale(small=MoveNet(imgsz=256), large=MoveNet(imgsz=512), close_up=MoveNet(imgsz=224))
YOLO = Ultralytics("yolo11n-pose", batch=1)  # sums run in another order from batch size to batch size


@pytest.fixture(
    scope="module",
    params=[MoveNet(imgsz=256), MoveNet(imgsz=384), MULTI_SCALE, BlazePose(), YOLO],
    ids=["movenet-256", "movenet-384", "multi-scale", "blazepose", "yolo11n-pose"],
)
def detector(request) -> Detector:
    if request.param is YOLO and importlib.util.find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    for engine in (request.param, *engines_of(request.param)):
        weights_or_skip(*engine.weights)
        engine.load()
    return request.param


@pytest.fixture(
    scope="module", params=["yolo11n", "yolo11n-pose", "yolov8n-pose", "yolo26n-pose", "rtmdet-n", "rtmo-t"]
)
def random_detector(request, tmp_path_factory) -> Detector:
    if request.param == "rf_detr":
        transformers = pytest.importorskip("transformers", reason="needs posecap[transformers]")
        ensure_torchvision()
        if not hasattr(transformers, "RfDetrConfig"):
            pytest.skip(f"transformers {transformers.__version__} has no RF-DETR")
        from tests.random_weights import transformers_detector

        folder = transformers_detector.rf_detr(tmp_path_factory.mktemp("random") / "rf_detr")
        return TransformersDetector(checkpoint=str(folder), conf=0.05, batch=3, device="cpu")
    if request.param.startswith("rtm"):
        for package in ("mmpose", "mmdet", "onnx"):  # which write it; reading takes onnxruntime alone
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"{package} is not installed")
        from tests.random_weights import mmpose

        path = tmp_path_factory.mktemp("random") / f"{request.param}.onnx"
        if request.param == "rtmo-t":
            return RTMOOnnx(size="t", weights_from=str(mmpose.rtmo_onnx(path)), conf=0.05, device="cpu")
        return RTMDetOnnx(size="n", weights_from=str(mmpose.rtmdet_onnx(path)), conf=0.05, device="cpu")
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    from tests.random_weights import ultralytics

    path = ultralytics.write(tmp_path_factory.mktemp("random") / f"{request.param}.pt", architecture=request.param)
    return Ultralytics(str(path), imgsz=320, batch=3, max_det=1000)


@pytest.fixture(scope="module")
def any_frames() -> np.ndarray:
    """(5, 200, 320, 3) uint8: coloured squares, other ones in every frame."""
    blocks = np.random.default_rng(0).integers(0, 256, (5, 10, 16, 3), dtype=np.uint8)
    return blocks.repeat(20, axis=1).repeat(20, axis=2)


def test_it_fits_the_port(detector):
    assert isinstance(detector, Detector)
    assert detector.layout is None or detector.layout in LAYOUTS


def test_it_fits_the_port_and_travels_with_random_weights_too(random_detector):
    assert isinstance(random_detector, Detector)
    assert random_detector.layout is None or random_detector.layout in LAYOUTS
    assert pickle.loads(pickle.dumps(random_detector)) == random_detector


def test_detections_have_their_shapes_and_lie_in_the_frame_best_first(random_detector, any_frames):
    detections = random_detector.detect(any_frames)
    assert len(detections) == len(any_frames)
    assert sum(len(found.scores_N) for found in detections) >= len(any_frames)
    for found in detections:
        people = len(found.scores_N)
        assert found.boxes_N4.shape == (people, 4)
        assert found.boxes_N4.dtype == found.scores_N.dtype == np.float32
        assert (np.diff(found.scores_N) <= 0).all()
        assert ((found.scores_N > 0) & (found.scores_N <= 1)).all()
        assert (found.boxes_N4 >= 0).all()
        assert (found.boxes_N4 <= [320, 200, 320, 200]).all()
        assert (found.boxes_N4[:, 2:] >= found.boxes_N4[:, :2]).all()
        if random_detector.layout is None:
            assert found.joints_NJ3 is None
        else:
            assert found.joints_NJ3.shape == (people, len(LAYOUTS[random_detector.layout].names), 3)
            assert found.joints_NJ3.dtype == np.float32
            assert ((found.joints_NJ3[..., 2] >= 0) & (found.joints_NJ3[..., 2] <= 1)).all()


def test_a_frame_does_not_depend_on_its_batch(random_detector, any_frames):
    together = random_detector.detect(any_frames)
    for frame, found in zip(any_frames, together, strict=True):
        (alone,) = random_detector.detect(frame[None])
        # Convolutions add up in another order for other batch sizes, and near ties change places.
        np.testing.assert_allclose(alone.scores_N, found.scores_N, atol=1e-3)
        apart = np.abs(alone.boxes_N4[:, None] - found.boxes_N4[None]).max(-1)
        assert (apart.min(0, initial=np.inf) < 0.05).all()
        assert (apart.min(1, initial=np.inf) < 0.05).all()


def test_the_same_frames_give_the_same_bytes(random_detector, any_frames):
    for first, second in zip(random_detector.detect(any_frames), random_detector.detect(any_frames), strict=True):
        assert first.boxes_N4.tobytes() == second.boxes_N4.tobytes()
        assert first.scores_N.tobytes() == second.scores_N.tobytes()


def test_coordinates_are_exactly_those_of_the_frames_size(random_detector, any_frames):
    """Frames of twice the size are shrunk to the very same pixels, so all coordinates double."""
    if isinstance(random_detector, RTMOOnnx):
        pytest.skip("MMPose's warp counts from corners of pixels, so that it takes others of the doubled ones")
    doubled = any_frames.repeat(2, axis=1).repeat(2, axis=2)
    for one, two in zip(random_detector.detect(any_frames), random_detector.detect(doubled), strict=True):
        np.testing.assert_allclose(two.boxes_N4, 2 * one.boxes_N4, atol=1e-3)
        if random_detector.layout is not None:
            np.testing.assert_allclose(two.joints_NJ3[..., :2], 2 * one.joints_NJ3[..., :2], atol=1e-3)


def test_no_frames_have_no_detections(random_detector, any_frames):
    assert random_detector.detect(any_frames[:0]) == []


def test_frames_stay_as_they_are(random_detector, any_frames):
    kept = any_frames.copy()
    random_detector.detect(any_frames)
    np.testing.assert_array_equal(any_frames, kept)


def test_people_lie_in_the_frame_best_first(detector, real_frames):
    for found, frame in zip(detector.detect(real_frames), real_frames, strict=True):
        height, width = frame.shape[:2]
        assert len(found.scores_N) >= 1
        assert found.boxes_N4.dtype == found.scores_N.dtype == np.float32
        assert (np.diff(found.scores_N) <= 0).all()
        best = found.boxes_N4[0]
        assert -0.1 * width <= best[0] < best[2] <= 1.1 * width
        assert -0.1 * height <= best[1] < best[3] <= 1.1 * height
        assert best[3] - best[1] > 0.2 * height


def test_joints_are_inside_their_box_more_or_less(detector, real_frames):
    found = detector.detect(real_frames[:1])[0]
    joints = found.joints_NJ3[0]
    assert joints.shape == (17, 3)
    x0, y0, x1, y1 = found.boxes_N4[0]
    margin = 0.25 * max(x1 - x0, y1 - y0)
    sure = joints[joints[:, 2] > 0.4]
    assert len(sure) >= 6
    assert ((sure[:, 0] > x0 - margin) & (sure[:, 0] < x1 + margin)).all()
    assert ((sure[:, 1] > y0 - margin) & (sure[:, 1] < y1 + margin)).all()


def test_the_head_is_above_the_feet_of_a_standing_man(detector, real_frames):
    joints = detector.detect(real_frames[:1])[0].joints_NJ3[0]
    assert joints[:5, 1].mean() < joints[[11, 12], 1].mean() < joints[[15, 16], 1].max()


def test_a_frame_does_not_depend_on_its_neighbours(detector, real_frames):
    together = detector.detect(real_frames[:3])[1]
    alone = detector.detect(real_frames[1:2])[0]
    np.testing.assert_array_equal(together.joints_NJ3, alone.joints_NJ3)


def test_coordinates_follow_the_frames_size(detector, real_frames):
    frame = real_frames[:1]
    doubled = frame.repeat(2, axis=1).repeat(2, axis=2)
    one, two = detector.detect(frame)[0], detector.detect(doubled)[0]
    np.testing.assert_allclose(two.boxes_N4[0], 2 * one.boxes_N4[0], atol=0.05 * max(doubled.shape[1:3]))


def test_nobody_is_found_on_a_grey_wall(detector):
    (found,) = detector.detect(np.full((1, 120, 160, 3), 127, np.uint8))
    assert found.boxes_N4.shape == (0, 4)
    assert found.scores_N.shape == (0,)
