"""Clips that were pre-trained on are known again, and whether their captions said what they show."""

import numpy as np
import pytest
import torch

from tmor_train.data import Clip, MotionSet, from_clips
from tmor_train.data.seen import SeenClips, class_in_caption


def clip(key: str, label: str | None, *captions: str, frames: int = 3) -> Clip:
    joints = np.ones((1, frames, 17, 3), np.float32)
    return Clip(key=key, joints_MTJC=joints, layout="coco17", width=9, height=9, label=label, captions=captions)


@pytest.fixture
def motions() -> MotionSet:
    return from_clips(
        [
            clip("a", "jumpingJacks", "somebody moves", "A person is doing jumping jacks."),
            clip("b", "squat", "bends the knees and stands up again"),
            clip("c", "squat", "bends the knees and stands up again"),
            clip("d", "squat", "a person in a park"),
            clip("e", "wave", "a person at home"),
            clip("f", "clap", "a person at home"),
            clip("g", None, "a person at home"),
            clip("h", "bow"),
        ]
    )


def test_a_caption_says_the_class_by_its_words_or_by_being_that_of_the_class_alone(motions: MotionSet) -> None:
    assert motions.clips.key_N[class_in_caption(motions)].tolist() == ["a", "b", "c"]
    assert class_in_caption(motions.select([7, 6, 2, 0])).tolist() == [False, False, False, True]


def test_clips_are_known_again_and_others_are_not(motions: MotionSet) -> None:
    seen = SeenClips.of(motions.select([0, 1, 3]), captions=True)
    assert seen.count(motions) == (3, 1)  # of b, whose sentence no other clip of the set has, nothing is known
    assert SeenClips.of(motions.select([0, 1, 3]), captions=False).count(motions) == (3, 0)
    for other in (clip("a", "jumpingJacks", frames=4), clip("a", "squat"), clip("x", "jumpingJacks")):
        assert seen.count(from_clips([other])) == (0, 0)
    both = seen.joined(SeenClips.of(motions.select([3, 4]), captions=True))
    assert both.count(motions) == (4, 1)
    assert SeenClips.from_state(both.state()).count(motions) == (4, 1)


@pytest.mark.parametrize(
    "state",
    [
        3,
        {},
        {"clips": torch.zeros(2, dtype=torch.int64)},
        {"clips": torch.zeros(2), "named": torch.zeros(2)},
        {"clips": torch.zeros(2, dtype=torch.int64), "named": torch.zeros(2, dtype=torch.bfloat16)},
    ],
)
def test_a_damaged_record_is_named(state: object) -> None:
    with pytest.raises(ValueError, match="record of the clips that were trained on is damaged"):
        SeenClips.from_state(state)
