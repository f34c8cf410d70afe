"""Measurements as results in a run's folder, none of them made twice."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests import gestures
from tmor_train.configuration import as_json
from tmor_train.evaluation.clips.config import LogisticConfig
from tmor_train.evaluation.encoders import Source
from tmor_train.evaluation.trials import Found, Trial, begin, measured, of_each_seed, result_of
from tmor_train.results import read_result, read_scores
from tmor_train.training.runs import RunError

CONFIG = LogisticConfig(recipe="logistic", about="made up")
# Of two clips of each class: bow 1 of 2, raise 2 of 2, stand 0 of 2.
SCORES = np.eye(3, dtype=np.float32)[[0, 1, 0, 2, 1, 1]]
TASK = gestures.task(primary_metric="mean_per_class")


def found(**changes: object) -> Found:
    return Found(**{"scores_NK": SCORES, "source": Source("a.pt", "ab"), "trained": 7, **changes})  # type: ignore[arg-type]


def trial(name: str, asked: list[Path], *, seed: int = 0) -> Trial:
    def measure(place: Path) -> Found:
        asked.append(place)
        return found()

    return Trial(mode="probe", name=name, seed=seed, labels=0.1, measure=measure)


def test_a_result_has_the_figures_of_its_scores() -> None:
    made = trial("x", [], seed=4)
    result = result_of(found(chosen={"setting": 1.0}, notes=("note",)), made, task=TASK, config=CONFIG, seconds=1.26)
    assert TASK.measured.clips.label_N.tolist() == [0, 1, 2, 0, 1, 2]
    assert result.metrics == {"top1": 0.5, "mean_per_class": 0.5}
    assert result.per_class == (0.5, 1.0, 0.0)
    assert (result.primary_metric, result.benchmark, result.protocol) == ("mean_per_class", "gestures", "cross_subject")
    assert (result.mode, result.seed, result.labels, result.recipe) == ("probe", 4, 0.1, "logistic")
    assert (result.checkpoint, result.checkpoint_sha256) == ("a.pt", "ab")
    assert result.counts == {"train": 7, "test": 6}
    assert (result.seconds, result.chosen, result.notes) == (1.3, {"setting": 1.0}, ("note",))
    assert result.config == as_json(CONFIG)
    assert result_of(found(source=None), made, task=TASK, config=CONFIG, seconds=0).checkpoint is None


def test_a_class_without_a_measured_clip_has_no_figure(tmp_path: Path) -> None:
    task = gestures.task()
    less = task.measured.select([0, 1, 3])
    result = result_of(
        found(scores_NK=SCORES[[0, 1, 3]]),
        trial("x", []),
        task=gestures.Task(benchmark=task.benchmark, protocol="p", train=task.train, measured=less),
        config=CONFIG,
        seconds=0,
    )
    assert result.per_class == (0.5, 1.0, None)
    assert result.metrics == {"top1": 2 / 3, "mean_per_class": 0.75}


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    asked: list[Path] = []
    trials = [trial("", asked), trial("b/c", asked)]
    assert measured(trials, task=TASK, config=CONFIG, folder=tmp_path) == tmp_path
    assert asked == [tmp_path, tmp_path / "b/c"]
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    (tmp_path / "b/c/result.json").unlink()
    measured(trials, task=TASK, config=CONFIG, folder=tmp_path)
    assert asked == [tmp_path, tmp_path / "b/c", tmp_path / "b/c"]
    assert (tmp_path / "result.json").read_bytes() == kept[tmp_path / "result.json"]
    scores = read_scores(tmp_path / "b/c")
    assert np.array_equal(scores.scores_NK, SCORES)
    assert scores.key_N.tolist() == TASK.measured.clips.key_N.tolist()
    assert scores.label_N.tolist() == TASK.measured.clips.label_N.tolist()


def test_each_result_is_saved_before_the_next_is_measured(tmp_path: Path) -> None:
    def fail(place: Path) -> Found:
        assert read_result(tmp_path / "a").mode == "probe"
        raise RunError("the second fails")

    trials = [trial("a", []), Trial(mode="probe", name="b", seed=0, measure=fail)]
    with pytest.raises(RunError, match="the second fails"):
        measured(trials, task=TASK, config=CONFIG, folder=tmp_path)
    assert not (tmp_path / "b/result.json").exists()


def test_a_run_is_begun_once(tmp_path: Path) -> None:
    folder = tmp_path / "deep/run"
    begin(CONFIG, folder, "new")
    assert json.loads((folder / "config.json").read_text()) == {"kind": "LogisticConfig", **as_json(CONFIG)}
    before = (folder / "config.json").read_bytes()
    with pytest.raises(RunError, match=r"holds a run; go on with `tmor_train resume .*run`, or choose another --out"):
        begin(LogisticConfig(recipe="other", about=""), folder, "new")
    begin(LogisticConfig(recipe="other", about=""), folder, "before")
    assert (folder / "config.json").read_bytes() == before


def test_several_seeds_have_folders_of_their_own() -> None:
    assert of_each_seed((3,)) == [(3, "")]
    assert of_each_seed((3,), "linear-5") == [(3, "linear-5")]
    assert of_each_seed((0, 2)) == [(0, "seed-0"), (2, "seed-2")]
    assert of_each_seed((0, 2), "linear-5") == [(0, "linear-5/seed-0"), (2, "linear-5/seed-2")]
