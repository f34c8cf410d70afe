"""Runs pre-training, anew or resumed from a checkpoint: epochs of steps, clusters after each epoch, checkpoints.

Under torchrun each process runs the same functions on its part of every batch; the main process, rank 0, alone writes
to the run's folder, but for batches whose loss is not finite, which each process saves.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch

from posecap.files import file_sha256
from tmor_train import __version__
from tmor_train.configuration import as_json, from_json
from tmor_train.data import Loader, LoaderState, MotionBatch, MotionSet, ProcessRank
from tmor_train.data.provenance import Inputs, SeenClips, recording
from tmor_train.data_sources import fingerprint, motions_of
from tmor_train.methods import MotionCLIP
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import CheckpointError, Checkpoints, CheckpointWriteError
from tmor_train.training.config import PretrainConfig
from tmor_train.training.distributed import DistributedContext, autocast_of, distributed_context
from tmor_train.training.metric_logger import (
    FEWEST_DIRECTIONS,
    MetricLogger,
    Progress,
    effective_rank,
    neighbours_agree,
    plot,
    read_events,
    uniformity,
)
from tmor_train.training.optimizer import NonFiniteError, lr_ratio
from tmor_train.training.runs import (
    RunError,
    Stop,
    Stopped,
    check_new,
    read_config,
    run_lock,
    write_card,
    write_config,
)
from tmor_train.training.train_state import TrainState

PLOT_SECONDS = 60.0
"""Least time between two drawings of the curves during training."""
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # full, or failing
_NAMED_CLIPS = 5  # of a batch that is reported in an error
_SAMPLE = 4096  # most embeddings, evenly spaced, for metrics of the whole set: their products in pairs take 128 MiB


def pretrain(config: PretrainConfig, folder: Path) -> Path:
    """Train a new run in ``folder``; returns the path of its last checkpoint. Under torchrun every process calls this.

    The run has a checkpoint, of step 0, before it has a configuration, so that it can be resumed whenever it stops.

    Raises:
        RunError: the folder holds a run, or another process is working on it; the set is smaller than a batch or lacks
            what a loss needs, no checkpoint to start from is named, or a loss became NaN or infinite (its batch is
            saved in the folder).
        CheckpointWriteError: the disk is full or fails; the checkpoint before is as it was.
        CheckpointError: there is no checkpoint at ``loop.start_from``.
        ValueError: the encoder or heads of that checkpoint differ from the configuration's in shape, or there is no
            such device.
        Stopped: the process was asked to stop.
        Exception: as :func:`tmor_train.data_sources.motions_of` raises, if the data cannot be read.
    """
    if config.loop.start == "checkpoint" and config.loop.start_from is None:
        raise RunError(
            f"{config.recipe} starts from another run's weights: give --from CHECKPOINT (a file or a run's folder), "
            "or --set loop.start=scratch"
        )
    distributed = distributed_context(config.loop.device)
    with _lock(folder, distributed):
        check_new(folder)
        with recording() as recorder:
            motions = motions_of(config.data)
        config, notes = fitted(config, motions)
        training = Pretraining(config, folder, motions, distributed)
        training.record(recorder.inputs)
        for note in notes:
            training.log(note)
        training.load_start()
        # Every process has checked that the folder holds no run before the main one writes to it.
        distributed.barrier()
        # First the checkpoint, then the configuration, which makes the folder a run: every run can be resumed.
        training.save()
        if distributed.is_main:
            write_config(as_json(config), folder)
            training.write_card({})
        return training.fit("start")


def resume(folder: Path) -> Path:
    """Resume the run in ``folder`` from its newest checkpoint that can be read, in the middle of an epoch too.

    Configuration and data are those in the run's ``config.json``, also where the checkpoint's own configuration, which
    is for loading the encoder alone, is another; the number of processes may differ. A run that has ended only writes
    its last lines again. A run of a former version that was stopped before its first checkpoint begins anew.

    Raises:
        RunError: no run there, another process is working on it, its data has changed, or as for :func:`pretrain`.
        CheckpointError: its checkpoints cannot be read, or are gone.
        Stopped, Exception: as for :func:`pretrain`.
    """
    config = from_json(PretrainConfig, read_config(folder))
    distributed = distributed_context(config.loop.device)
    with _lock(folder, distributed):
        found = newest_checkpoint(folder)
        with recording() as recorder:
            motions = motions_of(config.data)
        notice = "" if found is None else _check_data(found[1], motions, recorder.inputs, folder)
        training = Pretraining(config, folder, motions, distributed)
        training.record(recorder.inputs)
        if found is None:
            training.log("the run was stopped before its first checkpoint, so it begins anew")
            training.load_start()
            training.save()
            return training.fit("start")
        path, content = found
        training.load_state_dict(content)
        training.log(f"resumes from {path}")
        if notice:
            training.log(notice)
        return training.fit("resume")


def _check_data(content: Mapping[str, Any], motions: MotionSet, inputs: Inputs, folder: Path) -> str:
    """Check that the data is that of a checkpoint's content; returns what could not be checked, in words, or ''.

    Raises:
        RunError: it is other data.
        CheckpointError: the checkpoint's record of the data is damaged.
    """
    remedy = f"restore the data, or begin a new run with the weights of this one: --from {folder}"
    notice, changes = "", ""
    if "inputs" in content:
        try:
            changes = Inputs.from_json(json.loads(content["inputs"])).differences(inputs)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"the checkpoint in {folder} cannot be resumed: {error}") from error
    else:
        notice = "notice: the checkpoint is of a version that recorded no hashes of its data; only keys were compared"
    if content["clips"] != fingerprint(motions):
        named = f": {changes}" if changes else ""
        raise RunError(
            f"the data holds other clips, or in another order, than when the run in {folder} began{named}; {remedy}"
        )
    if changes:
        raise RunError(f"the data is not the one that the run in {folder} began with: {changes}; {remedy}")
    return notice


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a run that can be read; None where the run was stopped before it wrote one.

    Raises:
        CheckpointError: none can be read, or those that the journal names are gone.
    """
    checkpoints = Checkpoints(folder / "checkpoints")
    if checkpoints.all():
        return checkpoints.latest()
    with suppress(FileNotFoundError):
        if next(read_events(folder, "checkpoint"), None) is not None:
            raise CheckpointError(
                f"{checkpoints.folder} holds no checkpoint any more, though the run wrote some: put one back, or "
                "begin a new run"
            )
    return None


