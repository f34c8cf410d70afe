"""What every detector must do, on real frames."""

import numpy as np
import pytest
from models_at_hand import weights_or_skip

from posecap.engines.movenet import MoveNet
from posecap.joints import LAYOUTS
from posecap.ports import Detector


@pytest.fixture(
    scope="module", params=[MoveNet(long_side=256), MoveNet(long_side=384)], ids=lambda d: f"{d.name}-{d.long_side}"
)
def detector(request) -> Detector:
    weights_or_skip(*request.param.weights)
    request.param.warm_up()
    return request.param


def test_it_fits_the_port(detector):
    assert isinstance(detector, Detector)
    assert detector.layout is None or detector.layout in LAYOUTS


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
