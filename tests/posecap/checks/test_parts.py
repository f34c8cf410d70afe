"""A sample against itself."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from posecap.checks.parts import check_sample
from posecap.types import Sample
from tests import building


def found(sample: Sample, *, split: str = "train") -> list[str]:
    return list(check_sample(sample, split=split, tolerance_seconds=0.05))


def with_facts(changes: Mapping[str, Any]) -> Sample:
    return building.sample(frames=6, fps=4.0, facts=dict(changes))


def test_a_sound_sample_has_no_problems() -> None:
    assert found(building.sample(people=2, frames=6)) == []
    assert found(building.sample(frames=1)) == []
    assert found(building.sample(layout="unik17")) == []


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"clip_id": "other"}, "facts say clip_id is 'other'"),
        ({"split": "val"}, "facts say split is 'val', the sample says 'train'"),
        ({"people": 2}, "facts say people is 2, the sample says 1"),
        ({"frames": 7}, "facts say frames is 7, the sample says 6"),
        ({"joints": 13}, "facts say joints is 13, the sample says 17"),
        ({"layout": "penn13"}, "joints has 17 joints, layout penn13 has 13"),
        ({"layout": "horse"}, "layout 'horse' is not known"),
        ({"pts_span": [0.0, 1.0]}, "facts say pts_span is (0.0, 1.0), pts runs from 0.0 to 1.25"),
        ({"end_seconds": 1.1}, "skeleton covers 0.000 to 1.250 s of a clip of 0.000 to 1.100 s"),
        ({"start_seconds": 0.1}, "skeleton covers 0.000 to 1.250 s of a clip of 0.100 to 1.500 s"),
        ({"video_span": [0.0, 1.6]}, "video vector covers 0.000 to 1.600 s of a clip of 0.000 to 1.500 s"),
        ({"video_span": [1.0, 0.5]}, "video vector covers 1.000 to 0.500 s"),
        ({"video_span": None}, "facts lack start_seconds, end_seconds, pts_span or video_span"),
        ({"start_seconds": "soon"}, "facts lack start_seconds"),
    ],
)
def test_facts_that_disagree(facts: dict[str, Any], what: str) -> None:
    assert what in found(with_facts(facts))[0]


def test_times_may_lie_a_little_outside_the_span() -> None:
    assert found(with_facts({"end_seconds": 1.21, "video_span": [0.0, 1.25]})) == []


def test_not_finite_and_not_increasing() -> None:
    sample = building.sample(frames=4)
    for name in ("joints_MTJ3", "pts_T", "video_D", "text_CD"):
        array = getattr(sample, name).copy()
        array.flat[1] = np.nan
        assert f"{name} holds NaN or infinity" in found(replace(sample, **{name: array}))
    still = sample.pts_T.copy()
    still[2] = still[1]
    assert found(replace(sample, pts_T=still)) == ["pts does not strictly increase"]


def test_nothing_in_it() -> None:
    sample = building.sample(frames=2, facts={"people": 0})
    empty = replace(sample, joints_MTJ3=sample.joints_MTJ3[:0])
    assert found(empty) == ["there is nothing in it: joints (0, 2, 17, 3), video (6,)"]
