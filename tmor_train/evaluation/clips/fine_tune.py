"""Fine-tuning: an encoder and a new Linear(256, K), trained together on labelled clips.

The epochs are a setting like others; what is measured is the network after the last one, and the test part is seen then
alone. A run that was stopped continues from its newest checkpoint: everything drawn at random is a function of seed and
step, so that it does what the first would have done, to the last bit on a CPU.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES, Backbone
from tmor_train.data import Loader, LoaderState, MotionBatch, MotionSet
from tmor_train.data.arrays import Floats
from tmor_train.data.hash_rng import seed_of
from tmor_train.encoder.momentum import EMA
from tmor_train.evaluation.clips.config import FewShotConfig, FineTuneConfig, TuneConfig
from tmor_train.evaluation.config import TTAConfig
from tmor_train.evaluation.encoders import encoder_name, load_encoder, tta_features
from tmor_train.evaluation.runner import Begun, Trial, TrialOutput, begin_run, run_trials, seed_folders
from tmor_train.evaluation.task import Task, task_of
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.training.checkpoint import Checkpoints
from tmor_train.training.device import autocast_of
from tmor_train.training.metric_logger import MetricLogger
from tmor_train.training.optimizer import NonFiniteError, Optimizer, lr_ratio
from tmor_train.training.pretrain import RunError
from tmor_train.training.progress import Progress
from tmor_train.training.signals import Stop, Stopped

_HEAD, _DROPOUT, _VIEWS = 0, 1, 2
_HEAD_DEVIATION = 0.01


class FineTuner:
    """A copy of an encoder with a new head, and all that changes as it is trained."""

    def __init__(self, encoder: Pretrained, config: TuneConfig, *, classes: int, seed: int) -> None:
        self.encoder, self.config, self.seed = encoder, config, seed
        network = copy.deepcopy(encoder.network).requires_grad_(config.trains == "all")
        torch.manual_seed(seed_of(seed, _HEAD))
        network.fc = nn.Linear(FEATURES, classes).to(encoder.device)
        nn.init.normal_(network.fc.weight, 0, _HEAD_DEVIATION)
        nn.init.zeros_(network.fc.bias)
        self.network: Backbone = network
        head = list(network.fc.parameters())
        trunk = [p for name, p in network.named_parameters() if p.requires_grad and not name.startswith("fc.")]
        self.optimizer = Optimizer(config.optimizer, (head, config.head_lr_ratio), (trunk, 1.0))
        self.ema = None if config.average is None else EMA(network, config.average, average_buffers=True)
        self.step = 0
        self._generator = torch.Generator(encoder.device)

    def train_step(self, batch: MotionBatch, *, lr_ratio: float) -> tuple[Tensor, Tensor]:
        """One step; the batch's loss, and how many of its clips were classified correctly.

        Raises:
            NonFiniteError: the loss or its gradient is NaN or infinite; no weight has changed.
        """
        config = self.config
        self.network.train(config.statistics == "adapting")
        torch.manual_seed(seed_of(self.seed, _DROPOUT, self.step))
        self._generator.manual_seed(seed_of(self.seed, _VIEWS, self.step))
        self.optimizer.zero_grad(lr_ratio=lr_ratio)
        seen = self.encoder.taken(batch, (*self.encoder.views.still, *config.augment), self._generator)
        with autocast_of(config.precision, self.encoder.device):
            features_ND = self.network.clip_features(seen.motion_NCTVM, seen.present)
            scores_NK = self.network.fc(functional.dropout(features_ND, config.dropout))
        loss = functional.cross_entropy(scores_NK.float(), batch.label_N, label_smoothing=config.smoothing)
        torch.autograd.backward(loss)
        self.optimizer.step(loss)
        if self.ema is not None and self.step:
            self.ema.update(self.network)
        elif self.ema is not None:  # the average begins with the first step's weights
            self.ema.copy_from(self.network)
        self.step += 1
        return loss.detach(), (scores_NK.detach().argmax(1) == batch.label_N).sum()

    @property
    def result(self) -> Backbone:
        """The network that is measured."""
        if self.ema is None:
            return self.network
        assert isinstance(self.ema.module, Backbone)  # noqa: S101, it is a copy of one
        return self.ema.module

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors and plain values."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "averaged": None if self.ema is None else self.ema.state_dict(),
            "optimizers": self.optimizer.state_dicts(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict` of the same configuration."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        if self.ema is not None:  # of version 0.1, it counts its updates, too
            self.ema.load_state_dict({name: value for name, value in state["averaged"].items() if name != "n_averaged"})
        self.optimizer.load_state_dicts(state["optimizers"])


_KEPT = 1  # checkpoints of a run; they hold nothing that the last one lacks


def fine_tune(config: FineTuneConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """A network fine-tuned for each seed; returns ``folder``.

    Raises:
        RunError: the folder holds a run, there are fewer clips than a batch, or a loss is not finite.
        TaskError, EncoderNotFoundError: it is not said what is to be measured, or with what.
        Stopped: the process was asked to stop; the step it was in is saved.
    """
    encoder_name(config.start)
    task = task_of(config.task)
    trials = [
        Trial(mode="finetune", name=name, seed=seed, measure=partial(fine_tune_and_score, config, task, seed))
        for seed, name in seed_folders(config.seeds)
    ]
    begin_run(config, folder, begun)
    return run_trials(trials, task=task, config=config, folder=folder)


def fine_tune_and_score(config: FineTuneConfig | FewShotConfig, task: Task, seed: int, place: Path) -> TrialOutput:
    """One network, fine-tuned on a task's train part in the folder ``place``, and its scores."""
    encoder, source = load_encoder(config.start, seed=seed, device=config.tune.device)
    network = tuned(encoder, config.tune, task.train, place, seed=seed)
    scores_NK = class_shares(network, task.test, config.look, config.tune)
    return TrialOutput(scores_NK=scores_NK, source=source, trained=len(task.train))


