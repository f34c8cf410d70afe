"""Detector and tracker in working pixels, tracks in source pixels."""

import numpy as np
import pytest

from posecap.interfaces import Detections
from posecap.stage import Reject
from posecap.stages.track import Track
from posecap.types import Tracks
from tests import building


class Finds:
    name = "finds"
    layout = "coco17"

    def __init__(self, people: int = 1) -> None:
        self.people = people

    def detect(self, frames_THW3):
        n = self.people
        one = Detections(
            boxes_N4=np.tile(np.array([10, 20, 30, 60], np.float32), (n, 1)),
            scores_N=np.full(n, 0.5, np.float32),
            joints_NJ3=np.tile(np.array([15, 25, 0.5], np.float32), (n, 17, 1)),
        )
        return [one] * len(frames_THW3)


class Follows:
    name = "follows"

    def track(self, detections, pts_T, *, layout, frames_THW3):
        assert len(frames_THW3) == len(detections)
        people = len(detections[0].scores_N)
        return Tracks(
            boxes_MT4=np.stack([d.boxes_N4 for d in detections], 1).reshape(people, len(detections), 4),
            scores_MT=np.stack([d.scores_N for d in detections], 1).reshape(people, len(detections)),
            joints_MTJ3=np.stack([d.joints_NJ3 for d in detections], 1).reshape(people, len(detections), 17, 3),
            layout=layout,
        )


def test_tracks_come_in_source_pixels_and_name_their_engines():
    clip = building.clip()
    x, y = clip.source_per_working
    (tracked,) = Track(detector=Finds(), tracker=Follows())(clip)
    np.testing.assert_allclose(tracked.tracks.boxes_MT4[0, 0], [10 * x, 20 * y, 30 * x, 60 * y], rtol=1e-6)
    np.testing.assert_allclose(tracked.tracks.joints_MTJ3[0, 0, 0], [15 * x, 25 * y, 0.5], rtol=1e-6)
    assert (tracked.detector, tracked.tracker) == ("finds", "follows")
    assert tracked.clip_id == clip.clip_id


def test_nobody_is_a_rejection():
    with pytest.raises(Reject) as rejected:
        list(Track(detector=Finds(people=0), tracker=Follows())(building.clip()))
    assert rejected.value.reason == "no_person_found"
