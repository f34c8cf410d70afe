"""Differences of two estimators on samples whose joints are moved by known amounts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from posecap.joints import JOINT_KINDS, LAYOUTS, joint_kind
from posecap.types import PartName, Sample
from tests import ROOT, built
from tests.programs import program
from tmor_train.data import read_shards

FRAMES, SIGMA, KEPT = 200, 0.1, 0.8
NAMES = LAYOUTS["coco17"].names


@pytest.fixture(scope="module")
def estimators() -> ModuleType:
    return program(ROOT / "benchmarks/estimators.py")


def standing(sample: Sample, seed: int) -> Sample:
    """Two people who stand still, far from each other, as large as 100 pixels."""
    place = np.random.default_rng(seed).normal(size=(2, 1, 17, 2)) * 60 + np.array([[[[300, 300]]], [[[1500, 300]]]])
    joints = np.ones((2, FRAMES, 17, 3), np.float32)
    joints[..., :2] = place
    return replace(sample, joints_MTJ3=joints)


def erring(sample: Sample, radius_M: list[float], seed: int) -> Sample:
    """The same people in the other order, with lasting noise of SIGMA radii, and the left wrists not seen."""
    random = np.random.default_rng(seed)
    joints = sample.joints_MTJ3.copy()
    noise = random.normal(size=(2, FRAMES, 17, 2))
    for t in range(1, FRAMES):
        noise[:, t] = KEPT * noise[:, t - 1] + math.sqrt(1 - KEPT**2) * noise[:, t]
    joints[..., :2] += SIGMA * noise * np.array(radius_M)[:, None, None, None]
    joints[:, :, NAMES.index("left_wrist")] = 0
    return replace(sample, joints_MTJ3=joints[::-1].copy())


def radius(joints_TJ3: np.ndarray) -> float:
    xy = joints_TJ3[0, :, :2].astype(np.float64)
    return float(np.linalg.norm(xy - xy.mean(0), axis=1).mean())


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Datasets of three clips by two estimators, the second of which errs."""
    first, second = (tmp_path_factory.mktemp("estimators") / name for name in ("first", "second"))
    known = [standing(one, at) for at, one in enumerate(built.samples(3, people=2, frames=FRAMES))]
    built.build(first, {PartName("train", 0): known})
    others = [erring(one, [radius(p) for p in one.joints_MTJ3], at) for at, one in enumerate(known)]
    built.build(second, {PartName("train", 0): others})
    return first, second


def test_the_spread_and_the_memory_of_differences_are_found(estimators: ModuleType, roots: tuple[Path, Path]) -> None:
    kinds, people = estimators.compared(*roots)
    assert people == 6
    assert set(kinds) == set(JOINT_KINDS) - {"trunk"}
    for name in ("head", "shoulder", "knee"):
        away = np.concatenate(kinds[name].away)
        assert float(away.std()) == pytest.approx(SIGMA, rel=0.15)
        figures = estimators.figures(kinds[name])
        assert figures.error == pytest.approx(SIGMA / math.sqrt(2), rel=0.15)
        assert figures.far < 0.01
        assert figures.memory == pytest.approx(-1 / math.log(KEPT) / FRAMES, rel=0.15)
        assert figures.unseen == (0, 0)
    assert estimators.figures(kinds["wrist"]).unseen == pytest.approx((0, 0.5))


def test_other_people_are_not_compared(estimators: ModuleType) -> None:
    one = np.ones((1, 4, 17, 3), np.float32)
    one[..., :2] = np.random.default_rng(0).normal(size=(17, 2)) * 50
    away = one + np.array([400, 0, 0], np.float32)
    assert list(estimators.matched(one, away)) == []
    ((person, other, found),) = estimators.matched(one, np.concatenate([away, one + np.float32(1)]))
    assert (person, other) == (0, 1)
    assert found == pytest.approx(radius(one[0]), rel=1e-3)


def test_probes_across_datasets_that_differ_fall_apart(estimators: ModuleType, roots: tuple[Path, Path]) -> None:
    """Features that tell labels apart in the first dataset, and say the opposite in the second."""
    motions = read_shards(roots[0])
    labels = np.array([0, 0, 1, 1] * 3)
    twelve = motions.select(np.arange(12) % 3)
    keys = np.array([f"k{number:02d}" for number in range(12)])
    clips = replace(twelve.clips, key_N=keys, label_N=labels)
    twelve = replace(twelve, clips=clips, classes=("a", "b"))
    features = np.where(labels[:, None] == 0, 1.0, -1.0).astype(np.float32) + np.zeros((12, 4), np.float32)
    features += np.random.default_rng(1).normal(size=features.shape).astype(np.float32) * 0.1
    said = estimators.probed(features, -features, twelve, twelve)
    assert said.startswith("(12 clips, 2 labels): ")
    assert "first to first 100.0%" in said
    assert "first to second 0.0%" in said
    assert "second to second 100.0%" in said


def test_folds_have_of_each_label_as_many(estimators: ModuleType) -> None:
    assert estimators.folds(np.array([1, 0, 1, 1, 0])).tolist() == [0, 0, 1, 2, 1]


def test_the_program_prints_a_row_for_each_kind_of_joint(
    estimators: ModuleType, roots: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    estimators.main([str(roots[0]), str(roots[1])])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 people in the same clips of both"
    assert [line.split()[0] for line in lines[2:]] == [kind for kind in JOINT_KINDS if kind != "trunk"]
    assert all(joint_kind(name) in {line.split()[0] for line in lines[2:]} for name in NAMES)
