"""Pre-training: epochs of steps, clusters after each epoch, checkpoints in between."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from tmor_train import __version__
from tmor_train.configuration import as_json
from tmor_train.data import Loader, LoaderState, MotionBatch, MotionSet, Place
from tmor_train.pretrain_config import PretrainConfig
from tmor_train.sources import fingerprint
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import Checkpoints
from tmor_train.training.device import autocast_of
from tmor_train.training.journal import Journal, Silent
from tmor_train.training.learner import Learner, NotFinite
from tmor_train.training.monitor import FEWEST_DIRECTIONS, effective_rank, neighbours_agree, uniformity
from tmor_train.training.plots import plot
from tmor_train.training.progress import Progress
from tmor_train.training.schedule import rate_at
from tmor_train.training.stopping import Stop, Stopped
from tmor_train.training.team import Team

PLOT_SECONDS = 60.0
"""Least time between two drawings of the curves while training goes on."""
_NAMED_CLIPS = 5
_SAMPLE = 4096  # embeddings that figures of a whole set are made of


class RunError(ValueError):
    """A run cannot begin or go on; the message says why and what to do."""


class Pretraining:
    """A run in progress."""

    def __init__(self, config: PretrainConfig, folder: Path, motions: MotionSet, team: Team) -> None:
        self.config, self.folder, self.motions, self.team = config, folder, motions, team
        self.loader = Loader(
            motions,
            sampling=config.sampling,
            batching=config.batching,
            place=Place(team.rank, team.world),
            workers=config.loop.workers,
        )
        self.steps_per_epoch = -(-len(self.loader) // config.loop.accumulate)
        if not self.steps_per_epoch:
            raise RunError(
                f"the set has {len(motions)} clips, fewer than a batch of {config.batching.size} for each of "
                f"{team.world} processes; set batching.size, or batching.last=fill"
            )
        if team.world > 1 and config.batching.last == "keep":
            raise RunError("batching.last=keep gives processes batches of different sizes; set it to drop or fill")
        try:
            autocast_of(config.loop.precision, team.device)
            self.learner = Learner(config, motions, team)
        except ValueError as error:  # what a configuration asks for does not fit the data or the machine
            raise RunError(str(error)) from error
        self.checkpoints = Checkpoints(folder / "checkpoints", config.loop.keep)
        self.journal: Journal | Silent = Journal(folder) if team.leads else Silent()
        self.losses: list[float] = []  # of this epoch's steps
        self.best = math.inf
        self.stop = Stop()
        self.progress = Progress(steps=config.loop.epochs * self.steps_per_epoch)
        self._waited, self._plotted = 0.0, -math.inf

    def go(self, event: str) -> Path:
        """All epochs that remain.

        Raises:
            Stopped: the process was asked to; the step it was in is finished and saved.
        """
        learner, epochs = self.learner, self.config.loop.epochs
        with self.journal, self.stop:
            self.progress = Progress(steps=epochs * self.steps_per_epoch, done=learner.step)
            about = {"recipe": self.config.recipe, "clips": len(self.motions), "processes": self.team.world}
            self.journal.tell(event, learner.step, about | {"version": __version__, "torch": torch.__version__})
            if learner.step == 0:  # what training is to be compared with
                embeddings_ND = learner.embeddings()
                self.journal.tell("before", 0, self._figures(embeddings_ND) | self._clusters_before(embeddings_ND))
            while self.loader.state.epoch < epochs:
                self._epoch()
            self.journal.tell("done", learner.step, self.progress.figures())
        self._plot()
        return self.checkpoints.path(learner.step)

    def _clusters_before(self, embeddings_ND: torch.Tensor) -> dict[str, Any]:
        """Clusters to begin with, where they are asked for; their figures."""
        return self.learner.recluster(embeddings_ND) if self.config.clusters.due(0) else {}

    def _epoch(self) -> None:
        batches = self._timed(iter(self.loader))
        while group := list(islice(batches, self.config.loop.accumulate)):
            self._step(group)
        self._after_epoch()

    def _step(self, batches: Sequence[MotionBatch]) -> None:
        learner, loop, epoch = self.learner, self.config.loop, self.loader.state.epoch
        share = rate_at(learner.step, self.config.schedule, steps_per_epoch=self.steps_per_epoch, epochs=loop.epochs)
        watch = learner.step % loop.log_steps == 0
        try:
            step = learner.train(batches, rate=share, watch=watch, epoch=epoch)
        except NotFinite as error:
            raise self._stopped(error) from error
        self.losses.append(step.loss)
        clips = sum(len(batch) for batch in batches) * self.team.world
        self.progress.step(
            clips=clips, waited=self._waited, words=f"epoch {epoch + 1}/{loop.epochs}  loss {step.loss:.4f}"
        )
        self._waited = 0.0
        if watch:
            figures = {"epoch": epoch, **step.figures, "loss": step.loss, "rate": share * self.config.optimizer.rate}
            self.journal.tell("step", learner.step, figures | self.progress.figures())
        stop = self._stop_together() if watch or self.team.world == 1 else False
        if stop or learner.step % loop.checkpoint_steps == 0:
            self._save()
        if stop:
            self.journal.tell("stopped", learner.step, {"why": "asked to"})
            raise Stopped

    def _stop_together(self) -> bool:
        """Whether any of the processes was asked to stop; all of them learn it in the same step."""
        if self.team.world == 1:  # no need to wait for a GPU
            return self.stop.asked
        return bool(self.team.sum(torch.tensor(float(self.stop.asked), device=self.team.device)))

    def _after_epoch(self) -> None:
        """Figures of the epoch, clusters for the next, a checkpoint."""
        began, epoch, learner = monotonic(), self.loader.state.epoch, self.learner
        figures: dict[str, Any] = {"epoch": epoch, "loss": sum(self.losses) / max(len(self.losses), 1)}
        embeddings_ND = learner.embeddings()
        figures |= self._figures(embeddings_ND)
        if self.config.clusters.due(epoch):
            first = learner.clusters.labels_N is None
            figures |= learner.recluster(embeddings_ND)
            if first:  # losses before and after the first clustering are not of one kind
                self.best = math.inf
        better = figures["loss"] < self.best
        self.best, self.losses = min(self.best, figures["loss"]), []
        self._save()
        if self.team.leads and better:
            self.checkpoints.mark_best(learner.step)
        figures["seconds_aside"] = monotonic() - began
        self.progress.aside(figures["seconds_aside"])
        self.journal.tell("epoch", learner.step, figures | self.progress.figures())
        self.say(_epoch_words(figures, self.config.loop.epochs))
        if figures["rank"] < FEWEST_DIRECTIONS:
            self.journal.tell("warning", learner.step, {"what": "collapse", "rank": figures["rank"]})
            self.say(f"warning: the embeddings use {figures['rank']:.1f} directions; they are collapsing")
        if monotonic() - self._plotted > PLOT_SECONDS:
            self._plot()

    def _figures(self, embeddings_ND: torch.Tensor) -> dict[str, float | None]:
        """How the embeddings of all clips lie."""
        sample_ND = embeddings_ND[:: -(-len(embeddings_ND) // _SAMPLE)]
        labels_N = torch.from_numpy(self.motions.clips.label_N).to(embeddings_ND.device)
        return {
            "rank": effective_rank(sample_ND),
            "uniformity": uniformity(sample_ND),
            "neighbours_agree": neighbours_agree(embeddings_ND, labels_N, most=_SAMPLE),
        }

    def _plot(self) -> None:
        if self.team.leads:
            said = plot(self.folder)
            if self._plotted < 0:
                self.say(said)
        self._plotted = monotonic()

    def _save(self) -> None:
        state = self.learner.state()  # all processes take part
        if not self.team.leads:
            return
        at = self.loader.state
        content = {
            "config": json.dumps(as_json(self.config)),
            "learner": state,
            "loader": {"epoch": at.epoch, "position": at.position},
            "losses": self.losses,
            "best": self.best,
            "clips": fingerprint(self.motions),
        }
        self.checkpoints.save(self.learner.step, content)
        self.journal.tell("checkpoint", self.learner.step, {"epoch": at.epoch, "position": at.position})

    def take(self, content: dict[str, Any]) -> None:
        """Go on from a checkpoint's content."""
        self.learner.take(content["learner"])
        self.loader.state = LoaderState(**content["loader"])
        self.losses, self.best = list(content["losses"]), content["best"]

    def say(self, line: str) -> None:
        """A line for people, of the leading process."""
        if self.team.leads:
            self.progress.say(line)

    def _timed(self, batches: Iterator[MotionBatch]) -> Iterator[MotionBatch]:
        """The same batches on the team's device, with the time they were waited for counted."""
        while True:
            began = monotonic()
            batch = next(batches, None)
            self._waited += monotonic() - began
            if batch is None:
                return
            yield (batch.pinned() if self.team.device.type == "cuda" else batch).to(self.team.device)

    def _stopped(self, error: NotFinite) -> RunError:
        """Saves the batches of a step that cannot be taken."""
        step, epoch = self.learner.step, self.loader.state.epoch
        path = self.folder / f"not-finite-step-{step:09}-rank-{self.team.rank}.pt"
        index = torch.cat([batch.index_N for batch in error.batches]).cpu()
        motion = torch.cat([batch.motion_NCTVM for batch in error.batches]).cpu()
        keys = [str(key) for key in self.motions.clips.key_N[index.numpy()]]
        checkpoint.save(
            path, {"step": step, "epoch": epoch, "keys": keys, "index": index, "motion": motion.contiguous()}
        )
        self.journal.tell("stopped", step, {"why": str(error), "batch": path.name})
        named = ", ".join(keys[:_NAMED_CLIPS]) + (" …" if len(keys) > _NAMED_CLIPS else "")
        return RunError(
            f"step {step} of epoch {epoch + 1} was not taken: {error}. Its batch ({named}) is saved as {path}; the "
            "last checkpoint is sound. Look at those clips or lower optimizer.rate, then resume"
        )


def _epoch_words(figures: dict[str, Any], epochs: int) -> str:
    words = f"epoch {figures['epoch']}/{epochs}  loss {figures['loss']:.4f}  rank {figures['rank']:.1f}"
    if figures["neighbours_agree"] is not None:
        words += f"  neighbours agree {100 * figures['neighbours_agree']:.1f} %"
    if "clusters" in figures:
        words += (
            f"  {figures['clusters']} clusters, {100 * figures['noise_share']:.0f} % noise, eps {figures['eps']:.3f}"
        )
        words += " (fell back to single clips)" if figures["fell_back"] else ""
    return words


__all__ = ["Pretraining", "RunError", "fingerprint"]