def tuned(encoder: Pretrained, config: TuneConfig, motions: MotionSet, folder: Path, *, seed: int) -> Pretrained:
    """``encoder`` with a head, trained on labelled clips; continued from a checkpoint of it in ``folder``.

    Returns:
        the network in evaluation mode; calling it gives class scores.

    Raises:
        RunError, Stopped: as :func:`fine_tune`.
    """
    tuner = FineTuner(encoder, config, classes=len(motions.classes), seed=seed)
    loader = Loader(
        motions,
        sampling=replace(encoder.sampling, draw="random"),
        batching=replace(config.batching, seed=config.batching.seed + seed),
        workers=config.workers,
    )
    if not len(loader):
        raise RunError(
            f"there are {len(motions)} clips to train on, fewer than a batch of {config.batching.size}; set "
            "tune.batching.size, or tune.batching.last=fill"
        )
    training = _Training(tuner, loader, folder)
    training.fit()
    return replace(encoder, network=tuner.result.eval().requires_grad_(False), heads=None)


def class_shares(network: Pretrained, motions: MotionSet, tta: TTAConfig, config: TuneConfig) -> Floats:
    """How likely each class is for each clip, the mean over all views: (N, K) float32, rows sum to 1."""

    def shares(batch: MotionBatch) -> torch.Tensor:
        with autocast_of(config.precision, network.device):
            return torch.softmax(network.network(batch.motion_NCTVM, batch.present).float(), 1)

    return tta_features(motions, network, tta, shares, workers=config.workers)


class _Training:
    """The epochs that remain."""

    def __init__(self, tuner: FineTuner, loader: Loader, folder: Path) -> None:
        self.tuner, self.loader, self.folder, self.config = tuner, loader, folder, tuner.config
        self.per_epoch = len(loader)
        self.checkpoints = Checkpoints(folder / "checkpoints", _KEPT)
        if self.checkpoints.all():
            _, content = self.checkpoints.latest()
            tuner.load_state_dict(content["tuner"])
            loader.state = LoaderState(**content["loader"])
        self.steps = self.config.epochs * self.per_epoch
        self.progress = Progress(steps=self.steps, done=tuner.step)
        self.stop = Stop()

    def fit(self) -> None:
        with MetricLogger(self.folder) as logger, self.stop:
            logger.log("start", self.tuner.step, {"clips": len(self.loader.motions), "steps": self.steps})
            while self.loader.state.epoch < self.config.epochs:
                self._epoch(logger)
            logger.log("done", self.tuner.step, self.progress.metrics())

    def _epoch(self, logger: MetricLogger) -> None:
        tuner, epoch, clips = self.tuner, self.loader.state.epoch, 0
        loss, right = (torch.zeros((), device=tuner.encoder.device) for _ in range(2))
        for batch in self.loader:
            one_loss, one_right = self._step(batch.to(tuner.encoder.device))
            loss, right, clips = loss + one_loss * len(batch), right + one_right, clips + len(batch)
            words = f"epoch {epoch + 1}/{self.config.epochs}"
            if tuner.step % self.config.log_steps == 0:
                logger.log("step", tuner.step, {"epoch": epoch, "loss": float(one_loss)})
            self.progress.step(clips=len(batch), waited=0.0, words=words)
            if self.stop.asked or tuner.step % self.config.checkpoint_steps == 0:
                self._save()
            if self.stop.asked:
                raise Stopped
        if clips:
            self._log_epoch(logger, epoch, loss=float(loss) / clips, right=float(right) / clips)
        self._save()

    def _log_epoch(self, logger: MetricLogger, epoch: int, *, loss: float, right: float) -> None:
        """An epoch's metrics; what was in it before a run was resumed is not among them."""
        metrics = {"epoch": epoch, "loss": loss, "train_top1": right}
        logger.log("epoch", self.tuner.step, metrics | self.progress.metrics())
        words = f"loss {loss:.4f}  right of augmented train clips {100 * right:.1f} %"
        self.progress.log(f"epoch {epoch + 1}/{self.config.epochs}  {words}")

    def _step(self, batch: MotionBatch) -> tuple[torch.Tensor, torch.Tensor]:
        config, tuner = self.config, self.tuner
        ratio = lr_ratio(tuner.step, config.schedule, steps_per_epoch=self.per_epoch, epochs=config.epochs)
        try:
            return tuner.train_step(batch, lr_ratio=ratio)
        except NonFiniteError as error:
            raise RunError(f"step {tuner.step} was not taken: {error}; lower tune.optimizer.lr") from error

    def _save(self) -> None:
        at = self.loader.state
        self.checkpoints.save(
            self.tuner.step,
            {"tuner": self.tuner.state_dict(), "loader": {"epoch": at.epoch, "position": at.position}},
        )
