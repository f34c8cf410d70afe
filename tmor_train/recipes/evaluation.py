"""Evaluation of encoders on clips: probes, fine-tuning, few labels, zero-shot, and the paper's tables.

Raw coordinates are measured beside them. Numbers of which no source is named, such as all of ``finetune_cpu``, are free
choices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tmor_train.data import Batching
from tmor_train.data.augment import CropResize, Flip, Noise, RandomMove, Rotate
from tmor_train.evaluation.clips.config import (
    FewShotConfig,
    FineTuneConfig,
    LinearConfig,
    LogisticConfig,
    ProbeConfig,
    TuneConfig,
)
from tmor_train.evaluation.config import StartConfig, TableConfig, TableName, TTAConfig, ZeroShotConfig
from tmor_train.training.optimizer import OptimizerConfig, ScheduleConfig


def probe() -> ProbeConfig:
    """The optimum of one linear layer on frozen features."""
    return ProbeConfig(
        recipe="probe", about="linear probe: one linear layer on frozen features, to its optimum (L-BFGS)"
    )


def probe_sgd() -> ProbeConfig:
    """The same by SGD at rate 0.1 (UNIK's) and 3 (usual in self-supervised learning), the better on a hold-out."""
    return replace(
        probe(),
        recipe="probe_sgd",
        about="linear probe by SGD on unscaled features, rate 0.1 or 3 chosen on a hold-out",
        linear=LinearConfig(solver="sgd", scale="none"),
    )


def logistic() -> LogisticConfig:
    """Raw coordinates without an encoder: the baseline that learned features have to exceed."""
    return LogisticConfig(
        recipe="logistic", about="logistic regression on raw coordinates of 32 frames, without any encoder"
    )


def finetune() -> FineTuneConfig:
    """UNIK's settings for Penn Action (its config files). For other sets it has another rate, batch and number of
    epochs: give them by ``--set tune.…``; nothing here adapts them."""
    return FineTuneConfig(
        recipe="finetune",
        about="fine-tuning as UNIK's code does it: windows of 150 frames, SGD in steps; for a GPU",
        start=StartConfig(frames=150, choice="window"),
        tune=TuneConfig(
            augment=(RandomMove(),),
            batching=Batching(size=8),
            optimizer=OptimizerConfig(lr=0.05, weight_decay=5e-4, clip=None),
            schedule=ScheduleConfig(shape="steps", warmup=0.0, milestones=(10, 20)),
            epochs=30,
        ),
    )


def probe_reference() -> FineTuneConfig:
    """Linear evaluation as UNIK's code does it: the schedule of fine-tuning with the trunk's weights as they are, while
    its batch norm goes by the statistics of each batch and keeps an average of them."""
    whole = finetune()
    return replace(
        whole,
        recipe="probe_reference",
        about="linear probe as UNIK's code does it: batch norm adapts, augmentations, no cached features",
        tune=replace(whole.tune, trains="head", statistics="adapting"),
    )


def finetune_cpu() -> FineTuneConfig:
    """48 frames, AdamW and an average over the steps: minutes to an hour on two cores. The frames are taken as the
    encoder was trained: of the whole clip (``uniform``, our recipes) or one after the other (``window``, UNIK's)."""
    return FineTuneConfig(
        recipe="finetune_cpu",
        about="fine-tuning for small sets and a CPU: 48 frames, AdamW, augmentations, averaged weights",
        start=StartConfig(frames=48),
        look=TTAConfig(crops=3, mirrored="on"),
        tune=TuneConfig(
            augment=(CropResize(shortest=0.7), Rotate(degrees=10.0), Flip(), Noise(sigma=0.01)),
            head_lr_ratio=10.0,
            smoothing=0.1,
            dropout=0.3,
            average=0.99,
            batching=Batching(size=32),
            optimizer=OptimizerConfig(method="adamw", lr=5e-4, weight_decay=0.05, decays="matrices"),
            schedule=ScheduleConfig(warmup=2.0),
            epochs=30,
        ),
    )


def fewshot() -> FewShotConfig:
    """1, 5 and 10 % of the labels, of each class its share and at least one clip, three draws. Training is that of
    :func:`finetune_cpu`; frames are as the encoder was trained, and there is no test-time augmentation."""
    tune = finetune_cpu().tune
    return FewShotConfig(
        recipe="fewshot",
        about="linear probe and fine-tuning with 1, 5 and 10 % of the labels, three seeds",
        # 1 % of the labels may be fewer clips than a batch: dropping the last one would leave none.
        tune=replace(tune, batching=replace(tune.batching, last="fill")),
    )


def zero_shot() -> ZeroShotConfig:
    """Three sets of prompts; motion alone, and with the mean of motion and video where there is video."""
    return ZeroShotConfig(
        recipe="zero_shot", about="zero-shot: the class whose text is nearest, by three sets of prompts (--texts)"
    )


def zero_shot_movement() -> ZeroShotConfig:
    """For encoders trained on captions of movements, such as those of
    :func:`~tmor_train.recipes.pretrain.sets_no_penn`."""
    return replace(
        zero_shot(),
        recipe="zero_shot_movement",
        about="zero-shot by sentences that say what the body does in each class (--texts)",
        prompts=("movement",),
    )


_TABLES: dict[TableName, str] = {
    "table1": "classification of clips, linear and fine-tuned (--data-root DIR --from CHECKPOINT)",
    "table2": "detection by frames, linear and fine-tuned (--data-root DIR --from CHECKPOINT)",
    "table3": "zero-shot recognition (--data-root DIR --from CHECKPOINT --texts FILE)",
    "table4": "events of PKU-MMD (--data-root DIR --from CHECKPOINT)",
    "table5": "ablation of losses, a checkpoint for each row (--data-root DIR --rows mm=RUN mt=RUN)",
}


def table(name: TableName) -> TableConfig:
    """A table, by the recipes that :data:`tmor_train.tables.paper.TABLES` names for its columns."""
    return TableConfig(recipe=name, about=f"the paper's table: {_TABLES[name]}", table=name)


_CLIPS = (probe, probe_sgd, logistic, probe_reference, finetune, finetune_cpu, fewshot, zero_shot, zero_shot_movement)

RECIPES: dict[str, Callable[[], Any]] = {
    **{make.__name__: make for make in _CLIPS},
    **{name: partial(table, name) for name in _TABLES},
}
