"""Joints of a one-pass detector, and of an estimator of their own."""

from dataclasses import replace

import numpy as np
import pytest

from posecap.stage import PermanentError
from posecap.stages.pose import Pose
from tests import building


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