@contextmanager
def _lock(folder: Path, distributed: DistributedContext) -> Iterator[None]:
    """Hold the run for all processes that train together, by the main one. If it is refused, all of them learn it.

    Raises:
        RunError: others are working on it.
    """
    refused: RunError | None = None
    with ExitStack() as stack:
        if distributed.is_main:
            try:
                stack.enter_context(run_lock(folder))
            except RunError as error:
                refused = error
        count = distributed.sum(torch.tensor(float(refused is not None), device=distributed.device))
        if bool(count):
            refused = refused or RunError(f"{folder} is being worked on by others, as the main process says")
        if refused is not None:
            raise refused
        yield


def fitted(config: PretrainConfig, motions: MotionSet) -> tuple[PretrainConfig, list[str]]:
    """``config`` with a queue of at most half as many keys as there are clips, and a sentence for each change.

    The queue is at most half as long as the set, rounded down: a longer one holds mostly older keys of the anchors' own
    clips and cluster.
    """
    objective, half = config.objective, max(len(motions) // 2, 1)
    if objective.negatives != "queue" or objective.queue_size <= half:
        return config, []
    note = f"queue: {half:,} keys instead of {objective.queue_size:,}, half of the {len(motions):,} clips"
    return replace(config, objective=replace(objective, queue_size=half)), [note]


class Pretraining:
    """A run in progress, on this process.

    Raises:
        RunError: there are fewer than two clips, or no full batch for each process, or the configuration does not fit
            the data or the machine.
    """

    def __init__(
        self, config: PretrainConfig, folder: Path, motions: MotionSet, distributed: DistributedContext
    ) -> None:
        self.config, self.folder, self.motions, self.distributed = config, folder, motions, distributed
        if len(motions) < 2:
            split = f", or another split than {config.data.split!r}: --set data.split=none" if config.data.split else ""
            raise RunError(
                "the data holds one clip, and a clip is learned from by its difference to others: name more data, by "
                f"--data or --sets{split}"
            )
        self.loader = Loader(
            motions,
            sampling=config.sampling,
            batching=config.batching,
            process=ProcessRank(distributed.rank, distributed.world),
            workers=config.loop.workers,
        )
        self.steps_per_epoch = -(-len(self.loader) // config.loop.accumulate)
        if not self.steps_per_epoch:
            raise RunError(
                f"the set has {len(motions)} clips, fewer than a batch of {config.batching.size} for each of "
                f"{distributed.world} processes; set batching.size, or batching.last=fill"
            )
        if distributed.world > 1 and config.batching.last == "keep":
            raise RunError("batching.last=keep gives processes batches of different sizes; set it to drop or fill")
        try:
            autocast_of(config.loop.precision, distributed.device)
            self.train_state = TrainState(config, motions, distributed)
        except ValueError as error:  # what a configuration asks for does not fit the data or the machine
            raise RunError(str(error)) from error
        one = self.loader.gather(np.zeros(1, np.int64)).to(distributed.device)
        for steps in (config.views.anchor, config.views.positive, config.views.still):
            self.train_state.view(one, steps)  # a view that the encoder does not take is an error before a run begins
        self.checkpoints = Checkpoints(folder / "checkpoints", config.loop.keep)
        self.logger = MetricLogger(folder if distributed.is_main else None)
        self.inputs = Inputs({})
        self.seen: SeenClips | None = None
        self.origin: dict[str, str] | None = None  # name and hash of the checkpoint that it started from
        self.losses: list[float] = []  # of this epoch's steps
        self.best = math.inf  # lowest mean loss of an epoch since the first clustering
        self.stop = Stop()
        self.progress = Progress(steps=config.loop.epochs * self.steps_per_epoch)
        self._waited = 0.0  # seconds for the data of the next step
        self._plotted = -math.inf  # when curves were last drawn, by the monotonic clock

    def fit(self, event: str) -> Path:
        """Train all epochs that remain; returns the path of the last checkpoint.

        Args:
            event: the journal's name for this beginning, ``start`` or ``resume``.

        Raises:
            RunError: a loss became NaN or infinite, or the journal or a picture cannot be written.
            CheckpointWriteError: the disk is full or fails; the checkpoint before is as it was.
            Stopped: the process was asked to stop; with one process the step it was in is finished and saved, with
                several the next one that is logged.
        """
        try:
            return self._fit(event)
        except OSError as error:
            if isinstance(error, CheckpointWriteError) or error.errno not in _DISK_ERRORS:
                raise
            raise RunError(
                f"{self.folder} cannot be written to: {error}. Its last checkpoint is as it was: make room, then "
                f"`tmor_train resume {self.folder}`"
            ) from error

    def _fit(self, event: str) -> Path:
        """As :meth:`fit`, with the errors of the disk as they come."""
        train_state, epochs = self.train_state, self.config.loop.epochs
        with self.logger, self.stop:
            self.progress = Progress(steps=epochs * self.steps_per_epoch, done=train_state.step)
            about = {"recipe": self.config.recipe, "clips": len(self.motions), "processes": self.distributed.world}
            self.logger.log(event, train_state.step, about | {"version": __version__, "torch": torch.__version__})
            if train_state.step == 0:  # metrics of the untrained encoder, to compare those of each epoch with
                embeddings_ND = train_state.embeddings()
                metrics: dict[str, Any] = self._embedding_metrics(embeddings_ND)
                if self.config.clusters.due(0):
                    metrics |= train_state.recluster(embeddings_ND)
                self.logger.log("before", 0, metrics)
            while self.loader.state.epoch < epochs:
                left, batches = len(self.loader), self._timed(iter(self.loader))
                while left > 0:
                    # No more than are left: asking for another batch moves the loader to the next epoch, and the
                    # checkpoint of the last step is of this one.
                    group = list(islice(batches, min(left, self.config.loop.accumulate)))
                    left -= len(group)
                    self._step(group)
                next(batches, None)
                self._after_epoch()
            self.logger.log("done", train_state.step, self.progress.metrics())
        self._plot()
        return self.checkpoints.path(train_state.step)

    def _step(self, batches: Sequence[MotionBatch]) -> None:
        """One step, with what is logged and saved after it; RunError and Stopped as :meth:`fit`."""
        train_state, loop, epoch = self.train_state, self.config.loop, self.loader.state.epoch
        share = lr_ratio(
            train_state.step, self.config.schedule, steps_per_epoch=self.steps_per_epoch, epochs=loop.epochs
        )
        watch = train_state.step % loop.log_steps == 0
        try:
            step = train_state.train_step(batches, lr_ratio=share, watch=watch, epoch=epoch)
        except NonFiniteError as error:
            raise self._save_batch(error, batches) from error
        self.losses.append(step.loss)
        clips = sum(len(batch) for batch in batches) * self.distributed.world
        self.progress.step(
            clips=clips, waited=self._waited, words=f"epoch {epoch + 1}/{loop.epochs}  loss {step.loss:.4f}"
        )
        self._waited = 0.0
        if watch:
            metrics = {"epoch": epoch, **step.metrics, "loss": step.loss, "rate": share * self.config.optimizer.lr}
            self.logger.log("step", train_state.step, metrics | self.progress.metrics())
        stop = self._stop_together() if watch or self.distributed.world == 1 else False
        if stop or train_state.step % loop.checkpoint_steps == 0:
            self.save()
        if stop:
            self.logger.log("stopped", train_state.step, {"why": "asked to"})
            raise Stopped

    def _stop_together(self) -> bool:
        """Whether any of the processes was asked to stop; all of them learn it in the same step."""
        if self.distributed.world == 1:  # reading a tensor would make the CPU wait for a GPU
            return self.stop.asked
        return bool(self.distributed.sum(torch.tensor(float(self.stop.asked), device=self.distributed.device)))

    def _after_epoch(self) -> None:
        """Metrics of the epoch, clusters for the next, a checkpoint.

        The loader is at the next epoch already, so its number is that of the ended one counted from 1, as the line
        ``epoch`` of the journal has it; lines ``step`` count epochs from 0.
        """
        began, epoch, train_state = monotonic(), self.loader.state.epoch, self.train_state
        metrics: dict[str, Any] = {"epoch": epoch, "loss": sum(self.losses) / max(len(self.losses), 1)}
        embeddings_ND = train_state.embeddings()
        metrics |= self._embedding_metrics(embeddings_ND)
        better = metrics["loss"] < self.best
        self.best, self.losses = min(self.best, metrics["loss"]), []
        if self.config.clusters.due(epoch):
            first = train_state.clusters.labels_N is None
            metrics |= train_state.recluster(embeddings_ND)
            if first:  # the loss has other positives from now on, so earlier losses are not comparable
                self.best = math.inf
        self.save()
        if self.distributed.is_main and better:
            self.checkpoints.mark_best(train_state.step)
        if self.distributed.is_main:
            self.write_card(metrics)
        metrics["seconds_aside"] = monotonic() - began
        self.progress.aside(metrics["seconds_aside"])
        self.logger.log("epoch", train_state.step, metrics | self.progress.metrics())
        self.log(_epoch_words(metrics, self.config.loop.epochs))
        if metrics["rank"] < FEWEST_DIRECTIONS:
            self.logger.log("warning", train_state.step, {"what": "collapse", "rank": metrics["rank"]})
            self.log(f"warning: the embeddings use {metrics['rank']:.1f} directions; they are collapsing")
        if monotonic() - self._plotted > PLOT_SECONDS:
            self._plot()

    def _embedding_metrics(self, embeddings_ND: torch.Tensor) -> dict[str, float | None]:
        """Metrics of the embeddings of all clips."""
        sample_ND = embeddings_ND[:: -(-len(embeddings_ND) // _SAMPLE)]
        labels_N = torch.from_numpy(self.motions.clips.label_N).to(embeddings_ND.device)
        return {
            "rank": effective_rank(sample_ND),
            "uniformity": uniformity(sample_ND),
            "neighbours_agree": neighbours_agree(embeddings_ND, labels_N, most=_SAMPLE),
        }

    def _plot(self) -> None:
        if self.distributed.is_main:
            line = plot(self.folder)
            if self._plotted < 0:
                self.log(line)
        self._plotted = monotonic()

    def load_start(self) -> None:
        """Take over encoder and heads of the run that the configuration starts from, if it names one.

        Raises:
            CheckpointError, ValueError: as :func:`pretrain`.
        """
        loop = self.config.loop
        if loop.start == "checkpoint" and loop.start_from is not None:
            path, content = checkpoint.load_latest(Path(loop.start_from))
            heads = self.train_state.load_pretrained(content["learner"])
            self.log(f"starts from {path}: its encoder and {len(heads)} tensors of its heads")
            self.origin = {"name": path.name, "sha256": file_sha256(path)}
            try:
                before = SeenClips.from_state(content["seen"]) if "seen" in content else None
            except ValueError as error:
                raise CheckpointError(f"{path}: {error}") from error
            # Where the run before did not record its clips, those of both are not known.
            self.seen = None if before is None or self.seen is None else self.seen.joined(before)

    def record(self, inputs: Inputs) -> None:
        """Record what the data is, for checkpoints, before the first of them is written or loaded."""
        config = self.config
        with_text = config.method is None or isinstance(config.method, MotionCLIP)  # the methods that text is a part of
        captions = with_text and config.objective.w_mt > 0 and self.motions.text is not None
        self.inputs, self.seen = inputs, SeenClips.of(self.motions, captions=captions)

    def save(self) -> None:
        """Write a checkpoint of this step, in the main process; all processes call this.

        Raises:
            CheckpointWriteError: the disk is full or fails; the checkpoint before is as it was.
        """
        state = self.train_state.state_dict()  # all processes take part
        if not self.distributed.is_main:
            return
        loader = self.loader.state
        content = {  # keys are stored; "learner" is the state of the TrainState
            "config": json.dumps(as_json(self.config)),
            "learner": state,
            "loader": {"epoch": loader.epoch, "position": loader.position},
            "losses": self.losses,
            "best": self.best,
            "clips": fingerprint(self.motions),
            "inputs": json.dumps(self.inputs.as_json()),
            "origin": self.origin,
        }
        if self.seen is not None:
            content["seen"] = self.seen.state()
        self.checkpoints.save(self.train_state.step, content)
        position = {"epoch": loader.epoch, "position": loader.position}
        self.logger.log("checkpoint", self.train_state.step, position)

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Resume from a checkpoint's content."""
        self.train_state.load_state_dict(content["learner"])
        self.loader.state = LoaderState(**content["loader"])
        self.losses, self.best = list(content["losses"]), content["best"]
        self.origin = content.get("origin")
        if self.config.loop.start == "checkpoint":  # those of the run before are in the checkpoint alone
            self.seen = SeenClips.from_state(content["seen"]) if "seen" in content else None

    def write_card(self, figures: Mapping[str, Any]) -> None:
        """Write the run's model card, by the newest checkpoint; the main process calls it."""
        write_card(
            self.folder,
            config=as_json(self.config),
            inputs=self.inputs,
            clips=len(self.motions),
            checkpoint=self.checkpoints.path(self.train_state.step),
            figures=figures,
            version=__version__,
        )

    def log(self, line: str) -> None:
        """Prints a line, in the main process."""
        if self.distributed.is_main:
            self.progress.log(line)

    def _timed(self, batches: Iterator[MotionBatch]) -> Iterator[MotionBatch]:
        """The same batches on this process's device; the time spent waiting for them is counted."""
        while True:
            began = monotonic()
            batch = next(batches, None)
            self._waited += monotonic() - began
            if batch is None:
                return
            yield (batch.pinned() if self.distributed.device.type == "cuda" else batch).to(self.distributed.device)

    def _save_batch(self, error: NonFiniteError, batches: Sequence[MotionBatch]) -> RunError:
        """Saves the batches of a step whose loss is not finite; returns the error to raise."""
        step, epoch = self.train_state.step, self.loader.state.epoch
        path = self.folder / f"not-finite-step-{step:09}-rank-{self.distributed.rank}.pt"
        index = torch.cat([batch.index_N for batch in batches]).cpu()
        motion = torch.cat([batch.motion_NCTVM for batch in batches]).cpu()
        keys = [str(key) for key in self.motions.clips.key_N[index.numpy()]]
        checkpoint.save(
            path, {"step": step, "epoch": epoch, "keys": keys, "index": index, "motion": motion.contiguous()}
        )
        self.logger.log("stopped", step, {"why": str(error), "batch": path.name})
        named = ", ".join(keys[:_NAMED_CLIPS]) + (" …" if len(keys) > _NAMED_CLIPS else "")
        return RunError(
            f"step {step} of epoch {epoch + 1} was not taken: {error}. Its batch ({named}) is saved as {path}; the "
            "last checkpoint is intact. Check those clips or lower optimizer.lr, then resume"
        )


def _epoch_words(metrics: dict[str, Any], epochs: int) -> str:
    words = f"epoch {metrics['epoch']}/{epochs}  loss {metrics['loss']:.4f}  rank {metrics['rank']:.1f}"
    if metrics["neighbours_agree"] is not None:
        words += f"  neighbours agree {100 * metrics['neighbours_agree']:.1f} %"
    if "clusters" in metrics:
        words += (
            f"  {metrics['clusters']} clusters, {100 * metrics['noise_share']:.0f} % noise, eps {metrics['eps']:.3f}"
        )
        words += " (fell back to single clips)" if metrics["fell_back"] else ""
    return words
