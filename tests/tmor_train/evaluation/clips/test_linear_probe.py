"""Linear probes as a run: what is measured beside them, and that the encoder stays as it is. Their classifiers against
scikit-learn and plain loops, and how their setting is chosen."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posecap.joints import LAYOUTS
from tests import gestures
from tmor_train import tasks
from tmor_train.benchmarks import BENCHMARKS, Parts
from tmor_train.configuration import changed
from tmor_train.data import Clip, MotionSet, from_clips
from tmor_train.data.loader import permutation
from tmor_train.data.provenance import SeenClips
from tmor_train.evaluation.clips import linear_probe
from tmor_train.evaluation.clips.config import DescentConfig, ExactConfig, LinearConfig, ProbeConfig, RawConfig
from tmor_train.evaluation.clips.linear_probe import (
    EncoderFeatures,
    Labelled,
    Linear,
    cached_features,
    fit_best,
    fitted,
    logistic,
    probe,
    probe_scores,
    raw_coordinates,
    settings_of,
)
from tmor_train.evaluation.config import HoldOut, StartConfig, TTAConfig
from tmor_train.evaluation.encoders import EncoderNotFoundError, Source, seen_notes
from tmor_train.evaluation.runner import summary
from tmor_train.evaluation.task import TaskError, held_out, task_of
from tmor_train.metrics.accuracy import wilson
from tmor_train.pretrained.encoder import UnusableEncoderError
from tmor_train.recipes import recipe
from tmor_train.results import read_result, read_scores, results_under
from tmor_train.training.checkpoint import CheckpointError
from tmor_train.training.runs import RunError

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _gestures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "gestures", gestures.benchmark())


def config(*changes: str, name: str = "probe") -> ProbeConfig:
    known = ("task.benchmark=gestures", "task.folder=anywhere", "start.weights=scratch", "start.frames=8")
    quick = ("start.scratch.encoder.backbone=stgcn", "device=cpu", "workers=0", "linear.exact.strengths=0.1,1.0")
    made: ProbeConfig = changed(recipe(name), [*known, *quick, *changes])
    return made


def test_raw_coordinates_are_measured_beside_a_probe(tmp_path: Path) -> None:
    probe(config(), tmp_path / "run")
    learned, raw = read_result(tmp_path / "run"), read_result(tmp_path / "run/logistic")
    assert (learned.mode, learned.checkpoint) == ("probe", "scratch")
    assert (raw.mode, raw.checkpoint) == ("logistic", None)
    assert list(learned.chosen["held_out"]) == ["0.1", "1"]
    assert learned.classes == gestures.CLASSES
    assert read_scores(tmp_path / "run").key_N.tolist() == read_scores(tmp_path / "run/logistic").key_N.tolist()
    probe(config("beside=nothing"), tmp_path / "alone")
    assert not (tmp_path / "alone/logistic").exists()
    assert read_result(tmp_path / "alone").metrics == learned.metrics


def test_the_same_network_with_new_weights_is_measured_beside_a_trained_one(demo_run: Path, tmp_path: Path) -> None:
    probe(config(f"start.weights={demo_run}"), tmp_path / "run")
    found = {result.mode: result for _, result in results_under(tmp_path / "run")}
    assert set(found) == {"probe", "probe_scratch", "logistic"}
    assert found["probe_scratch"].checkpoint == "scratch"
    scores = [read_scores(tmp_path / "run" / name).scores_NK for name in ("", "scratch")]
    assert not np.allclose(*scores)
    assert all(result.intervals == {"top1": wilson(result.metrics["top1"], 6)} for result in found.values())
    heads, *rows = list(summary(list(found.values())))[1:5]
    assert heads.endswith("Top-1, 95 %")
    assert all(row.endswith(" %") and " to " in row for row in rows)


def test_clips_that_the_encoder_was_trained_on_are_told() -> None:
    task = task_of(config().task)
    some = from_clips([replace(task.test.clip(number), captions=("somebody moves",)) for number in (0, 1, 2)])
    seen = SeenClips.of(some, captions=True)
    source = Source("step-000000008.pt (ema)", "ab" * 32, seen=seen)
    assert seen_notes(task, source, None) == ("the encoder was pre-trained on 3 of the 6 measured clips",)
    one = task.train.clip(0)
    named = SeenClips.of(from_clips([replace(one, captions=(f"a person does {one.label}",))]), captions=True)
    assert seen_notes(task, replace(source, seen=seen.joined(named)), None)[1] == (
        "the encoder was pre-trained on 1 of the 12 train clips, 1 of them with captions that say their class"
    )
    assert seen_notes(task, Source("scratch", None), None) == seen_notes(task, None, None) == ()
    (unknown,) = seen_notes(task, Source("posetics.pt (online)", "cd" * 32), None)
    assert unknown == "which clips the encoder was pre-trained on, its checkpoint does not record"


def test_probing_changes_nothing_in_the_encoder(
    demo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a weight nor a running statistic, of the encoder that was asked."""
    kept: list[tuple[Any, dict[str, torch.Tensor]]] = []
    began = linear_probe.load_encoder

    def watched(*values: Any, **settings: Any) -> Any:
        encoder, source = began(*values, **settings)
        kept.append((encoder, {name: tensor.clone() for name, tensor in encoder.network.state_dict().items()}))
        return encoder, source

    monkeypatch.setattr(linear_probe, "load_encoder", watched)
    probe(config(f"start.weights={demo_run}", "beside=nothing", "look.mirrored=on"), tmp_path / "run")
    ((encoder, before),) = kept
    after = encoder.network.state_dict()
    assert any("running_var" in name for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    result = read_result(tmp_path / "run")
    assert (result.checkpoint, result.checkpoint_sha256) == ("step-000000008.pt (ema)", encoder.sha256)


def test_a_hold_out_never_looks_at_the_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = gestures.parts()
    spoilt = gestures.benchmark(Parts(known.train, gestures.motions(("stand",), seed=9, key="other")))
    for name in ("as it is", "other test part"):
        probe(config("task.part=holdout", "task.holdout.share=0.25", "beside=nothing"), tmp_path / name)
        monkeypatch.setitem(BENCHMARKS, "gestures", spoilt)
    one, other = (tmp_path / name for name in ("as it is", "other test part"))
    assert np.array_equal(read_scores(one).scores_NK, read_scores(other).scores_NK)
    assert set(read_scores(one).key_N.tolist()) < set(known.train.clips.key_N.tolist())
    assert read_result(one).counts == {"train": 9, "test": 3}
    assert "not on the test part" in read_result(one).notes[0]


def test_the_test_part_takes_no_part_in_what_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = gestures.parts()
    turned = gestures.motions(("stand", "bow", "raise") * 2, seed=1, key="test")
    probe(config("beside=nothing"), tmp_path / "one")
    monkeypatch.setitem(BENCHMARKS, "gestures", gestures.benchmark(Parts(known.train, turned)))
    probe(config("beside=nothing"), tmp_path / "other")
    assert read_result(tmp_path / "one").chosen == read_result(tmp_path / "other").chosen


def test_by_descent_too(tmp_path: Path) -> None:
    some = config("linear.descent.epochs=3", "linear.descent.milestones=2", "beside=nothing", name="probe_sgd")
    probe(some, tmp_path / "run")
    assert read_result(tmp_path / "run").chosen["solver"] == "sgd"
    assert list(read_result(tmp_path / "run").chosen["held_out"]) == ["0.1", "3"]


def test_what_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EncoderNotFoundError, match="--from"):
        probe(config("start.weights=none"), tmp_path / "run")
    for kind, changes in (
        (CheckpointError, f"start.weights={tmp_path / 'nowhere'}"),
        (UnusableEncoderError, "start.scratch.encoder.channels=3"),
    ):
        with pytest.raises(kind):
            tasks.run(config(changes), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    tasks.run(config("beside=nothing"), tmp_path / "run")
    with pytest.raises(RunError, match="holds a run"):
        tasks.run(config(), tmp_path / "run")


torch.set_num_threads(1)
SEVERAL = LinearConfig(exact=ExactConfig(strengths=(0.01, 1.0)))
ONE = LinearConfig(exact=ExactConfig(strengths=(0.5,)))


def ends(motions: MotionSet) -> np.ndarray:
    """Where the first joint ends minus where it begins: the class, plainly."""
    clips = [motions.clip(number).joints_MTJC[0, :, 0, :2] for number in range(len(motions))]
    return np.array([joints[-1] - joints[0] for joints in clips], np.float32)


def test_each_part_keeps_its_features_and_labels() -> None:
    task = gestures.task(validation=gestures.motions(gestures.CLASSES, seed=5))
    found = cached_features(task, ends)
    np.testing.assert_array_equal(found.train.features_ND, ends(task.train))
    np.testing.assert_array_equal(found.train.label_N, task.train.clips.label_N)
    np.testing.assert_array_equal(found.test_ND, ends(task.test))
    assert found.validation is not None
    assert found.validation.label_N.tolist() == [0, 1, 2]
    few = found.few(np.array([4, 1]))
    np.testing.assert_array_equal(few.train.features_ND, ends(task.train)[[4, 1]])
    assert few.validation is None
    np.testing.assert_array_equal(few.test_ND, found.test_ND)


def test_a_setting_is_chosen_on_clips_held_out_of_the_train_part() -> None:
    task, holdout = gestures.task(), HoldOut(share=0.5, seed=3)
    found = cached_features(task, ends)
    scores_NK, settings = probe_scores(found, task, SEVERAL, holdout, seed=0)
    rest, held = held_out(task.train, holdout)
    metrics = {}
    for strength in (0.01, 1.0):
        linear = fitted(found.train.take(rest), SEVERAL, strength, classes=3, seed=0)
        right = linear.scores(found.train.features_ND[held]).argmax(1) == found.train.label_N[held]
        metrics[f"{strength:g}"] = float(right.mean())
    assert settings == {"solver": "lbfgs", "setting": settings["setting"], "held_out": metrics}
    best = max(metrics, key=lambda name: metrics[name])
    assert settings["setting"] == float(best)
    linear = fitted(found.train, SEVERAL, float(best), classes=3, seed=0)
    np.testing.assert_array_equal(scores_NK, linear.scores(found.test_ND))
    assert (scores_NK.argmax(1) == task.test.clips.label_N).all()


def test_a_validation_part_is_what_is_chosen_on() -> None:
    """Right and wrong labels of its clips are distinguished; clips of the train part would be right either way."""
    task = gestures.task(validation=gestures.motions(("raise",) * 3, seed=5))
    found = cached_features(task, ends)
    assert found.validation is not None
    for label, metric in ((1, 1.0), (0, 0.0)):
        asked = replace(found, validation=replace(found.validation, label_N=np.full(3, label)))
        _, settings = probe_scores(asked, task, SEVERAL, HoldOut(), seed=0)
        assert settings["held_out"] == {"0.01": metric, "1": metric}
        assert settings["setting"] == 0.01  # the first of equals


def test_one_setting_holds_nothing_out() -> None:
    task = gestures.task(1)  # a clip of each class, of which none can be held out
    _, settings = probe_scores(cached_features(task, ends), task, ONE, HoldOut(), seed=0)
    assert settings == {"solver": "lbfgs", "setting": 0.5}
    with pytest.raises(TaskError, match=r"no class has two clips .* name one of linear\.exact\.strengths"):
        probe_scores(cached_features(task, ends), task, SEVERAL, HoldOut(), seed=0)


@pytest.mark.parametrize(("weights", "times"), [("scratch", 3), ("run", 1)])
def test_features_are_found_once_for_each_encoder(
    weights: str, times: int, demo_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(config: StartConfig, *, seed: int, device: str) -> Any:
        asked.append(seed)
        return began(config, seed=seed, device=device)

    began = linear_probe.load_encoder
    monkeypatch.setattr(linear_probe, "load_encoder", counted)
    place = str(demo_run) if weights == "run" else weights
    start = changed(StartConfig(weights=place), ["scratch.encoder.backbone=stgcn", "scratch.sampling.frames=8"])
    features = EncoderFeatures(gestures.task(1), start, TTAConfig(), device="cpu", workers=0)
    first, source = features.for_seed(0)
    assert features.for_seed(0)[0] is first
    other, _ = features.for_seed(1)
    again, _ = features.for_seed(0)
    assert len(asked) == times
    assert (other is first) == (weights == "run")
    np.testing.assert_array_equal(first.test_ND, again.test_ND)
    assert np.array_equal(first.test_ND, other.test_ND) == (weights == "run")
    assert (source.sha256 is None) == (weights == "scratch")


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
    with pytest.raises(TaskError, match="--benchmark NAME"):
        logistic(changed(config, ["task.benchmark=none"]), tmp_path / "other")
    assert not (tmp_path / "other").exists()


torch.set_num_threads(1)


def drawn(count: int = 60, *, features: int = 5, classes: int = 3, seed: int = 0) -> Labelled:
    """Overlapping classes, features of different scales, and each class at least once."""
    rng = np.random.default_rng(seed)
    label_N = np.concatenate([np.arange(classes), rng.integers(0, classes, count - classes)])
    means = rng.normal(size=(classes, features))
    found = means[label_N] + rng.normal(0, 1.5, (count, features))
    return Labelled((found * np.geomspace(0.2, 5, features) + 1).astype(np.float32), label_N)


def exact(*strengths: float, scale: Any = "none") -> LinearConfig:
    return LinearConfig(solver="lbfgs", scale=scale, exact=ExactConfig(strengths=strengths, iterations=2000))


def top1(scores_NK: np.ndarray, label_N: np.ndarray) -> float:
    return float((scores_NK.argmax(1) == label_N).mean())


@pytest.mark.parametrize("strength", [0.001, 0.1, 1.0, 30.0])
def test_the_optimum_is_that_of_scikit_learn(strength: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    data = drawn()
    found = fitted(data, exact(strength), strength, classes=3, seed=0)
    known = linear_model.LogisticRegression(C=strength, tol=1e-10, max_iter=20_000)
    known.fit(data.features_ND.astype(np.float64), data.label_N)
    np.testing.assert_allclose(found.weight_KD, known.coef_, atol=2e-3 * np.abs(known.coef_).max())
    mine, theirs = (bias - bias.mean() for bias in (found.bias_K, known.intercept_))
    np.testing.assert_allclose(mine, theirs, atol=5e-3)


def test_scaling_is_part_of_the_weights() -> None:
    data = drawn()
    features_ND = np.concatenate([data.features_ND, np.full((60, 1), 7, np.float32)], 1)  # one that never changes
    scaled_ND = features_ND.copy()
    for column in range(5):
        values = features_ND[:, column].astype(np.float64)
        deviation = math.sqrt(sum((v - values.mean()) ** 2 for v in values) / len(values))
        scaled_ND[:, column] = (values - values.mean()) / deviation
    scaled_ND[:, 5] = 0
    folded = fitted(Labelled(features_ND, data.label_N), exact(1.0, scale="standard"), 1.0, classes=3, seed=0)
    plain = fitted(Labelled(scaled_ND, data.label_N), exact(1.0), 1.0, classes=3, seed=0)
    np.testing.assert_allclose(folded.scores(features_ND), plain.scores(scaled_ND), atol=1e-4)
    assert np.isfinite(folded.weight_KD).all()
    assert not folded.weight_KD[:, 5].any()


def test_scores_are_one_linear_layer() -> None:
    linear = Linear(np.array([[1, 2], [3, 4], [0, -1]], np.float32), np.array([0.5, 0, 1], np.float32))
    assert linear.scores(np.array([[1, 1], [2, 0]], np.float32)).tolist() == [[3.5, 7, 0], [2.5, 6, 1]]


def test_descent_follows_its_schedule() -> None:
    data, classes, seed, rate = drawn(11), 3, 4, 0.05
    config = LinearConfig(
        solver="sgd",
        scale="none",
        descent=DescentConfig(rates=(rate,), weight_decay=0.01, momentum=0.8, batch=4, epochs=5, milestones=(2, 4)),
    )
    found = fitted(data, config, rate, classes=classes, seed=seed)

    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, 5, generator=generator).double().numpy() * 0.01
    bias = np.zeros(classes)
    speed_weight, speed_bias = np.zeros_like(weight), np.zeros_like(bias)
    for epoch in range(5):
        now = {0: rate, 1: rate, 2: rate / 10, 3: rate / 10, 4: rate / 100}[epoch]
        order = permutation(seed, epoch, 0, count=11)
        for part in (order[:4], order[4:8], order[8:]):
            weight_grad, bias_grad = 0.01 * weight, 0.01 * bias
            for number in part:
                feature_D = data.features_ND[number].astype(np.float64)
                shares = np.exp(weight @ feature_D + bias)
                shares /= shares.sum()
                shares[data.label_N[number]] -= 1
                weight_grad = weight_grad + np.outer(shares, feature_D) / len(part)
                bias_grad = bias_grad + shares / len(part)
            speed_weight, speed_bias = 0.8 * speed_weight + weight_grad, 0.8 * speed_bias + bias_grad
            weight, bias = weight - now * speed_weight, bias - now * speed_bias
    np.testing.assert_allclose(found.weight_KD, weight, atol=1e-5)
    np.testing.assert_allclose(found.bias_K, bias, atol=1e-5)


def test_the_setting_is_chosen_on_the_hold_out_alone() -> None:
    """The metric only likes the held-out clips' labels; what the train part says of each setting plays no part."""
    data = drawn()
    fit, held = data.take(np.arange(0, 60, 2)), data.take(np.arange(1, 60, 2))
    asked: list[np.ndarray] = []
    metrics = iter([0.2, 0.7, 0.7])

    def metric(scores_NK: np.ndarray, label_N: np.ndarray) -> float:
        asked.append(label_N)
        linear = fitted(fit, config, (0.01, 1.0, 10.0)[len(asked) - 1], classes=3, seed=0)
        np.testing.assert_array_equal(scores_NK, linear.scores(held.features_ND))
        return next(metrics)

    config = exact(0.01, 1.0, 10.0)
    found = fit_best(data, [(fit, held)], config, classes=3, seed=0, metric=metric)
    assert [labels.tolist() for labels in asked] == [held.label_N.tolist()] * 3
    assert found.held_out == {0.01: 0.2, 1.0: 0.7, 10.0: 0.7}
    assert found.setting == 1.0  # the first of equals
    whole = fitted(data, config, 1.0, classes=3, seed=0)
    np.testing.assert_array_equal(found.linear.weight_KD, whole.weight_KD)  # in the end of all clips


def test_one_setting_needs_no_hold_out() -> None:
    found = fit_best(drawn(), [], exact(0.5), classes=3, seed=0, metric=top1)
    assert (found.setting, found.held_out) == (0.5, {})


def test_several_settings_without_a_hold_out_are_refused() -> None:
    with pytest.raises(ValueError, match="no hold-out to choose on"):
        fit_best(drawn(), [], exact(0.5, 1.0), classes=3, seed=0, metric=top1)


def test_settings_are_those_of_the_solver() -> None:
    config = LinearConfig(exact=ExactConfig(strengths=(2.0,)), descent=DescentConfig(rates=(0.3, 0.4)))
    assert settings_of(config) == (2.0,)
    assert settings_of(LinearConfig(solver="sgd", descent=config.descent)) == (0.3, 0.4)


def test_a_class_without_a_clip_has_a_score_too() -> None:
    data = drawn()
    two = data.take(np.flatnonzero(data.label_N != 1))
    found = fitted(two, exact(1.0), 1.0, classes=3, seed=0)
    assert found.weight_KD.shape == (3, 5)
    assert (found.scores(two.features_ND).argmax(1) != 1).all()
