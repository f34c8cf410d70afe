from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import acted
from tmor_train import tasks
from tmor_train.benchmarks import BENCHMARKS, FrameParts
from tmor_train.configuration import changed
from tmor_train.evaluation import trainer
from tmor_train.evaluation.detection.config import DetectorConfig, EventConfig
from tmor_train.evaluation.detection.detect import (
    detect,
    detect_events,
    events_of,
    grouped,
    metrics_of,
    per_class,
    runs,
    smoothed,
    suppressed,
)
from tmor_train.evaluation.encoders import EncoderNotFoundError
from tmor_train.evaluation.task import frame_task_of
from tmor_train.metrics.average_precision import Proposal, event_ap, frame_ap, iou
from tmor_train.recipes import recipe
from tmor_train.results import read_frame_scores, read_result, results_under
from tmor_train.training.runs import RunError, Stopped

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _acted(monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "acted", acted.benchmark())


def config(name="detect_cpu", *changes):
    settings = ("task.benchmark=acted", "task.folder=x", "start.weights=scratch", "windows.length=16")
    return changed(recipe(name), [*settings, "train.device=cpu", *changes])


def test_a_probe_learns_what_is_there_to_learn_and_keeps_what_it_measured(tmp_path):
    tasks.run(config("detect_cpu", "start.scratch.sampling.normalise.screen=frame"), tmp_path / "run")
    result, scores = read_result(tmp_path / "run"), read_frame_scores(tmp_path / "run")
    test = acted.benchmark().read(tmp_path, "only").test
    assert result.counts == {"train": 3, "test": 2, "frames": 51}
    assert (result.mode, result.primary_metric, result.classes) == ("detect_probe", "nonzero", acted.CLASSES)
    labels = np.concatenate([test.labels(0), test.labels(1)])
    chance = labels[:, :2].mean()
    assert result.metrics["nonzero"] > 0.85 > 2 * chance
    assert result.metrics["all_classes"] == pytest.approx(result.metrics["nonzero"] * 2 / 3)
    assert result.per_class[2] is None
    assert scores.offset_R.tolist() == [0, 30, 51]
    assert np.array_equal(scores.label_FK, labels)
    again = frame_ap([(scores.scores_FK.astype(np.float32), scores.label_FK)])
    assert again.nonzero == pytest.approx(result.metrics["nonzero"], abs=0.02)


def test_figures_are_those_of_all_frames_and_charades_has_its_25_times(tmp_path, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "charades", acted.benchmark("charades"))
    detect(config("detect_probe", "task.benchmark=charades", "train.epochs=1"), tmp_path / "run")
    result, scores = read_result(tmp_path / "run"), read_frame_scores(tmp_path / "run")
    known = acted.benchmark().read(tmp_path, "only").test.events
    found, marks = [], []
    for number in range(2):
        scores_TK = scores.recording(number)[0].astype(np.float32)
        for j in range(25):
            time = j / 25 * len(scores_TK)
            found.append(scores_TK[int(time)])
            events = zip(known.recording_E, known.class_E, known.begin_E, known.end_E, strict=True)
            shown = {int(label) for recording, label, b, e in events if recording == number and b <= time <= e}
            marks.append([label in shown for label in range(3)])
    expected = frame_ap([(np.array(found), np.array(marks))]).all_classes
    assert result.metrics["points25"] == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [(), ("train.trains=all", "train.statistics=adapting", "train.scale=none")])
