"""The training loop of fine-tuning and of detection: epochs of steps, from the start or from the newest checkpoint.

Everything drawn at random is a function of seed and step. So a run that is resumed from a checkpoint ends with the same
weights as one that was not interrupted, on a CPU bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from tmor_train import legacy
from tmor_train.data.loader import seed_of
from tmor_train.encoder import EMA
from tmor_train.evaluation.config import TrainerConfig
from tmor_train.training.checkpoint import Checkpoints
from tmor_train.training.metric_logger import MetricLogger, Progress
from tmor_train.training.optimizer import NonFiniteError, Optimizer, lr_ratio
from tmor_train.training.runs import RunError, Stop, Stopped

_DROPOUT, _VIEWS = 1, 2  # purposes of random numbers; each has its own sequence

Batch = TypeVar("Batch", bound=Sized)


class Trainer(ABC, Generic[Batch]):
    """A network with a new head, its optimiser and, optionally, the moving average of its weights.

    ``step`` is the number of steps of the optimiser that were taken.

    Args:
        head: the parameters of the head; their learning rate is ``config.head_lr_ratio`` times that of ``trunk``.
        trunk: the other parameters that are trained; may be empty.
        average: momentum of the moving average (EMA) of weights and buffers over the steps, 0 to below 1; None: none.
    """

    config: TrainerConfig
    stored_as: ClassVar[str]
    """The key of the state in a checkpoint."""
    settings: ClassVar[str]
    """The field of the run's configuration that holds ``config``; errors name it."""

    def __init__(
        self,
        network: nn.Module,
        config: TrainerConfig,
        *,
        head: Sequence[nn.Parameter],
        trunk: Sequence[nn.Parameter],
        device: torch.device,
        seed: int,
        average: float | None = None,
    ) -> None:
        self.network, self.seed, self.step = network, seed, 0
        self.config = config
        self.optimizer = Optimizer(config.optimizer, (head, config.head_lr_ratio), (trunk, 1.0))
        self.ema = None if average is None else EMA(network, average, average_buffers=True)
        self.generator = torch.Generator(device)

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of a batch, and by name the sums over its members of values whose means over an epoch are
        logged.

        Augmentations draw from ``generator``, dropout from torch's own; both are seeded before.
        """

    def train_step(self, batch: Batch, *, lr_ratio: float) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of the optimiser and of the average; returns what :meth:`loss` gave, the loss detached.

        Args:
            lr_ratio: the learning rate as a multiple of the configured one.

        Raises:
            NonFiniteError: the loss or its gradient is NaN or infinite; no weight has changed.
        """
        torch.manual_seed(seed_of(self.seed, _DROPOUT, self.step))
        self.generator.manual_seed(seed_of(self.seed, _VIEWS, self.step))
        self.optimizer.zero_grad(lr_ratio=lr_ratio)
        loss, sums = self.loss(batch)
        torch.autograd.backward(loss)
        self.optimizer.step(loss)
        if self.ema is not None and self.step:
            self.ema.update(self.network)
        elif self.ema is not None:  # the average begins with the first step's weights
            self.ema.copy_from(self.network)
        self.step += 1
        return loss.detach(), sums

    def fit(
        self,
        batches: Callable[[int, int], Iterable[Batch]],
        *,
        per_epoch: int,
        folder: Path,
        counts: Mapping[str, int],
        report_epochs: int = 1,
    ) -> None:
        """Trains to the end of the last epoch.

        Args:
            batches: ``batches(epoch, first)`` are the batches of an epoch (from 0), from number ``first`` (from 0) on,
                so that a run that was stopped within an epoch goes on there.
            per_epoch: number of batches of an epoch, which is that of its steps.
            folder: for the log and the checkpoint; training resumes from a checkpoint that it holds.
            counts: numbers of what is trained on, by name, for the log.
            report_epochs: every so many epochs, and after the last, a line is printed and a checkpoint is written.

        Raises:
            RunError: a loss is not finite.
            CheckpointError: the checkpoint in ``folder`` cannot be read.
            Stopped: the process was asked to stop; the step it was in is saved.
        """
        config, checkpoints, stop = self.config, Checkpoints(folder / "checkpoints"), Stop()
        if checkpoints.all():
            self.load_state_dict(checkpoints.latest()[1][self.stored_as])
        steps = config.epochs * per_epoch
        progress = Progress(steps=steps, done=self.step)
        with MetricLogger(folder) as logger, stop:
            logger.log("start", self.step, {**counts, "steps": steps})
            for epoch in range(self.step // per_epoch, config.epochs):
                words, members, totals = f"epoch {epoch + 1}/{config.epochs}", 0, dict[str, Tensor]()
                for batch in batches(epoch, self.step % per_epoch):
                    loss, sums = self._scheduled_step(batch, per_epoch)
                    members += len(batch)
                    for name, total in ({"loss": loss * len(batch)} | sums).items():
                        totals[name] = totals.get(name, 0) + total
                    if self.step % config.log_steps == 0:
                        logger.log("step", self.step, {"epoch": epoch, "loss": float(loss)})
                    progress.step(clips=len(batch), waited=0.0, words=words)  # waiting for data is not measured here
                    asked = stop.asked
                    if asked or self.step % config.checkpoint_steps == 0:
                        checkpoints.save(self.step, {self.stored_as: self.state_dict()})
                    if asked:
                        raise Stopped
                # Steps before a run was resumed are not in its epoch's metrics.
                means = {name: float(total) / members for name, total in totals.items()}
                logger.log("epoch", self.step, {"epoch": epoch} | means | progress.metrics())
                if (epoch + 1) % report_epochs == 0 or epoch + 1 == config.epochs:
                    checkpoints.save(self.step, {self.stored_as: self.state_dict()})
                    progress.log(f"{words}  {self.words(means)}")
            logger.log("done", self.step, progress.metrics())

    def words(self, means: Mapping[str, float]) -> str:
        """The metrics of an epoch as text for the line that is printed."""
        return f"loss {means['loss']:.4f}"

    def _scheduled_step(self, batch: Batch, per_epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """A :meth:`train_step` with the learning rate of the schedule; RunError where it is not finite."""
        config = self.config
        ratio = lr_ratio(self.step, config.schedule, steps_per_epoch=per_epoch, epochs=config.epochs)
        try:
            return self.train_step(batch, lr_ratio=ratio)
        except NonFiniteError as error:
            raise RunError(f"step {self.step} was not taken: {error}; lower {self.settings}.optimizer.lr") from error

    def state_dict(self) -> dict[str, Any]:
        """All that changes in training, as tensors and plain values."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizers": self.optimizer.state_dicts(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes from a :meth:`state_dict` of the same configuration, also one of an earlier version."""
        state = legacy.train_state(state)
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dicts(state["optimizers"])
