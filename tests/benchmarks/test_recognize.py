"""The benchmark of recognition: nobody is recognised by examples of the same person."""

import csv
from types import ModuleType

import numpy as np
import pytest

from tests import ROOT
from tests.programs import program
from tmor_train.data import Clip


@pytest.fixture(scope="module")
def recognize() -> ModuleType:
    return program(ROOT / "benchmarks" / "recognize.py")


def test_every_clip_is_listed_once_and_every_person_does_one_thing(recognize: ModuleType) -> None:
    with recognize.PEOPLE.open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["clip"] for row in rows}) == len(rows) == 27
    assert len({(row["person"], row["clip"].split("/")[0]) for row in rows}) == 12


def test_nobody_is_recognised_by_their_own_clips(recognize: ModuleType) -> None:
    joints = np.ones((1, 2, 17, 3), np.float32)
    windows = tuple(Clip(key=str(n), joints_MTJC=joints, layout="coco17", width=9.0, height=9.0) for n in range(5))
    seen = recognize.Footage(
        windows=windows,
        video_N=np.arange(5),
        labels=("a", "a", "a", "b", "b"),
        people=("1", "1", "2", "3", "4"),
        names=tuple("vwxyz"),
    )
    taken = []

    def scorer(examples: dict[str, np.ndarray], vectors_ND: np.ndarray) -> np.ndarray:
        taken.append({name: of[:, 0].tolist() for name, of in examples.items()})
        return np.array([[0.0, 1.0]])

    assert recognize.left_out(seen, np.arange(5, dtype=np.float32)[:, None], scorer) == ["b"] * 5
    assert taken == [
        {"a": [2.0], "b": [3.0, 4.0]},
        {"a": [2.0], "b": [3.0, 4.0]},
        {"a": [0.0, 1.0], "b": [3.0, 4.0]},
        {"a": [0.0, 1.0, 2.0], "b": [4.0]},
        {"a": [0.0, 1.0, 2.0], "b": [3.0]},
    ]


def test_both_scorers_name_the_class_of_a_clear_case(recognize: ModuleType) -> None:
    examples = {"a": np.array([[3.0, 1.0]], np.float32), "b": np.array([[3.0, -1.0]], np.float32)}
    for scores_NK in (
        recognize.by_mean(examples, np.array([[3.0, 0.5]], np.float32)),
        recognize.by_ridge(examples, np.array([[3.0, 0.5]], np.float32), ridge=0.1),
    ):
        assert scores_NK.argmax() == 0
