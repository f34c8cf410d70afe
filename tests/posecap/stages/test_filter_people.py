from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from posecap.stage import Reject, configuration
from posecap.stages.filter_people import FilterPeople
from posecap.types import PosedClip
from tests.building import posed, tracks_of, walkers


def kept(item: PosedClip, **settings: object) -> PosedClip:
    (only,) = FilterPeople(**settings)(item)  # type: ignore[arg-type]
    return only


def rejection(item: PosedClip, **settings: object) -> Reject:
    with pytest.raises(Reject) as rejected:
        list(FilterPeople(**settings)(item))  # type: ignore[arg-type]
    assert type(rejected.value) is Reject
    return rejected.value


def crowd() -> np.ndarray:
    """Four people over 40 frames: seen in half, tall and whole, whole, a mannequin taller than all."""
    joints = walkers(people=4, frames=40)
    joints[0, 20:] = 0
    joints[1, ..., 1] *= 2
    joints[3] = joints[3, :1]
    joints[3, ..., :2] *= 3
    return joints


def test_the_most_present_and_widest_people_stay_in_order() -> None:
    joints = crowd()
    item = posed(joints_MTJ3=joints, tracks=tracks_of(joints, layout="coco17"))
    only = kept(item, people=3)
    np.testing.assert_array_equal(only.joints_MTJ3, joints[[1, 2, 0]])
    np.testing.assert_array_equal(only.tracks.boxes_MT4, item.tracks.boxes_MT4[[1, 2, 0]])
    np.testing.assert_array_equal(only.tracks.scores_MT, item.tracks.scores_MT[[1, 2, 0]])
    np.testing.assert_array_equal(only.tracks.joints_MTJ3, joints[[1, 2, 0]])
    assert only.tracks.layout == "coco17"
    assert replace(only, tracks=item.tracks, joints_MTJ3=item.joints_MTJ3).clip_id == item.clip_id


def test_two_people_are_kept_by_default_and_equals_stay_in_the_trackers_order() -> None:
    joints = np.repeat(walkers(frames=30), 3, axis=0)
    joints[..., 2] = np.array([0.4, 0.9, 0.6], np.float32)[:, None, None]  # scores above the floor do not rank
    np.testing.assert_array_equal(kept(posed(joints_MTJ3=joints)).joints_MTJ3, joints[:2])


def test_who_stands_still_stays_where_motion_is_not_asked_for() -> None:
    joints = crowd()
    np.testing.assert_array_equal(kept(posed(joints_MTJ3=joints), people=1, motion=0.0).joints_MTJ3, joints[[3]])


def test_a_clip_without_people() -> None:
    assert rejection(posed(people=0)).args == ("no_person_found: nobody was tracked in 24 frames",)
    assert rejection(posed(joints_MTJ3=np.zeros((1, 24, 17, 3), np.float32))).reason == "no_person_found"


@pytest.mark.parametrize(
    ("frames", "fps", "detail"),
    [
        (7, 5.0, "7 frames, 1.400 s; needs 8 frames and 0.5 s"),
        (12, 25.0, "12 frames, 0.480 s; needs 8 frames and 0.5 s"),
        (1, 25.0, "1 frames, 0.000 s; needs 8 frames and 0.5 s"),
    ],
)
def test_a_clip_that_is_too_short(frames: int, fps: float, detail: str) -> None:
    rejected = rejection(posed(frames=frames, fps=fps))
    assert (rejected.reason, rejected.detail) == ("too_short", detail)


@pytest.mark.parametrize("fps", [24000 / 1001, 25.0, 29.97, 30.0])
def test_exactly_long_enough_is_long_enough(fps: float) -> None:
    frames = 24
    pts = 7.3 + np.arange(frames) / fps
    assert kept(posed(frames=frames, fps=fps, pts_T=pts), shortest_seconds=frames / fps).frame_count == 24


def test_a_person_needs_enough_confident_joints_in_enough_frames() -> None:
    joints = walkers(frames=50)
    joints[..., 2] = 0.19
    joints[0, :9, :, 2] = 0.8
    rejected = rejection(posed(joints_MTJ3=joints))
    assert rejected.reason == "low_confidence"
    assert rejected.detail == "the clearest of 1 people is confident in 18.0 % of the frames; needs 20.0 %"
    joints[0, :25, :8, 2] = 0.8  # 8 of 17 joints are less than half
    assert rejection(posed(joints_MTJ3=joints)).detail == rejected.detail
    joints[0, :25, :9, 2] = 0.2  # a joint at the floor counts
    assert kept(posed(joints_MTJ3=joints)).tracks.people == 1


def test_kept_people_must_cover_the_clip_together() -> None:
    joints = walkers(people=2, frames=50)
    joints[0, 15:], joints[1, :15], joints[1, 30:] = 0, 0, 0
    assert kept(posed(joints_MTJ3=joints)).tracks.people == 2
    rejected = rejection(posed(joints_MTJ3=joints), people=1)
    assert rejected.reason == "low_confidence"
    assert rejected.detail == "a kept person is confident in 30.0 % of the frames; needs 40.0 %"


def test_a_clip_in_which_nothing_moves_by_itself() -> None:
    joints = walkers(frames=30)
    joints[:] = joints[:, :1]
    joints[..., 0] += np.linspace(0, 300, 30, dtype=np.float32)[:, None]  # the camera pans over a poster
    rejected = rejection(posed(joints_MTJ3=joints))
    assert (rejected.reason, rejected.detail) == (
        "no_motion",
        "the person who moves most moves 0.0000 sizes; needs 0.0200",
    )


def test_joints_below_the_floor_do_not_count_as_motion() -> None:
    joints = np.repeat(walkers(frames=30)[:, :1], 30, axis=1)
    joints[0, ::2, 9:11, 0] += 60
    assert kept(posed(joints_MTJ3=joints)).tracks.people == 1
    joints[0, :, 9:11, 2] = 0.1
    assert rejection(posed(joints_MTJ3=joints)).reason == "no_motion"


def test_settings_are_checked_and_written_down() -> None:
    with pytest.raises(ValueError, match="people is 0; keep at least one"):
        FilterPeople(people=0)
    with pytest.raises(ValueError, match=r"joint_score is 1\.5; it lies between 0 and 1"):
        FilterPeople(joint_score=1.5)
    assert configuration(FilterPeople()) == {
        "name": "filter_people",
        "people": 2,
        "fewest_frames": 8,
        "shortest_seconds": 0.5,
        "joint_score": 0.2,
        "confident_joints_share": 0.5,
        "person_presence": 0.2,
        "confident_frames_share": 0.4,
        "motion": 0.02,
    }
