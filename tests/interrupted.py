"""Compares a pre-training run with one that is stopped before a step and resumed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tmor_train.training.checkpoint import Checkpoints
from tmor_train.training.config import PretrainConfig
from tmor_train.training.pretrain import pretrain, resume
from tmor_train.training.train_state import TrainState


def straight_and_resumed(
    config: PretrainConfig, folder: Path, monkeypatch: pytest.MonkeyPatch, *, dies_before: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last checkpoints of an undisturbed run and of one that stops before step ``dies_before`` and is resumed.

    The runs are written to ``folder/straight`` and ``folder/stopped``.
    """
    pretrain(config, folder / "straight")
    train = TrainState.train_step

    def dying(self: TrainState, batches: Sequence[Any], **settings: Any) -> Any:
        if self.step == dies_before:
            raise KeyboardInterrupt
        return train(self, batches, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "train_step", dying)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, folder / "stopped")
    resume(folder / "stopped")
    straight, again = (Checkpoints(folder / run / "checkpoints").latest()[1] for run in ("straight", "stopped"))
    return straight, again


def assert_same_bytes(straight: Mapping[str, Any], again: Mapping[str, Any], *, steps: int) -> None:
    """Both checkpoints are after ``steps`` steps, with equal losses, weights and queue, byte for byte."""
    assert straight["learner"]["step"] == again["learner"]["step"] == steps
    assert straight["losses"] == again["losses"]
    for part in ("encoder", "ema", "objective"):
        one, other = straight["learner"][part], again["learner"][part]
        assert one.keys() == other.keys()
        assert all(value.numpy().tobytes() == other[key].numpy().tobytes() for key, value in one.items())
