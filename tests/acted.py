"""Recordings of one person who raises an arm or bows now and then, as a benchmark of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posecap.joints import LAYOUTS
from tmor_train.benchmarks import Benchmark, Events, FrameParts, Recordings
from tmor_train.data import Clip, from_clips

CLASSES = ("raise", "bow", "never")


def recordings(lengths: tuple[int, ...], *, seed: int = 0, dimensions: int = 2, first: int = 1) -> Recordings:
    """A recording for each of ``lengths``, in frames.

    Events last eight frames (last frame inclusive): ``raise`` moves every joint up, ``bow`` to the right. ``first`` is
    the number of the first subject.
    """
    rng = np.random.default_rng(seed)
    clips, events = [], []
    layout = "unik17" if dimensions == 2 else "ntu25"
    joints = len(LAYOUTS[layout].names)
    rest = rng.uniform(0.4, 0.6, (joints, dimensions))
    for number, frames in enumerate(lengths):
        values = np.ones((1, frames, joints, dimensions + 1), np.float32)
        values[..., :-1] = rest + rng.normal(0, 0.005, (1, frames, joints, dimensions))
        for event, begin in enumerate(range(2, frames - 8, 12)):
            label = (event + number) % 2
            values[:, begin : begin + 8, :, 1 - label] += 0.3
            events.append((number, label, begin, begin + 7))
        if dimensions == 2:
            values[..., :2] *= 640
        size = {"width": 640.0, "height": 640.0} if dimensions == 2 else {}
        clips.append(
            Clip(key=f"p{first + number}", joints_MTJC=values, layout=layout, subject=first + number, fps=20.0, **size)
        )
    columns = np.array(events, np.int64).reshape(-1, 4)
    times = columns[:, 2:].astype(np.float64)
    found = Events(columns[:, 0], columns[:, 1], times[:, 0], times[:, 1], "closed")
    return Recordings(from_clips(clips, classes=CLASSES), CLASSES, found)


def benchmark(name: str = "acted", *, dimensions: int = 2) -> Benchmark:
    """Three recordings to train on and two to test on."""
    parts = FrameParts(
        recordings((40, 28, 33), dimensions=dimensions),
        recordings((30, 21), seed=0, dimensions=dimensions, first=4),
    )

    def read(folder: Path, protocol: str) -> FrameParts:
        return parts

    return Benchmark(
        name=name,
        about="recordings made up for tests",
        task="frames",
        protocols=("only",),
        primary_metric="nonzero",
        clips=5,
        classes=len(CLASSES),
        missing=lambda folder, protocol: (),
        read=read,
    )
