import numpy as np
import pytest

from posecap.inference.top_down import gathered, sights
from posecap.types import Tracks


def tracks() -> Tracks:
    boxes = np.zeros((2, 3, 4), np.float32)
    boxes[0] = [10, 20, 30, 60]
    boxes[1, 1:] = [5, 5, 9, 9]
    scores = np.array([[0.5, 0, 0.5], [0, 0.9, 0.9]], np.float32)
    return Tracks(boxes_MT4=boxes, scores_MT=scores)


def test_sights_come_frame_after_frame() -> None:
    assert [(s.person, s.frame) for s in sights(tracks())] == [(0, 0), (1, 1), (0, 2), (1, 2)]
    np.testing.assert_array_equal(sights(tracks())[1].box_4, [5, 5, 9, 9])


@pytest.mark.parametrize("box", [[10, 10, 10, 20], [10, 20, 30, 20], [30, 10, 10, 20], [0, 0, np.nan, 5]])
def test_a_box_without_area_is_no_sight(box: list[float]) -> None:
    odd = Tracks(boxes_MT4=np.float32([[box]]), scores_MT=np.ones((1, 1), np.float32))
    assert sights(odd) == []


def test_joints_go_where_their_person_was_seen() -> None:
    seen = sights(tracks())
    found = [np.float32([[i, i, 0.5], [i, i, 1.25]]) for i in range(1, 5)]
    joints = gathered(found, seen, shape_MT=(2, 3), count=2)
    assert joints.shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(joints[0, :, 0, 0], [1, 0, 3])
    np.testing.assert_array_equal(joints[1, :, 0, 0], [0, 2, 4])
    np.testing.assert_array_equal(joints[1, 2], [[4, 4, 0.5], [4, 4, 1]])
    assert not joints[0, 1].any()


def test_a_joint_without_a_score_is_missing_altogether() -> None:
    seen = sights(tracks())[:1]
    found = [np.float32([[7, 7, -0.1], [7, 7, 0], [np.nan, 7, 0.5], [7, 7, np.inf], [7, 7, 0.5]])]
    joints = gathered(found, seen, shape_MT=(1, 1), count=5)
    np.testing.assert_array_equal(joints[0, 0], [[0, 0, 0]] * 4 + [[7, 7, 0.5]])