def test_a_run_that_was_stopped_ends_as_it_would_have(tmp_path, monkeypatch, changes):
    some = config("detect_cpu", "train.epochs=2", "train.head=tgm", "train.checkpoint_steps=2", *changes)
    detect(some, tmp_path / "whole")

    class AskedOften(trainer.Stop):
        calls = 0

        @property
        def asked(self):
            AskedOften.calls += 1
            return AskedOften.calls > 2

        @asked.setter
        def asked(self, value):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "Stop", AskedOften)
        with pytest.raises(Stopped):
            detect(some, tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    tasks.resume(tmp_path / "run")
    whole, resumed = (read_frame_scores(tmp_path / name).scores_FK for name in ("whole", "run"))
    assert np.array_equal(whole, resumed)


def test_what_is_measured_is_not_measured_again(tmp_path):
    some = config("detect_probe", "seeds=0,1", "train.epochs=1")
    detect(some, tmp_path)
    first = (tmp_path / "seed-0" / "result.json").read_bytes()
    (tmp_path / "seed-1" / "result.json").unlink()
    tasks.resume(tmp_path)
    assert (tmp_path / "seed-0" / "result.json").read_bytes() == first
    assert read_result(tmp_path / "seed-1").seed == 1
    with pytest.raises(RunError, match="holds a run"):
        detect(some, tmp_path)


def test_a_frozen_trunk_stays_and_a_tuned_one_changes(tmp_path):
    kept = {}
    for name, changes in (
        ("kept", ("train.scale=none",)),
        ("adapting", ("train.scale=none", "train.augment=[]", "train.statistics=adapting")),
        ("tuned", ("train.scale=none", "train.trains=all", "train.statistics=frozen")),
    ):
        detect(config("detect_cpu", "train.epochs=1", *changes), tmp_path / name)
        path = next((tmp_path / name / "checkpoints").glob("step-*.pt"))
        kept[name] = torch.load(path, weights_only=True)["detector"]["network"]
    weight, running = "trunk.l2.t_unit.conv.weight", "trunk.l2.t_unit.bn.running_mean"
    assert torch.equal(kept["kept"][weight], kept["adapting"][weight])
    assert not torch.equal(kept["kept"][running], kept["adapting"][running])
    assert not torch.equal(kept["kept"][weight], kept["tuned"][weight])
    assert torch.equal(kept["kept"][running], kept["tuned"][running])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(RunError, match=r"lower train\.optimizer\.lr"):
        detect(config("detect_probe", "train.optimizer.lr=1e30", "train.batch=1"), tmp_path)


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(EncoderNotFoundError, match="--from"):
        detect(replace(config(), start=recipe("detect_cpu").start), tmp_path)
    with pytest.raises(ValueError, match="scale=standard"):
        detect(config("detect_cpu", "train.trains=all"), tmp_path)
    with pytest.raises(ValueError, match=r"context above 1"):
        detect(config("detect_finetune", "train.context=2"), tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        computed = f"{detect.__module__}.window_features"
        patched.setattr(computed, lambda *words, **options: pytest.fail("features were computed"))
        for windows in ("windows.stride=8", "windows.last=shifted", "windows.length=18"):
            with pytest.raises(ValueError, match=r"windows that do not overlap .* multiple of 4"):
                detect(config("detect_cpu", "train.context=2", windows), tmp_path)
    with pytest.raises(ValueError, match="CropResize"):
        changed(DetectorConfig(), ['augment=[{"kind": "CropResize"}]'])


def test_recordings_in_space_are_projected_for_an_encoder_of_pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "acted", acted.benchmark(dimensions=3))
    detect(config("detect_cpu", "train.epochs=1"), tmp_path)
    assert "joints in space were projected on x and y" in read_result(tmp_path).notes


def test_a_trunk_of_pictures_is_tuned_on_joints_in_space(tmp_path, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "acted", acted.benchmark(dimensions=3))
    changes = ("windows.length=16", "transfer.how=trunk", "transfer.people=1", "train.epochs=1")
    detect(config("detect_finetune_cpu", *changes), tmp_path)
    result = read_result(tmp_path)
    assert any("weights of the encoder were taken over" in note for note in result.notes)
    assert result.mode == "detect_finetune"


def test_the_part_held_out_never_looks_at_the_test_part(tmp_path, monkeypatch):
    parts = acted.benchmark().read(tmp_path, "only")
    poisoned = replace(acted.recordings((30, 21), first=4), motions=parts.test.motions.select([0, 0]))
    made = replace(acted.benchmark(), read=lambda folder, protocol: FrameParts(parts.train, poisoned))
    for name in ("as it is", "other test part"):
        detect(config("detect_probe", "task.part=holdout", "train.epochs=1"), tmp_path / name)
        monkeypatch.setitem(BENCHMARKS, "acted", made)
    one, other = (read_result(tmp_path / name) for name in ("as it is", "other test part"))
    assert one.metrics == other.metrics
    assert one.counts["test"] == 1


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
    assert [(one.begin, one.end, one.label) for one in grouped] == [(10, 20, 0)]
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
    tasks.run(config, tmp_path)
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


@pytest.mark.slow
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


SCORES = np.array([[0.9, 0.1, 0.0], [0.5, 0.4, 0.1], [0.1, 0.3, 0.6], [0.7, 0.1, 0.2], [0.2, 0.8, 0.0]])


def test_frames_that_are_not_background_become_events():
    first, second = grouped(SCORES, threshold=0.4)
    assert (first.begin, first.end, first.label) == (1, 3, 0)  # 0.35 twice: the first class wins
    assert first.confidence == pytest.approx(0.35)
    assert (second.begin, second.end, second.label, second.confidence) == (4, 5, 0, 0.8)
    assert grouped(SCORES[:1]) == []


def test_overlap():
    assert iou(Proposal(0, 4, 0, 1), Proposal(2, 6, 0, 1)) == pytest.approx(2 / 6)
    assert iou(Proposal(0, 2, 0, 1), Proposal(2, 6, 0, 1)) == 0


def test_suppression_is_within_a_class_and_keeps_the_surest():
    sure, near = Proposal(0, 10, 0, 0.9), Proposal(1, 10, 0, 0.8)
    other, far = Proposal(1, 10, 1, 0.7), Proposal(8, 20, 0, 0.6)
    assert suppressed([far, other, near, sure]) == [sure, other, far]
    assert suppressed([Proposal(0, 2, 0, 0.9), Proposal(0, 1, 0, 0.8)], overlap=0.5)[1].end == 1  # 0.5 is not above


def test_runs_of_each_class_at_several_thresholds():
    found = per_class(SCORES, thresholds=(0.25, 0.7), overlap=0.5)
    assert [(p.begin, p.end, p.label) for p in found] == [(4, 5, 0), (2, 3, 1), (1, 3, 0)]


def test_runs_of_true_frames():
    assert runs(np.array([1, 1, 0, 0, 1], np.bool_)) == [(0, 2), (4, 5)]
    assert runs(np.zeros(3, np.bool_)) == []
