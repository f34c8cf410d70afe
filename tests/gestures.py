"""Clips of one person who raises the arms, bows or stands, as a benchmark of whole clips and as a posecap dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posecap.joints import LAYOUTS
from posecap.types import PartName
from tests import building, built
from tmor_train.benchmarks import Benchmark, Parts
from tmor_train.data import Clip, MotionSet, from_clips
from tmor_train.evaluation.task import Task

CLASSES = ("bow", "raise", "stand")
PROTOCOLS = ("cross_subject", "cross_view")
_WAY = {"bow": (90.0, 0.0), "raise": (0.0, -90.0), "stand": (0.0, 0.0)}  # pixels of every joint, first frame to last


def motions(labels: Sequence[str], *, seed: int = 0, subjects: int = 3, key: str = "clip") -> MotionSet:
    """One clip of 9 to 12 frames for each of ``labels``, by ``subjects`` persons in turn."""
    rng = np.random.default_rng(seed)
    joints = len(LAYOUTS["unik17"].names)
    clips = []
    for number, label in enumerate(labels):
        frames = 9 + number % 4
        values = np.ones((1, frames, joints, 3), np.float32)
        values[..., :2] = rng.uniform((200, 150), (440, 330), (joints, 2))
        values[..., :2] += np.linspace(0, 1, frames)[None, :, None, None] * np.array(_WAY[label])
        clips.append(
            Clip(
                key=f"{key}-{number}",
                joints_MTJC=values,
                layout="unik17",
                width=640.0,
                height=480.0,
                label=label,
                subject=number % subjects,
            )
        )
    return from_clips(clips, classes=CLASSES)


def parts(per_class: int = 4) -> Parts:
    """``per_class`` clips of each class to train on and two to test on."""
    return Parts(motions(CLASSES * per_class, key="train"), motions(CLASSES * 2, seed=1, key="test"))


def benchmark(made: Parts | None = None, *, primary_metric: str = "top1") -> Benchmark:
    known = made or parts()
    return Benchmark(
        name="gestures",
        about="clips made up for tests",
        task="clips",
        protocols=PROTOCOLS,
        primary_metric=primary_metric,
        clips=0,
        classes=len(CLASSES),
        missing=lambda folder, protocol: (),
        read=lambda folder, protocol: known,
    )


def task(per_class: int = 4, *, validation: MotionSet | None = None, primary_metric: str = "top1") -> Task:
    known = parts(per_class)
    return Task(
        benchmark=benchmark(known, primary_metric=primary_metric),
        protocol=PROTOCOLS[0],
        train=known.train,
        test=known.test,
        validation=validation,
    )


def shards(root: Path, *, per_class: int = 4) -> Path:
    """A dataset of walkers with two labels in its splits train and test; whoever bows leans to the right."""
    made = {}
    for part, (split, count) in enumerate((("train", per_class), ("test", 2))):
        kept = []
        for class_number, label in enumerate(CLASSES[:2]):
            row = building.row(row_id=f"{split}-{label}", uri=f"{split}-{label}.mp4", split=split, label=label)
            for number in range(count):
                seed = 100 * part + 10 * class_number + number
                walks = building.walkers(frames=10, seed=seed)
                walks[..., 0] += np.linspace(0, _WAY[label][0], 10, dtype=np.float32)[None, :, None]
                kept += built.samples(1, first=seed, row=row, joints_MTJ3=walks)
        made[PartName(split, part)] = kept
    built.build(root, made)
    return root
