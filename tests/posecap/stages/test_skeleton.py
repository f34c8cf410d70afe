from __future__ import annotations

import numpy as np
import pytest

from posecap.joints import LAYOUTS, LayoutError, convert
from posecap.skeletons import measure
from posecap.stages.skeleton import Skeleton
from posecap.types import SkeletonClip
from tests.building import posed, walkers


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
