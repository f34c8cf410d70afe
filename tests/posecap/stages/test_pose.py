"""Joints of a one-pass detector, and of an estimator of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from posecap.interfaces import Detections
from posecap.joints import LAYOUTS, LayoutError, convert
from posecap.skeletons import measure
from posecap.stage import PermanentError, Reject
from posecap.stages.pose import Pose, Skeleton, Track
from posecap.types import SkeletonClip, Tracks
from tests import building
from tests.building import posed, walkers


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


class Estimates:
    name = "estimates"
    layout = "penn13"

    def estimate(self, frames_THW3, tracks):
        self.boxes, self.joints = tracks.boxes_MT4, tracks.joints_MTJ3
        return np.ones((tracks.people, len(frames_THW3), 13, 3), np.float32)


def test_the_detectors_joints_are_kept_as_they_are():
    posed = building.posed()
    found = replace(posed.tracks, joints_MTJ3=posed.joints_MTJ3, layout="coco17")
    (again,) = Pose(estimator="detector")(replace(posed, tracks=found))
    np.testing.assert_array_equal(again.joints_MTJ3, posed.joints_MTJ3)
    assert again.layout == "coco17"
    assert again.pose_model == posed.detector


def test_boxes_without_joints_need_an_estimator():
    posed = building.posed()
    bare = replace(posed, tracks=replace(posed.tracks, joints_MTJ3=None, layout=None))
    with pytest.raises(PermanentError) as failed:
        list(Pose(estimator="detector")(bare))
    assert failed.value.reason == "no_joints"


def test_an_estimator_works_in_working_pixels_and_gives_source_pixels():
    posed, estimator = building.posed(), Estimates()
    found = replace(posed.tracks, joints_MTJ3=posed.joints_MTJ3, layout="coco17")
    (done,) = Pose(estimator=estimator)(replace(posed, tracks=found))
    x, y = posed.source_per_working
    np.testing.assert_allclose(estimator.boxes * [x, y, x, y], posed.tracks.boxes_MT4, rtol=1e-5)
    np.testing.assert_allclose(estimator.joints * [x, y, 1], posed.joints_MTJ3, rtol=1e-5)
    np.testing.assert_allclose(done.joints_MTJ3[0, 0, 0], [x, y, 1], rtol=1e-6)
    assert (done.layout, done.pose_model) == ("penn13", "estimates")


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"halpe26"}))  # whose feet nothing else has
def test_joints_come_out_in_the_wanted_layout_and_are_measured_there(layout: str) -> None:
    item = posed(people=2)
    (made,) = Skeleton(layout=layout)(item)
    assert type(made) is SkeletonClip
    assert made.layout == layout
    np.testing.assert_array_equal(made.joints_MTJ3, convert(item.joints_MTJ3, source="coco17", target=layout))
    assert made.quality == measure(made.joints_MTJ3, item.pts_T, layout)
    assert made.quality.motion > 0.05
    assert made.clip_id == item.clip_id
    assert made.pose_model == item.pose_model


def test_all_joints_stay_by_default() -> None:
    item = posed()
    item.joints_MTJ3[..., 2] = 0.01
    (made,) = Skeleton()(item)
    np.testing.assert_array_equal(made.joints_MTJ3, item.joints_MTJ3)


def test_joints_below_the_floor_go_missing_before_others_are_derived_from_them() -> None:
    joints = walkers(frames=10)
    joints[..., 2] = 0.3
    joints[:, 4:, 5, 2] = 0.29  # left shoulder
    before = joints.copy()
    (made,) = Skeleton(layout="unik17", joint_score=0.3)(posed(joints_MTJ3=joints))
    derived = [LAYOUTS["unik17"].names.index(name) for name in ("mouth", "neck", "chest", "left_shoulder")]
    others = [j for j in range(17) if j not in derived]
    assert not made.joints_MTJ3[:, 4:, derived].any()
    assert (made.joints_MTJ3[:, :4, derived, 2] == np.float32(0.3)).all()
    assert (made.joints_MTJ3[:, :, others, 2] == np.float32(0.3)).all()
    np.testing.assert_array_equal(joints, before)


def test_a_layout_that_cannot_be_had() -> None:
    with pytest.raises(LayoutError, match="skeleton: unknown layout 'smpl24'; known: coco17"):
        Skeleton(layout="smpl24")
    with pytest.raises(LayoutError, match="no exact map from 'penn13' to 'coco17'"):
        list(Skeleton(layout="coco17")(posed(layout="penn13")))
    with pytest.raises(ValueError, match="joint_score is -1; it lies between 0 and 1"):
        Skeleton(joint_score=-1)
