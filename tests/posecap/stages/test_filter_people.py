from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from posecap.legacy import as_format_1, upgraded
from posecap.stage import Reject, configuration
from posecap.stages.filter_people import FilterPeople, Prominence
from posecap.stages.pack import Pack
from posecap.types import PosedClip
from tests.building import embedded, posed, tracks_of, walkers


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


def fight() -> np.ndarray:
    """Two who watch from afar, seen all the time, and two who fight: closer together, livelier, and seen in half."""
    joints = walkers(people=4, frames=60)
    joints[..., 0] -= np.arange(60, dtype=np.float32)[:, None]  # nobody walks on
    middle_J2 = np.median(joints, axis=1, keepdims=True)
    joints[:2, ..., :2] = (middle_J2 + 0.3 * (joints - middle_J2))[:2, ..., :2]
    joints[2:, ..., :2] = (middle_J2 + 2 * (joints - middle_J2))[2:, ..., :2]
    joints[3, ..., 0] -= 160
    joints[2:, ::2] = 0
    return joints


def test_those_who_fight_are_kept_and_not_those_who_watch() -> None:
    joints = fight()
    item = posed(joints_MTJ3=joints)
    assert same_people(kept(item, prominence=Prominence()), joints) in ([2, 3], [3, 2])
    assert sorted(same_people(kept(item), joints)) == [0, 1]


def same_people(item: PosedClip, joints: np.ndarray) -> list[int]:
    return [next(i for i, of in enumerate(joints) if np.array_equal(of, one)) for one in item.joints_MTJ3]


def test_the_second_person_is_the_one_who_is_close_to_the_first() -> None:
    """Of equals, the third stands beside the first, who moves most; the second stands alone."""
    joints = np.repeat(walkers(frames=40), 4, axis=0)
    joints[:, ..., 0] += np.array([0, 900, 60, 1800], np.float32)[:, None, None]
    middle = np.median(joints[0], axis=0)
    joints[0, ..., :2] = (middle + 2 * (joints[0] - middle))[..., :2]
    item = posed(joints_MTJ3=joints)
    assert same_people(kept(item, prominence=Prominence(lively=0.5)), joints) == [0, 2]
    assert same_people(kept(item, prominence=Prominence(lively=0.5, closeness=0)), joints) == [0, 1]


@pytest.mark.parametrize(("term", "best"), [("presence", 1), ("size", 2), ("motion", 3)])
def test_each_weight_counts_what_it_says(term: str, best: int) -> None:
    joints = np.repeat(walkers(frames=40), 4, axis=0)
    joints[..., 0] += 900 * np.arange(4, dtype=np.float32)[:, None, None]
    joints[[0, 2, 3], :10] = 0
    joints[2, ..., :2] *= 2
    middle = np.median(joints[3, 10:], axis=0)
    joints[3, 10:, :, :2] = (middle + 1.2 * (joints[3, 10:] - middle))[..., :2]
    none = {"presence": 0.0, "size": 0.0, "motion": 0.0, "closeness": 0.0}
    chosen = kept(posed(joints_MTJ3=joints), people=1, prominence=Prominence(**{**none, term: 1.0}, lively=1.0))
    assert same_people(chosen, joints) == [best]


def test_the_facts_say_why_these_people_were_kept() -> None:
    joints = fight()
    choice = kept(posed(joints_MTJ3=joints), prominence=Prominence(size=2.0)).people_choice
    assert (choice["found"], choice["candidates"], len(choice["kept"])) == (4, 4, 2)
    for reason in (*choice["kept"], choice["next"]):
        expected = 1.5 * reason["presence"] + 2 * reason["size"] + reason["motion"] + reason["closeness"]
        assert reason["score"] == pytest.approx(expected, abs=1e-3)
    assert choice["kept"][1]["score"] >= choice["next"]["score"]
    (sample,) = Pack()(embedded(people_choice=choice))
    assert sample.facts["people_choice"] == choice
    alone = kept(posed(), prominence=Prominence())
    assert alone.people_choice["next"] is None
    assert kept(posed()).people_choice == {}
    assert "people_choice" not in next(Pack()(embedded())).facts


def test_the_choice_rejects_no_clip_that_others_would_cover() -> None:
    joints = fight()
    joints[2:, 15:] = 0  # who fights is seen in a few frames at the beginning
    item = posed(joints_MTJ3=joints)
    settings = {"person_presence": 0.05, "prominence": Prominence(presence=0.0)}
    assert 0 in same_people(kept(item, **settings), joints) or 1 in same_people(kept(item, **settings), joints)
    assert rejection(item, confident_frames_share=0.0, people=1, **settings | {"motion": 9.0}).reason == "no_motion"


def test_equals_are_kept_in_the_trackers_order() -> None:
    joints = np.repeat(walkers(frames=30), 3, axis=0)
    assert same_people(kept(posed(joints_MTJ3=joints), prominence=Prominence()), joints) == [0, 0]  # all are alike


def test_fingerprints_do_not_know_of_it_where_it_is_not_used() -> None:
    before = [{"name": "select", "people": 2}]
    assert upgraded(before) == [{"name": "filter_people", "people": 2, "prominence": None}]
    assert as_format_1(upgraded(before)) == before
    used = [{"name": "filter_people", "prominence": configuration(Prominence())}]
    assert as_format_1(used)[0]["prominence"] == {
        "presence": 1.5,
        "size": 1.0,
        "motion": 1.0,
        "closeness": 1.0,
        "lively": 0.2,
    }


@pytest.mark.parametrize("wrong", [{"presence": -1.0}, {"lively": 0.0}])
def test_weights_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weights are 0 or more"):
        Prominence(**wrong)


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
        "prominence": None,
    }
