"""Fine-tuning: an encoder and a new Linear(256, K), trained together on labelled clips.

The epochs are a setting like others; what is measured is the network after the last one, and the measured part is seen
then alone. A run that was stopped goes on from its newest checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from tmor_train.data import Loader, LoaderState, MotionBatch, MotionSet
from tmor_train.data.arrays import Floats
from tmor_train.evaluation.clips.config import FewShotConfig, FineTuneConfig, TuneConfig
from tmor_train.evaluation.clips.tuner import Tuner
from tmor_train.evaluation.config import LookConfig
from tmor_train.evaluation.encoders import named, started
from tmor_train.evaluation.features import looked_at
from tmor_train.evaluation.task import Task, task_of
from tmor_train.evaluation.trials import Begun, Found, Trial, begin, measured, of_each_seed
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.training.checkpoint import Checkpoints
from tmor_train.training.device import autocast_of
from tmor_train.training.journal import Journal
from tmor_train.training.pretrain import RunError
from tmor_train.training.progress import Progress
from tmor_train.training.schedule import rate_at
from tmor_train.training.stopping import Stop, Stopped

_KEPT = 1  # checkpoints of a run; they hold nothing that the last one lacks


def fine_tune(config: FineTuneConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """A network fine-tuned for each seed; returns ``folder``.

    Raises:
        RunError: the folder holds a run, there are fewer clips than a batch, or a loss is not finite.
        NoTask, NoEncoder: it is not said what is to be measured, or with what.
        Stopped: the process was asked to stop; the step it was in is saved.
    """
    named(config.start)
    task = task_of(config.task)
    trials = [
        Trial(mode="finetune", name=name, seed=seed, measure=partial(tuned_and_measured, config, task, seed))
        for seed, name in of_each_seed(config.seeds)
    ]
    begin(config, folder, begun)
    return measured(trials, task=task, config=config, folder=folder)


def tuned_and_measured(config: FineTuneConfig | FewShotConfig, task: Task, seed: int, place: Path) -> Found:
    """One network, fine-tuned on a task's train part in the folder ``place``, and its scores."""
    encoder, source = started(config.start, seed=seed, device=config.tune.device)
    network = tuned(encoder, config.tune, task.train, place, seed=seed)
    scores_NK = class_shares(network, task.measured, config.look, config.tune)
    return Found(scores_NK=scores_NK, source=source, trained=len(task.train))


def tuned(encoder: Pretrained, config: TuneConfig, motions: MotionSet, folder: Path, *, seed: int) -> Pretrained:
    """``encoder`` with a head, trained on labelled clips; gone on with from what is of it in ``folder``.

    Returns:
        the network in evaluation mode; calling it gives class scores.

    Raises:
        RunError, Stopped: as :func:`fine_tune`.
    """
    tuner = Tuner(encoder, config, classes=len(motions.classes), seed=seed)
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
    training.go()
    return replace(encoder, network=tuner.result.eval().requires_grad_(False), heads=None)


def class_shares(network: Pretrained, motions: MotionSet, look: LookConfig, config: TuneConfig) -> Floats:
    """How likely each class is for each clip, the mean over all looks: (N, K) float32, rows sum to 1."""

    def shares(batch: MotionBatch) -> torch.Tensor:
        with autocast_of(config.precision, network.device):
            return torch.softmax(network.network(batch.motion_NCTVM, batch.present).float(), 1)

    return looked_at(motions, network, look, shares, workers=config.workers)


class _Training:
    """The epochs that remain."""

    def __init__(self, tuner: Tuner, loader: Loader, folder: Path) -> None:
        self.tuner, self.loader, self.folder, self.config = tuner, loader, folder, tuner.config
        self.per_epoch = len(loader)
        self.checkpoints = Checkpoints(folder / "checkpoints", _KEPT)
        if self.checkpoints.all():
            _, content = self.checkpoints.latest()
            tuner.take(content["tuner"])
            loader.state = LoaderState(**content["loader"])
        self.steps = self.config.epochs * self.per_epoch
        self.progress = Progress(steps=self.steps, done=tuner.step)
        self.stop = Stop()

    def go(self) -> None:
        with Journal(self.folder) as journal, self.stop:
            journal.tell("start", self.tuner.step, {"clips": len(self.loader.motions), "steps": self.steps})
            while self.loader.state.epoch < self.config.epochs:
                self._epoch(journal)
            journal.tell("done", self.tuner.step, self.progress.figures())

    def _epoch(self, journal: Journal) -> None:
        tuner, epoch, clips = self.tuner, self.loader.state.epoch, 0
        loss, right = (torch.zeros((), device=tuner.encoder.device) for _ in range(2))
        for batch in self.loader:
            one_loss, one_right = self._step(batch.to(tuner.encoder.device))
            loss, right, clips = loss + one_loss * len(batch), right + one_right, clips + len(batch)
            words = f"epoch {epoch + 1}/{self.config.epochs}"
            if tuner.step % self.config.log_steps == 0:
                journal.tell("step", tuner.step, {"epoch": epoch, "loss": float(one_loss)})
            self.progress.step(clips=len(batch), waited=0.0, words=words)
            if self.stop.asked or tuner.step % self.config.checkpoint_steps == 0:
                self._save()
            if self.stop.asked:
                raise Stopped
        if clips:
            self._tell(journal, epoch, loss=float(loss) / clips, right=float(right) / clips)
        self._save()

    def _tell(self, journal: Journal, epoch: int, *, loss: float, right: float) -> None:
        """An epoch's metrics; what was in it before a run was gone on with is not among them."""
        metrics = {"epoch": epoch, "loss": loss, "train_top1": right}
        journal.tell("epoch", self.tuner.step, metrics | self.progress.figures())
        words = f"loss {loss:.4f}  right of augmented train clips {100 * right:.1f} %"
        self.progress.say(f"epoch {epoch + 1}/{self.config.epochs}  {words}")

    def _step(self, batch: MotionBatch) -> tuple[torch.Tensor, torch.Tensor]:
        config, tuner = self.config, self.tuner
        rate = rate_at(tuner.step, config.schedule, steps_per_epoch=self.per_epoch, epochs=config.epochs)
        try:
            return tuner.train(batch, rate=rate)
        except ArithmeticError as error:
            raise RunError(f"step {tuner.step} was not taken: {error}; lower tune.optimizer.rate") from error

    def _save(self) -> None:
        at = self.loader.state
        self.checkpoints.save(
            self.tuner.step,
            {"tuner": self.tuner.state(), "loader": {"epoch": at.epoch, "position": at.position}},
        )


__all__ = ["class_shares", "fine_tune", "tuned", "tuned_and_measured"]
