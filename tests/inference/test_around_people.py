"""The rectangle that holds every person throughout a clip, checked by hand."""

from dataclasses import replace

import building
import numpy as np
import pytest

from posecap.inference.around_people import around_people, size
from posecap.types import Tracks

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
    assert around_people(clip(first, second, seen=[[0.9, 0], [0, 0.8]])) == (85, 35, 215, 165)


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
    assert around_people(clip([box])) == expected


def test_nobody():
    assert around_people(clip([[0, 0, 0, 0]], seen=[[0]])) == (0, 0, 640, 360)
    assert size(clip([[0, 0, 0, 0]])) == (640, 360)
