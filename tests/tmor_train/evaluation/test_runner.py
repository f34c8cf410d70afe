"""Measurements as results in a run's folder, none of them made twice."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import gestures
from tmor_train.configuration import as_json
from tmor_train.data.provenance import Inputs
from tmor_train.evaluation.clips.config import LogisticConfig, ProbeConfig
from tmor_train.evaluation.config import StartConfig
from tmor_train.evaluation.encoders import Source
from tmor_train.evaluation.runner import (
    Trial,
    TrialOutput,
    clip_output,
    result_of,
    run_trials,
    seed_folders,
    summary,
)
from tmor_train.evaluation.task import Task
from tmor_train.metrics.accuracy import wilson
from tmor_train.results import Result, read_result, read_scores
from tmor_train.training.runs import RunError

CONFIG = LogisticConfig(recipe="logistic", about="made up")
# Of two clips of each class: bow 1 of 2, raise 2 of 2, stand 0 of 2.
SCORES = np.eye(3, dtype=np.float32)[[0, 1, 0, 2, 1, 1]]
TASK = gestures.task(primary_metric="mean_per_class")


def found(**changes: object) -> TrialOutput:
    return clip_output(**{"task": TASK, "scores_NK": SCORES, "source": Source("a.pt", "ab"), "trained": 7, **changes})  # type: ignore[arg-type]


def trial(name: str, asked: list[Path], *, seed: int = 0) -> Trial:
    def measure(place: Path) -> TrialOutput:
        asked.append(place)
        return found()

    return Trial(mode="probe", name=name, seed=seed, labels=0.1, measure=measure)


def test_a_result_has_the_figures_of_its_scores() -> None:
    made = trial("x", [], seed=4)
    result = result_of(found(chosen={"setting": 1.0}, notes=("note",)), made, task=TASK, config=CONFIG, seconds=1.26)
    assert TASK.test.clips.label_N.tolist() == [0, 1, 2, 0, 1, 2]
    assert result.metrics == {"top1": 0.5, "mean_per_class": 0.5}
    assert result.per_class == (0.5, 1.0, 0.0)
    assert (result.primary_metric, result.benchmark, result.protocol) == ("mean_per_class", "gestures", "cross_subject")
    assert (result.mode, result.seed, result.labels, result.recipe) == ("probe", 4, 0.1, "logistic")
    assert (result.checkpoint, result.checkpoint_sha256) == ("a.pt", "ab")
    assert result.counts == {"train": 7, "test": 6}
    assert (result.seconds, result.chosen) == (1.3, {"setting": 1.0})
    assert result.notes == ("which clips the encoder was pre-trained on, its checkpoint does not record", "note")
    assert result.intervals == {"top1": wilson(0.5, 6)}
    assert result.config == as_json(CONFIG)
    assert result_of(found(source=None), made, task=TASK, config=CONFIG, seconds=0).checkpoint is None


def test_a_class_without_a_measured_clip_has_no_figure(tmp_path: Path) -> None:
    task = gestures.task()
    less = replace(task, test=task.test.select([0, 1, 3]))
    output = found(task=less, scores_NK=SCORES[[0, 1, 3]])
    result = result_of(output, trial("x", []), task=less, config=CONFIG, seconds=0)
    assert result.per_class == (0.5, 1.0, None)
    assert result.metrics == {"top1": 2 / 3, "mean_per_class": 0.75}


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    asked: list[Path] = []
    trials = [trial("", asked), trial("b/c", asked)]
    assert run_trials(trials, task=TASK, config=CONFIG, folder=tmp_path) == tmp_path
    assert asked == [tmp_path, tmp_path / "b/c"]
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    (tmp_path / "b/c/result.json").unlink()
    run_trials(trials, task=TASK, config=CONFIG, folder=tmp_path, begun="before")
    assert asked == [tmp_path, tmp_path / "b/c", tmp_path / "b/c"]
    assert (tmp_path / "result.json").read_bytes() == kept[tmp_path / "result.json"]
    scores = read_scores(tmp_path / "b/c")
    assert np.array_equal(scores.scores_NK, SCORES)
    assert scores.key_N.tolist() == TASK.test.clips.key_N.tolist()
    assert scores.label_N.tolist() == TASK.test.clips.label_N.tolist()


def test_each_result_is_saved_before_the_next_is_measured(tmp_path: Path) -> None:
    def fail(place: Path) -> TrialOutput:
        assert read_result(tmp_path / "a").mode == "probe"
        raise RunError("the second fails")

    trials = [trial("a", []), Trial(mode="probe", name="b", seed=0, measure=fail)]
    with pytest.raises(RunError, match="the second fails"):
        run_trials(trials, task=TASK, config=CONFIG, folder=tmp_path)
    assert not (tmp_path / "b/result.json").exists()


def test_a_run_is_begun_once(tmp_path: Path) -> None:
    folder = tmp_path / "deep/run"
    run_trials([], task=TASK, config=CONFIG, folder=folder)
    assert json.loads((folder / "config.json").read_text()) == {"kind": "LogisticConfig", **as_json(CONFIG)}
    before = (folder / "config.json").read_bytes()
    with pytest.raises(
        RunError, match=r"already holds a run; resume it with `tmor_train resume .*run`, or choose another --output"
    ):
        run_trials([], task=TASK, config=LogisticConfig(recipe="other", about=""), folder=folder)
    run_trials([], task=TASK, config=LogisticConfig(recipe="other", about=""), folder=folder, begun="before")
    assert (folder / "config.json").read_bytes() == before


def test_a_run_whose_files_were_read_otherwise_is_not_resumed(tmp_path: Path) -> None:
    """Its results, and checkpoints of what it trained, are of other clips."""
    changed = replace(TASK, benchmark=replace(TASK.benchmark, reading=2))
    run_trials([trial("", [])], task=TASK, config=CONFIG, folder=tmp_path / "old")
    assert read_result(tmp_path / "old").reading == 1
    with pytest.raises(RunError, match=r"read the files of \w+ otherwise"):
        run_trials([], task=changed, config=CONFIG, folder=tmp_path / "old", begun="before")
    run_trials([trial("", [])], task=changed, config=CONFIG, folder=tmp_path / "new")
    run_trials([], task=changed, config=CONFIG, folder=tmp_path / "new", begun="before")
    assert read_result(tmp_path / "new").reading == 2
    with pytest.raises(RunError, match="otherwise"):
        run_trials([], task=TASK, config=CONFIG, folder=tmp_path / "new", begun="before")


def test_a_run_goes_on_with_the_files_that_it_began_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Else some of its results would be of other data, or of another encoder."""
    weights = tmp_path / "encoder.pt"
    weights.write_bytes(b"one")
    config = ProbeConfig(recipe="probe", about="", start=StartConfig(weights=str(weights)))
    task = replace(TASK, inputs=Inputs({"set/a.mat": "ab" * 32}))
    folder = tmp_path / "run"
    run_trials([trial("first", [])], task=task, config=config, folder=folder)
    known = json.loads((folder / "inputs.json").read_text())
    assert known["files"] == {"set/a.mat": "ab" * 32, str(weights): hashlib.sha256(b"one").hexdigest()}

    def go_on(name: str, task: Task = task) -> None:
        run_trials([trial("first", []), trial(name, [])], task=task, config=config, folder=folder, begun="before")

    go_on("second")
    other = replace(TASK, inputs=Inputs({"set/a.mat": "cd" * 32}))
    with pytest.raises(RunError, match=r"began with: set/a\.mat was abababababab and is cdcdcdcdcdcd; restore it, or"):
        go_on("third", other)
    go_on("second", other)  # nothing is left to measure
    weights.write_bytes(b"another")
    with pytest.raises(RunError, match=r"encoder\.pt was .* and is"):
        go_on("third")
    (folder / "inputs.json").write_text("{")
    with pytest.raises(RunError, match=r"inputs\.json cannot be read"):
        go_on("third")
    (folder / "inputs.json").unlink()
    go_on("third")
    assert "recorded no hashes of its data" in caplog.text


