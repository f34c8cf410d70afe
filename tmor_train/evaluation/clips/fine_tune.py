"""Fine-tuning: an encoder and a new Linear(256, K), trained together on labelled clips.

The number of epochs is a setting: the network is measured after the last one, and the test part is not used before.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES, Backbone
from tmor_train.data import Loader, LoaderState, MotionBatch, MotionSet
from tmor_train.data.dataset import Floats
from tmor_train.data.loader import seed_of
from tmor_train.evaluation.clips.config import FewShotConfig, FineTuneConfig, TuneConfig
from tmor_train.evaluation.config import TTAConfig
from tmor_train.evaluation.encoders import encoder_name, load_encoder, tta_features
from tmor_train.evaluation.runner import Begun, Trial, TrialOutput, clip_output, run_trials, seed_folders
from tmor_train.evaluation.task import Task, task_of
from tmor_train.evaluation.trainer import Trainer
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.training.distributed import autocast_of
from tmor_train.training.runs import RunError

_HEAD = 0  # purpose of random numbers: the new head's weights
_HEAD_DEVIATION = 0.01  # standard deviation of those weights, as in MoCo's linear classifier


class FineTuner(Trainer[MotionBatch]):
    """Trains a copy of an encoder with a new head of ``classes`` outputs on labelled clips."""

    network: Backbone
    config: TuneConfig
    stored_as, settings = "tuner", "tune"

    def __init__(self, encoder: Pretrained, config: TuneConfig, *, classes: int, seed: int) -> None:
        self.encoder = encoder
        network = copy.deepcopy(encoder.network).requires_grad_(config.trains == "all")
        torch.manual_seed(seed_of(seed, _HEAD))
        network.fc = nn.Linear(FEATURES, classes).to(encoder.device)
        nn.init.normal_(network.fc.weight, 0, _HEAD_DEVIATION)
        nn.init.zeros_(network.fc.bias)
        head = list(network.fc.parameters())
        trunk = [p for name, p in network.named_parameters() if p.requires_grad and not name.startswith("fc.")]
        average, device = config.average, encoder.device
        super().__init__(network, config, head=head, trunk=trunk, device=device, seed=seed, average=average)

    def loss(self, batch: MotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean cross-entropy, and ``train_top1``, the number of clips that were classified correctly."""
        config = self.config
        self.network.train(config.statistics == "adapting")
        seen = self.encoder.taken(batch, (*self.encoder.views.still, *config.augment), self.generator)
        with autocast_of(config.precision, self.encoder.device):
            features_ND = self.network.clip_features(seen.motion_NCTVM, seen.present)
            scores_NK = self.network.fc(functional.dropout(features_ND, config.dropout))
        loss = functional.cross_entropy(scores_NK.float(), batch.label_N, label_smoothing=config.smoothing)
        return loss, {"train_top1": (scores_NK.detach().argmax(1) == batch.label_N).sum()}

    def words(self, means: Mapping[str, float]) -> str:
        return f"{super().words(means)}  correct of augmented train clips {100 * means['train_top1']:.1f} %"

    @property
    def result(self) -> Backbone:
        """The network to measure: the average over the steps where there is one, else the trained network."""
        if self.ema is None:
            return self.network
        assert isinstance(self.ema.module, Backbone)  # noqa: S101, it is a copy of one
        return self.ema.module


def fine_tune(config: FineTuneConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """Fine-tune and measure a network for each seed; returns ``folder``.

    Raises:
        RunError: the run is new and the folder already holds one, there are fewer clips than a batch, or a loss is not
            finite.
        TaskError, EncoderNotFoundError: no benchmark or no encoder is named, or files are missing; and other errors of
            :func:`~tmor_train.evaluation.task.task_of` and :func:`~tmor_train.evaluation.encoders.load_encoder`.
        Stopped: the process was asked to stop; the step it was in is saved.
    """
    encoder_name(config.start)
    task = task_of(config.task)
    trials = [
        Trial(mode="finetune", name=name, seed=seed, measure=partial(fine_tune_and_score, config, task, seed))
        for seed, name in seed_folders(config.seeds)
    ]
    return run_trials(trials, task=task, config=config, folder=folder, begun=begun)


def fine_tune_and_score(config: FineTuneConfig | FewShotConfig, task: Task, seed: int, place: Path) -> TrialOutput:
    """Fine-tune one network on a task's train part, its log and checkpoint in ``place``; returns its scores."""
    encoder, source = load_encoder(config.start, seed=seed, device=config.tune.device)
    network = tuned(encoder, config.tune, task.train, place, seed=seed)
    scores_NK = class_shares(network, task.test, config.look, config.tune)
    return clip_output(task, scores_NK, source=source, trained=len(task.train))


def tuned(encoder: Pretrained, config: TuneConfig, motions: MotionSet, folder: Path, *, seed: int) -> Pretrained:
    """Train a copy of ``encoder`` with a head on labelled clips, resumed from a checkpoint that ``folder`` holds.

    Returns:
        The network in evaluation mode; calling it returns logits (N, K). The encoder's projections are left out: they
        were not trained with it.

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

    def batches(epoch: int, first: int) -> Iterator[MotionBatch]:
        loader.state = LoaderState(epoch, first * config.batching.size)
        return (batch.to(encoder.device) for batch in loader)

    tuner.fit(batches, per_epoch=len(loader), folder=folder, counts={"clips": len(motions)})
    return replace(encoder, network=tuner.result.eval().requires_grad_(False), heads=None)


def class_shares(network: Pretrained, motions: MotionSet, tta: TTAConfig, config: TuneConfig) -> Floats:
    """The probability of each class for each clip, the mean over all views: (N, K) float32, rows sum to 1."""

    def shares(batch: MotionBatch) -> torch.Tensor:
        with autocast_of(config.precision, network.device):
            return torch.softmax(network.network(batch.motion_NCTVM, batch.present).float(), 1)

    return tta_features(motions, network, tta, shares, workers=config.workers)
