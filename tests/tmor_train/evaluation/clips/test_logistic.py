"""Raw coordinates by hand and by plain loops, and the baseline as a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecap.joints import LAYOUTS
from tests import gestures
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.configuration import changed
from tmor_train.data import Clip, from_clips
from tmor_train.evaluation.clips.config import RawConfig
from tmor_train.evaluation.clips.logistic import logistic, raw_coordinates
from tmor_train.evaluation.task import NoTask
from tmor_train.recipes import recipe
from tmor_train.results import read_result, read_scores
from tmor_train.training.runs import RunError

NAMES = LAYOUTS["unik17"].names
LEFT, RIGHT = NAMES.index("left_hip"), NAMES.index("right_hip")


def clip(people: int, frames: int, *, seed: int = 0, dimensions: int = 2) -> Clip:
    values = np.random.default_rng(seed).uniform(0, 300, (people, frames, 17, dimensions + 1)).astype(np.float32)
    values[..., -1] = 1
    size = {"width": 400.0, "height": 200.0} if dimensions == 2 else {}
    return Clip(key=f"c{seed}", joints_MTJC=values, layout="unik17", label="walk", **size)


def test_a_clip_by_hand() -> None:
    """The hips stand at (100, 60) and go 20 to the right; one joint is 40 to their right and 10 above."""
    values = np.zeros((1, 2, 17, 3), np.float32)
    values[0, :, :, :2] = (100, 60)
    values[0, :, LEFT, :2], values[0, :, RIGHT, :2] = (90, 70), (110, 50)
    values[0, :, 0, :2] = (140, 50)
    values[0, 1, :, 0] += 20
    values[0, :, :, 2] = 0  # never seen, which counts for nothing
    motions = from_clips([Clip(key="c", joints_MTJC=values, layout="unik17", width=400, height=200)])
    for centre, way in (("frame", 0.0), ("first", 20 / 400)):
        config = RawConfig(frames=2, centre=centre)  # type: ignore[arg-type]
        found = raw_coordinates(motions, config, people=1)
        assert (found.shape, found.dtype) == ((1, 2 * 17 * 2), np.float32)
        joints = found.reshape(2, 17, 2)
        np.testing.assert_allclose(joints[0, 0], [0.1, -0.05], atol=1e-7)
        np.testing.assert_allclose(joints[1, 0], [0.1 + way, -0.05], atol=1e-7)
        np.testing.assert_allclose(joints[0, LEFT], [-0.025, 0.05], atol=1e-7)


@pytest.mark.parametrize("centre", ["frame", "first"])
def test_two_people_stand_relative_to_the_first_ones_hips(centre: Any) -> None:
    made = [clip(2, 63, seed=1), clip(1, 5, seed=2)]
    found = raw_coordinates(from_clips(made), RawConfig(centre=centre), people=2).reshape(2, 2, 32, 17, 2)
    for number, one in enumerate(made):
        frames = one.joints_MTJC.shape[1]
        for t in range(32):
            frame = round(t / 31 * (frames - 1))
            hips = one.joints_MTJC[0, 0 if centre == "first" else frame, :, :2]
            middle = (hips[LEFT] + hips[RIGHT]) / 2
            for person in range(2):
                wanted = np.zeros((17, 2))  # nobody is there
                if person < len(one.joints_MTJC):
                    wanted = (one.joints_MTJC[person, frame, :, :2] - middle) / (400, 200)
                np.testing.assert_allclose(found[number, person, t], wanted, atol=1e-6)


def test_joints_in_space_stay_in_metres() -> None:
    one = clip(1, 3, seed=3, dimensions=3)
    found = raw_coordinates(from_clips([one]), RawConfig(frames=3), people=1).reshape(3, 17, 3)
    joints_TJ3 = one.joints_MTJC[0, :, :, :3]
    wanted = joints_TJ3 - (joints_TJ3[:, LEFT] + joints_TJ3[:, RIGHT])[:, None] / 2
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_the_baseline_is_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "gestures", gestures.benchmark())
    config = changed(recipe("logistic"), ["task.benchmark=gestures", "task.folder=anywhere"])
    assert logistic(config, tmp_path / "run") == tmp_path / "run"
    result, scores = read_result(tmp_path / "run"), read_scores(tmp_path / "run")
    assert (result.mode, result.checkpoint, result.seed) == ("logistic", None, 0)
    assert result.counts == {"train": 12, "test": 6}
    assert result.chosen == {"solver": "lbfgs", "setting": 1.0}
    assert scores.key_N.tolist() == [f"test-{number}" for number in range(6)]
    assert result.metrics["top1"] == (scores.scores_NK.argmax(1) == scores.label_N).mean()
    with pytest.raises(RunError, match="holds a run"):
        logistic(config, tmp_path / "run")
    with pytest.raises(NoTask, match="--benchmark NAME"):
        logistic(changed(config, ["task.benchmark=none"]), tmp_path / "other")
    assert not (tmp_path / "other").exists()