def test_several_seeds_have_folders_of_their_own() -> None:
    assert seed_folders((3,)) == [(3, "")]
    assert seed_folders((3,), "linear-5") == [(3, "linear-5")]
    assert seed_folders((0, 2)) == [(0, "seed-0"), (2, "seed-2")]
    assert seed_folders((0, 2), "linear-5") == [(0, "linear-5/seed-0"), (2, "linear-5/seed-2")]


def result(seed=0, **changes):
    values = {
        "benchmark": "tsu",
        "protocol": "CS",
        "mode": "detect_probe",
        "recipe": "detect_probe",
        "checkpoint": "scratch",
        "metrics": {"nonzero": 0.2, "all_classes": 0.1},
        "primary_metric": "nonzero",
        "counts": {"test": 185},
    }
    return Result(seed=seed, **(values | changes))


def test_figures_of_frames_have_their_words():
    lines = list(summary([result()]))
    assert lines[0] == "tsu CS, 185 measured"
    assert [head.strip() for head in lines[1].split("  ")[-2:]] == [
        "frame mAP, classes above 0",
        "frame mAP, all classes",
    ]
    assert lines[2].split() == ["detect_probe", "scratch", "20.00", "%", "10.00", "%"]
    assert lines[3] == "  the paper's table has frame mAP, classes above 0"


def test_figures_of_events_say_their_mean_overlap_and_matching():
    found = result(
        metrics={"action_0.5": 0.9, "video_0.5_one_to_one": 0.8}, primary_metric="action_0.5", mode="events_finetune"
    )
    lines = list(summary([found]))
    assert [head.strip() for head in lines[1].split("  ")[-2:]] == ["mAP_a 0.5", "mAP_v 0.5 1:1"]
    assert lines[-1] == "  the paper's table has mAP_a 0.5"


def test_several_seeds_have_an_interval_and_other_modes_a_row_of_their_own():
    lines = list(summary([result(0), result(1, metrics={"nonzero": 0.4}), result(mode="detect_probe_sdtcn")]))
    assert len(lines) == 5
    assert "30.00 ±" in lines[2]
    assert "detect_probe_sdtcn" in lines[3]
