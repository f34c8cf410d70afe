"""The rectangle that holds every person throughout a clip, checked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from posecap.inference.crops import (
    frame_size,
    middle_frames,
    people_region,
    person_area,
    person_crops,
    scatter_keypoints,
)
from posecap.types import Tracks
from tests import building

# Frames of 640 x 360 pixels from a video twice as large.
MEDIA = replace(building.clip().media, width=1280, height=720)


def clip(*people: list[list[float]], seen: list[list[float]] | None = None):
    """``people``: for each one a box in every frame, in source pixels."""
    boxes = np.array(people, np.float32)
    scores = np.ones(boxes.shape[:2], np.float32) if seen is None else np.array(seen, np.float32)
    frames = np.zeros((boxes.shape[1], 360, 640, 3), np.uint8)
    tracks = Tracks(boxes_MT4=boxes, scores_MT=scores)
    return building.skeleton(people=len(boxes), frames_THW3=frames, media=MEDIA, tracks=tracks)


def test_all_people_in_all_frames_with_a_margin():
    # Together x 200..400 and y 100..300 of the source, so 100..200 and 50..150 here; 15 of 100 pixels on every side.
    first = [[200, 140, 300, 300], [0, 0, 0, 0]]
    second = [[0, 0, 0, 0], [300, 100, 400, 260]]
    assert people_region(clip(first, second, seen=[[0.9, 0], [0, 0.8]])) == (85, 35, 215, 165)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0, 600, 200, 720], (0, 291, 115, 360)),
        ([600, 400, 608, 416], (286, 188, 318, 220)),
        ([-40, -40, 1400, 900], (0, 0, 640, 360)),
        ([1400, 800, 1600, 1000], (575, 295, 640, 360)),
    ],
    ids=["at the edge", "small", "larger than the frame", "outside"],
)
def test_one_person(box, expected):
    assert people_region(clip([box])) == expected


def test_nobody():
    assert people_region(clip([[0, 0, 0, 0]], seen=[[0]])) == (0, 0, 640, 360)
    assert frame_size(clip([[0, 0, 0, 0]])) == (640, 360)


# .


def tracks() -> Tracks:
    boxes = np.zeros((2, 3, 4), np.float32)
    boxes[0] = [10, 20, 30, 60]
    boxes[1, 1:] = [5, 5, 9, 9]
    scores = np.array([[0.5, 0, 0.5], [0, 0.9, 0.9]], np.float32)
    return Tracks(boxes_MT4=boxes, scores_MT=scores)


def test_sights_come_frame_after_frame() -> None:
    assert [(s.person, s.frame) for s in person_crops(tracks())] == [(0, 0), (1, 1), (0, 2), (1, 2)]
    np.testing.assert_array_equal(person_crops(tracks())[1].box_4, [5, 5, 9, 9])


@pytest.mark.parametrize("box", [[10, 10, 10, 20], [10, 20, 30, 20], [30, 10, 10, 20], [0, 0, np.nan, 5]])
def test_a_box_without_area_is_no_sight(box: list[float]) -> None:
    odd = Tracks(boxes_MT4=np.float32([[box]]), scores_MT=np.ones((1, 1), np.float32))
    assert person_crops(odd) == []


def test_joints_go_where_their_person_was_seen() -> None:
    seen = person_crops(tracks())
    found = [np.float32([[i, i, 0.5], [i, i, 1.25]]) for i in range(1, 5)]
    joints = scatter_keypoints(found, seen, shape_MT=(2, 3), count=2)
    assert joints.shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(joints[0, :, 0, 0], [1, 0, 3])
    np.testing.assert_array_equal(joints[1, :, 0, 0], [0, 2, 4])
    np.testing.assert_array_equal(joints[1, 2], [[4, 4, 0.5], [4, 4, 1]])
    assert not joints[0, 1].any()


def test_a_joint_without_a_score_is_missing_altogether() -> None:
    seen = person_crops(tracks())[:1]
    found = [np.float32([[7, 7, -0.1], [7, 7, 0], [np.nan, 7, 0.5], [7, 7, np.inf], [7, 7, 0.5]])]
    joints = scatter_keypoints(found, seen, shape_MT=(1, 1), count=5)
    np.testing.assert_array_equal(joints[0, 0], [[0, 0, 0]] * 4 + [[7, 7, 0.5]])


def test_the_middle_of_each_stretch():
    assert middle_frames(16, 8) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert middle_frames(24, 8) == [1, 4, 7, 10, 13, 16, 19, 22]
    assert middle_frames(100, 8) == [5, 18, 30, 43, 55, 68, 80, 93]


def test_short_clips_are_seen_whole():
    assert middle_frames(3, 8) == [0, 1, 2]
    assert middle_frames(8, 8) == list(range(8))


def test_what_a_network_is_shown_of_a_person():
    # 40 x 100, a quarter wider: 50 x 125; at 3:4 the height decides: 93.75 x 125
    np.testing.assert_array_equal(
        person_area(np.float32([10, 20, 50, 120]), ratio=0.75, padding=1.25), [30, 70, 93.75, 125]
    )
    # 120 x 40, a quarter wider: 150 x 50; at 3:4 the width decides: 150 x 200
    np.testing.assert_array_equal(
        person_area(np.float32([0, 0, 120, 40]), ratio=0.75, padding=1.25), [60, 20, 150, 200]
    )
