"""Linear probes as a run: what is measured beside them, and that the encoder stays as it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import gestures
from tmor_train import kinds
from tmor_train.benchmarks import BENCHMARKS, Parts
from tmor_train.configuration import changed
from tmor_train.evaluation.clips import cached as cached_module
from tmor_train.evaluation.clips.config import ProbeConfig
from tmor_train.evaluation.clips.linear_probe import probe
from tmor_train.evaluation.encoders import NoEncoder
from tmor_train.pretrained.encoder import CannotUse
from tmor_train.recipes import recipe
from tmor_train.results import read_result, read_scores
from tmor_train.training.checkpoint import BadCheckpoint
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


def test_probing_changes_nothing_in_the_encoder(
    demo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a weight nor a running statistic, of the encoder that was asked."""
    kept: list[tuple[Any, dict[str, torch.Tensor]]] = []
    began = cached_module.started

    def watched(*values: Any, **settings: Any) -> Any:
        encoder, source = began(*values, **settings)
        kept.append((encoder, {name: tensor.clone() for name, tensor in encoder.network.state_dict().items()}))
        return encoder, source

    monkeypatch.setattr(cached_module, "started", watched)
    probe(config(f"start.weights={demo_run}", "beside=nothing", "look.mirrored=on"), tmp_path / "run")
    ((encoder, before),) = kept
    after = encoder.network.state_dict()
    assert any("running_var" in name for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    result = read_result(tmp_path / "run")
    assert (result.checkpoint, result.checkpoint_sha256) == ("step-000000008.pt (averaged)", encoder.sha256)


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
    some = config("linear.descent.epochs=3", "linear.descent.drops=2", "beside=nothing", name="probe_sgd")
    probe(some, tmp_path / "run")
    assert read_result(tmp_path / "run").chosen["solver"] == "sgd"
    assert list(read_result(tmp_path / "run").chosen["held_out"]) == ["0.1", "3"]


def test_what_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(NoEncoder, match="--from"):
        probe(config("start.weights=none"), tmp_path / "run")
    for kind, changes in (
        (BadCheckpoint, f"start.weights={tmp_path / 'nowhere'}"),
        (CannotUse, "start.scratch.encoder.channels=3"),
    ):
        with pytest.raises(kind):
            kinds.run(config(changes), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    kinds.run(config("beside=nothing"), tmp_path / "run")
    with pytest.raises(RunError, match="holds a run"):
        kinds.run(config(), tmp_path / "run")
