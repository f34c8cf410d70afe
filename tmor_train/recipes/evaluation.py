"""Evaluation of encoders: on clips (probes, fine-tuning, few labels, zero-shot), in recordings (detection by frames and
by events), and the paper's tables.

Raw coordinates are measured beside them. ``detect_probe`` and ``detect_finetune`` have the settings of UNIK's released
detector (SGD at 0.01, decay 5e-4, 50 epochs, windows of 300 frames), the other heads those of their papers where those
are known. Each other number is our choice, and its recipe says what for.
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
from tmor_train.evaluation.config import RescoringConfig, StartConfig, TableConfig, TableName, TTAConfig, ZeroShotConfig
from tmor_train.evaluation.detection.config import (
    DetectConfig,
    DetectEventsConfig,
    DetectorConfig,
    HeadName,
    WindowConfig,
)
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
    encoder was trained: of the whole clip (``uniform``, our recipes) or one after the other (``window``, UNIK's).

    All numbers are our choice, against overfitting to some hundreds of clips: small augmentations that keep the action,
    a new head ten times as fast as the trained trunk, smoothed labels, dropout, decay, an average over about a hundred
    steps, and three crops with their mirror images when measured.
    """
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


def zero_shot_parts() -> ZeroShotConfig:
    """Sentences on the whole body and on four parts of it: all compared with the whole clip, and each with the feature
    over its own joints. Beside it, scores corrected by the measured clips. The shares and weights were chosen on Penn
    Action's train part (docs/results/penn_action.md)."""
    return replace(
        zero_shot_movement(),
        recipe="zero_shot_parts",
        about="zero-shot by sentences on head, arms, hips and legs, compared with these parts' features (--texts)",
        prompts=("movement", "body_parts"),
        part_pooling="on",
        part_share=0.25,
        rescoring=("centred", "skeleton_cache"),
        rescored_by=RescoringConfig(sharpness=3.0, cache_weight=1.0),
    )


def detect_probe() -> DetectConfig:
    """T-MOR's linear head on a frozen trunk, which is also frozen in its batch norm."""
    return DetectConfig(
        recipe="detect_probe",
        about="frame-wise detection, linear probe: one linear layer on frozen features of frames",
        train=DetectorConfig(
            optimizer=OptimizerConfig(lr=0.01, weight_decay=5e-4, clip=None),
            # As released; the third is for longer training, and never reached in 50 epochs.
            schedule=ScheduleConfig(shape="steps", warmup=0.0, milestones=(20, 40, 60)),
        ),
    )


def detect_finetune() -> DetectConfig:
    """The same schedule with every weight of the encoder."""
    probe = detect_probe()
    return replace(
        probe,
        recipe="detect_finetune",
        about="frame-wise detection, fine-tuning with UNIK's settings: SGD at 0.01 in steps; for a GPU",
        train=replace(probe.train, trains="all", statistics="adapting"),
    )


def detect_cpu() -> DetectConfig:
    """A linear probe of scaled features by AdamW: a rate that needs no tuning, and many small steps. All our choice,
    for sets of some dozens of recordings, of which an epoch of large batches is a few steps."""
    probe = detect_probe()
    return replace(
        probe,
        recipe="detect_cpu",
        about="frame-wise linear probe for small sets and a CPU: scaled features, AdamW, small batches",
        train=replace(
            probe.train,
            scale="standard",
            batch=4,
            optimizer=OptimizerConfig(method="adamw", lr=0.01, weight_decay=0.05, decays="matrices"),
            schedule=ScheduleConfig(warmup=1.0),
            epochs=60,
        ),
    )


def detect_finetune_cpu() -> DetectConfig:
    """Fine-tuning by AdamW, the head ten times as fast as the trunk, as in :func:`finetune_cpu`, with a moving camera.
    The lower rate and 20 epochs are our choice: a trained trunk is changed little."""
    small = detect_cpu()
    return replace(
        small,
        recipe="detect_finetune_cpu",
        about="frame-wise fine-tuning for small sets and a CPU: AdamW, small batches, augmentations",
        windows=WindowConfig(last="shifted"),
        train=replace(
            small.train,
            trains="all",
            statistics="adapting",
            scale="none",
            augment=(RandomMove(),),
            head_lr_ratio=10.0,
            optimizer=replace(small.train.optimizer, lr=3e-4),
            epochs=20,
        ),
    )


def _on_frozen(name: HeadName, title: str, rate: float, epochs: int) -> DetectConfig:
    """Another head on frozen features, trained by AdamW. It sees eight windows at once, 600 feature frames or two
    minutes of TSU, because these heads are made for whole recordings. ``rate`` and ``epochs`` are of the training; the
    other numbers are our choice, the same for all heads."""
    probe = detect_probe()
    return replace(
        probe,
        recipe=f"detect_{name}",
        about=f"frame-wise detection, {title} on frozen features of frames",
        train=replace(
            probe.train,
            head=name,
            context=8,
            batch=8,
            optimizer=OptimizerConfig(method="adamw", lr=rate, weight_decay=0.01, decays="matrices"),
            schedule=ScheduleConfig(warmup=1.0),
            epochs=epochs,
        ),
    )


_HEADS: tuple[tuple[HeadName, str, float, int], ...] = (
    # Rates of the first three are our choice, of AdamW's usual size; 50 epochs are those of the linear head. SD-TCN on
    # frozen features of UNIK is what the paper's row "Previous SoTA [7]" with PoseCap-1M may be.
    ("sdtcn", "SD-TCN (dilated convolutions)", 5e-4, 50),
    ("bilstm", "a bidirectional LSTM", 1e-3, 50),
    ("tgm", "TGM (temporal Gaussian mixtures)", 1e-3, 50),
    # At the rates by which their authors train on TSU, PDAN for its number of epochs, too.
    ("pdan", "PDAN (dilated attention)", 2e-4, 140),
    ("mstct", "MS-TCT (convolutions and attention at four scales)", 2e-4, 50),
)


def detect_events() -> DetectEventsConfig:
    """Events as Graph Distillation proposes them, out of a linear softmax head; the encoder is fine-tuned. Windows
    overlap by half and 16 are computed at once: our choice, as T-MOR says nothing of either."""
    whole = detect_finetune()
    return DetectEventsConfig(
        recipe="detect_events",
        about="3D event detection as of PKU-MMD: softmax of frames, smoothed, runs of frames as proposals",
        windows=WindowConfig(stride=150),
        train=replace(whole.train, batch=16),
    )


def detect_events_cpu() -> DetectEventsConfig:
    """The same on frozen features, for small sets."""
    return replace(
        detect_events(),
        recipe="detect_events_cpu",
        about="event detection for small sets and a CPU: a linear softmax head on frozen features",
        train=detect_cpu().train,
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


_ON_CLIPS = (
    probe,
    probe_sgd,
    logistic,
    probe_reference,
    finetune,
    finetune_cpu,
    fewshot,
    zero_shot,
    zero_shot_movement,
    zero_shot_parts,
)
_BY_FRAMES = (detect_probe, detect_finetune, detect_cpu, detect_finetune_cpu)
_BY_EVENTS = (detect_events, detect_events_cpu)

RECIPES: dict[str, Callable[[], Any]] = {
    **{make.__name__: make for make in _ON_CLIPS},
    **{name: partial(table, name) for name in _TABLES},
    **{make.__name__: make for make in _BY_FRAMES},
    **{f"detect_{head[0]}": partial(_on_frozen, *head) for head in _HEADS},
    **{make.__name__: make for make in _BY_EVENTS},
}
