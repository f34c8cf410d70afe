"""UTKinect-Action3D by frames: whole recordings. The set has no official split: odd subjects train, even ones test.

Times count tracked frames, because the sensor skips some. An action without frame numbers (``NaN``) has no event.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tmor_train.benchmarks.base import Benchmark, FrameParts, Recordings, check_for, events_of
from tmor_train.data import Clip, from_clips
from tmor_train.data.datasets import utkinect

_CLASSES = tuple(utkinect.CAPTIONS)


def _read(folder: Path, protocol: str) -> FrameParts:
    found = utkinect.recordings(folder)
    return FrameParts(*(_part([r for r in found if r.subject % 2 == odd]) for odd in (1, 0)))


def _part(found: list[utkinect.Recording]) -> Recordings:
    clips = [
        Clip(
            key=f"utkinect-s{recording.subject:02d}-e{recording.trial:02d}",
            joints_MTJC=recording.joints_TJC[None],
            layout="ntu25",
            split="train" if recording.subject % 2 else "test",
            subject=recording.subject,
        )
        for recording in found
    ]
    events = events_of([list(_events(recording)) for recording in found], bounds="closed")
    return Recordings(from_clips(clips, classes=_CLASSES), _CLASSES, events)


def _events(recording: utkinect.Recording) -> Iterator[tuple[int, int, int]]:
    for segment in recording.segments:
        begin = int(np.searchsorted(recording.frame_T, segment.first))
        end = int(np.searchsorted(recording.frame_T, segment.last, side="right")) - 1
        if begin <= end:
            yield _CLASSES.index(segment.action), begin, end


UTKINECT = Benchmark(
    name="utkinect",
    about="UTKinect-Action3D, ten actions in a row in 3D",
    task="frames",
    protocols=("subjects",),
    primary_metric="all_classes",
    clips=20,
    classes=10,
    missing=check_for(utkinect.SOURCE, "joints/actionLabel.txt", "joints/joints_s*_e*.txt"),
    read=_read,
)
