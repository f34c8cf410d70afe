"""Training of a detector on windows, from the start or from its newest checkpoint.

What is drawn at random is a function of seed and step, so that a run that continues from a checkpoint does what the
first would have done, to the last bit on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tmor_train.data.arrays import Numbers
from tmor_train.data.hash_rng import permutation, seed_of
from tmor_train.evaluation.detection.detector import Detector, padded
from tmor_train.evaluation.detection.windows import RecordingWindows
from tmor_train.training.checkpoint import Checkpoints
from tmor_train.training.metric_logger import MetricLogger
from tmor_train.training.optimizer import NonFiniteError, Optimizer, lr_ratio
from tmor_train.training.pretrain import RunError
from tmor_train.training.progress import Progress
from tmor_train.training.signals import Stop, Stopped

_DROPOUT, _VIEWS, _ORDER = 1, 2, 3
_KEPT = 1  # checkpoints of a run; they hold nothing that the last one lacks

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of logits (N, K, T), labels (N, T, K) bool and valid frames (N, T) bool."""


class DetectorTraining:
    """The epochs of one detector that remain.

    Args:
        kept: features (256, T') of each window, where the trunk does not change; None: they are computed each time.
        folder: of the metrics and the checkpoints; training continues from a checkpoint that it holds.
    """

    def __init__(
        self,
        detector: Detector,
        windows: RecordingWindows,
        kept: Sequence[Tensor] | None,
        *,
        loss: Loss,
        seed: int,
        folder: Path,
    ) -> None:
        self.detector, self.windows, self.kept, self.loss = detector, windows, kept, loss
        self.config, self.seed, self.folder, self.step = detector.config, seed, folder, 0
        head = list(detector.head.parameters())
        trunk = [parameter for parameter in detector.trunk.parameters() if parameter.requires_grad]
        self.optimizer = Optimizer(self.config.optimizer, (head, self.config.head_lr_ratio), (trunk, 1.0))
        self._generator = torch.Generator(detector.encoder.device)
        self.per_epoch = -(-len(windows.length_W) // self.config.batch)
        self.steps = self.per_epoch * self.config.epochs
        self.checkpoints = Checkpoints(folder / "checkpoints", _KEPT)
        if self.checkpoints.all():
            self._take(self.checkpoints.latest()[1]["detector"])
        self.progress = Progress(steps=self.steps, done=self.step)
        self.stop = Stop()

    def fit(self) -> Detector:
        """Train to the end; returns the detector in evaluation mode.

        Raises:
            RunError: a loss is not finite.
            Stopped: the process was asked to stop; the step it was in is saved.
        """
        with MetricLogger(self.folder) as logger, self.stop:
            logger.log("start", self.step, {"windows": len(self.windows.length_W), "steps": self.steps})
            while self.step < self.steps:
                self._epoch(logger)
            logger.log("done", self.step, self.progress.metrics())
        return self.detector.eval()

    def _epoch(self, logger: MetricLogger) -> None:
        epoch, losses = self.step // self.per_epoch, []
        order = permutation(self.seed, epoch, _ORDER, count=len(self.windows.length_W))
        for begin in range(self.step % self.per_epoch * self.config.batch, len(order), self.config.batch):
            index_N = order[begin : begin + self.config.batch]
            losses.append(self._train(index_N))
            words = f"epoch {epoch + 1}/{self.config.epochs}"
            if self.step % self.config.log_steps == 0:
                logger.log("step", self.step, {"epoch": epoch, "loss": float(losses[-1])})
            self.progress.step(clips=len(index_N), waited=0.0, words=words)
            if self.stop.asked or self.step % self.config.checkpoint_steps == 0 or self.step == self.steps:
                self._save()
            if self.stop.asked:
                raise Stopped
        # Steps before a run was resumed are not in its metrics.
        mean = float(torch.stack(losses).mean())
        logger.log("epoch", self.step, {"epoch": epoch, "loss": mean} | self.progress.metrics())
        if (epoch + 1) % max(self.config.epochs // 10, 1) == 0:
            self.progress.log(f"epoch {epoch + 1}/{self.config.epochs}  loss {mean:.4f}")

    def _train(self, index_N: Numbers) -> Tensor:
        """One step; its loss."""
        config, detector = self.config, self.detector
        detector.head.train()
        detector.trunk.train(config.statistics == "adapting")
        torch.manual_seed(seed_of(self.seed, _DROPOUT, self.step))
        self._generator.manual_seed(seed_of(self.seed, _VIEWS, self.step))
        ratio = lr_ratio(self.step, config.schedule, steps_per_epoch=self.per_epoch, epochs=config.epochs)
        self.optimizer.zero_grad(lr_ratio=ratio)
        device = detector.encoder.device
        if self.kept is None:
            features = detector.features(self.windows, index_N, config.augment, self._generator)
        else:
            features = padded([self.kept[number] for number in index_N.tolist()], device)
        length_N = self.windows.length_W[index_N]
        valid_NT = torch.arange(int(length_N.max())) < torch.from_numpy(length_N)[:, None]
        logits_NKT = detector(features, length_N.tolist())
        loss = self.loss(logits_NKT, self.windows.labels(index_N).to(device), valid_NT.to(device))
        torch.autograd.backward(loss)
        try:
            self.optimizer.step(loss)
        except NonFiniteError as error:
            raise RunError(f"step {self.step} was not taken: {error}; lower train.optimizer.lr") from error
        self.step += 1
        return loss.detach()

    def _save(self) -> None:
        self.checkpoints.save(
            self.step,
            {
                "detector": {
                    "step": self.step,
                    "network": self.detector.state_dict(),
                    "optimizers": self.optimizer.state_dicts(),
                }
            },
        )

    def _take(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.detector.load_state_dict(state["network"])
        self.optimizer.load_state_dicts(state["optimizers"])
