from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import acted
from tmor_train import kinds
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.configuration import changed
from tmor_train.evaluation.frames.config import EventConfig
from tmor_train.evaluation.frames.events import detect_events, events_of, metrics_of, smoothed
from tmor_train.evaluation.frames.task import frame_task_of
from tmor_train.metrics.event_ap import event_ap
from tmor_train.recipes import recipe
from tmor_train.results import read_frame_scores, read_result, results_under

torch.set_num_threads(1)


@pytest.mark.parametrize("smoothing", ["median", "mean"])
def test_smoothing_goes_over_frames_alone_and_repeats_the_ends(smoothing):
    scores = np.random.default_rng(0).random((9, 3), np.float32)
    found = smoothed(scores, EventConfig(smoothing=smoothing, width=5))
    rule = np.median if smoothing == "median" else np.mean
    for t in range(9):
        near = [min(max(t + step, 0), 8) for step in range(-2, 3)]
        np.testing.assert_allclose(found[t], rule(scores[near], axis=0), atol=1e-6)


def test_without_smoothing_scores_stay():
    scores = np.random.default_rng(0).random((9, 3), np.float32)
    assert np.array_equal(smoothed(scores, EventConfig(smoothing="none")), scores)


def test_a_frame_of_noise_is_no_event_once_smoothed():
    scores = np.tile(np.array([0.9, 0.1], np.float32), (30, 1))
    scores[4] = [0.1, 0.9]
    scores[10:20] = [0.2, 0.8]
    grouped = events_of(scores, EventConfig(width=3))
    assert [(one.begin, one.end, one.number) for one in grouped] == [(10, 20, 0)]
    assert grouped[0].confidence == pytest.approx(0.8)
    assert len(events_of(scores, EventConfig(smoothing="none"))) == 2
    several = events_of(scores, EventConfig(width=3, proposals="per_class", thresholds=(0.05, 0.5)))
    assert [(one.begin, one.end) for one in several] == [(10, 20), (0, 30)]


@pytest.mark.parametrize("changes", [{"width": 4}, {"thresholds": ()}, {"threshold": 1.0}, {"background": 0.0}])
def test_settings_that_mean_nothing_are_refused(changes):
    with pytest.raises(ValueError, match=r"odd|thresholds"):
        EventConfig(**changes)


def test_events_are_found_where_they_are_and_their_figures_are_those_of_the_kept_scores(tmp_path, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "acted", acted.benchmark(dimensions=3))
    settings = ["task.benchmark=acted", "task.folder=x", "start.weights=scratch", "windows.stride=8"]
    more = ["windows.length=16", "train.device=cpu", "train.cache=float32", "events.width=3", "train.epochs=20"]
    config = changed(recipe("detect_events_cpu"), [*settings, *more])
    kinds.run(config, tmp_path)
    result, scores = read_result(tmp_path), read_frame_scores(tmp_path)
    assert scores.scores_FK.shape == (51, 4)
    assert scores.label_FK.shape == (51, 3)
    np.testing.assert_allclose(scores.scores_FK.sum(1), 1, atol=1e-2)
    test = acted.benchmark(dimensions=3).read(tmp_path, "only").test
    found = [events_of(scores.recording(n)[0].astype(np.float32), config.events) for n in range(2)]
    truths = [test.timelines.truths(n) for n in range(2)]
    assert sum(map(len, truths)) == 3
    names = {"many_to_one": "", "one_to_one": "_one_to_one"}
    for matching, after in names.items():
        for one in event_ap(found, truths, classes=3, matching=matching):
            assert result.metrics[f"action_{one.overlap:g}{after}"] == pytest.approx(one.map_action, abs=0.02)
            assert result.metrics[f"video_{one.overlap:g}{after}"] == pytest.approx(one.map_video, abs=0.02)
    assert len(result.metrics) == 12
    assert (result.mode, result.primary_metric) == ("events_probe", "action_0.5")
    assert result.metrics["action_0.1"] > 0.4


def test_settings_are_chosen_on_train_recordings_that_were_held_out(tmp_path, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "acted", acted.benchmark())
    settings = ["task.benchmark=acted", "task.folder=x", "start.weights=scratch", "windows.stride=8"]
    more = ["windows.length=16", "train.device=cpu", "train.epochs=20", "events.settings=chosen", "events.widths=3,9"]
    config = changed(recipe("detect_events_cpu"), [*settings, *more, "seeds=0,1"])
    detect_events(config, tmp_path)
    result = read_result(tmp_path / "seed-0")
    held = result.chosen["held_out"]
    assert list(held) == ["grouped 3", "grouped 9", "per_class 3", "per_class 9"]
    best = max(held, key=held.get)
    assert f"{result.chosen['proposals']} {result.chosen['width']}" == best
    assert read_result(tmp_path / "seed-1").chosen == result.chosen
    assert [found.name for found, _ in results_under(tmp_path)] == ["seed-0", "seed-1"]
    task = frame_task_of(config.task)
    kept = read_frame_scores(tmp_path / "seed-0")
    scores = [kept.recording(n)[0].astype(np.float32) for n in range(2)]
    proposals, width = best.split()
    again = metrics_of(task, scores, replace(config.events, proposals=proposals, width=int(width)), {})
    assert result.metrics["action_0.1"] == pytest.approx(again.metrics["action_0.1"], abs=0.05)
