"""Detection in recordings, by frames and by events.

``detect_probe`` and ``detect_finetune`` have the settings of UNIK's released detector (SGD at 0.01, decay 5e-4, 50
epochs, windows of 300 frames), the other heads those of their papers where those are known; ``detect_cpu`` suits small
sets and a CPU. Numbers of which no source is named, such as all of AdamW's, are free choices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tmor_train.data.augment import RandomMove
from tmor_train.evaluation.detection.config import (
    DetectConfig,
    DetectEventsConfig,
    DetectorConfig,
    HeadName,
    WindowConfig,
)
from tmor_train.training.optimizer import OptimizerConfig, ScheduleConfig


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
    """A linear probe of scaled features by AdamW: a rate that needs no tuning, and many small steps."""
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
    """Fine-tuning by AdamW, the head faster than the trunk, with a moving camera."""
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
    minutes of TSU, because these heads are made for whole recordings."""
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
    # What the paper's row "Previous SoTA [7]" with PoseCap-1M may be: SD-TCN on frozen features of UNIK.
    ("sdtcn", "SD-TCN (dilated convolutions)", 5e-4, 50),
    ("bilstm", "a bidirectional LSTM", 1e-3, 50),
    ("tgm", "TGM (temporal Gaussian mixtures)", 1e-3, 50),
    # At their papers' rates on TSU, PDAN for its number of epochs, too.
    ("pdan", "PDAN (dilated attention)", 2e-4, 140),
    ("mstct", "MS-TCT (convolutions and attention at four scales)", 2e-4, 50),
)


def detect_events() -> DetectEventsConfig:
    """Events as Graph Distillation proposes them, out of a linear softmax head; the encoder is fine-tuned."""
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


_EVENTS = (detect_events, detect_events_cpu)
_FRAMES = (detect_probe, detect_finetune, detect_cpu, detect_finetune_cpu)

RECIPES: dict[str, Callable[[], DetectConfig] | Callable[[], DetectEventsConfig]] = {
    **{make.__name__: make for make in _FRAMES},
    **{f"detect_{head[0]}": partial(_on_frozen, *head) for head in _HEADS},
    **{make.__name__: make for make in _EVENTS},
}
