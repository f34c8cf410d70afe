"""UTKinect-Action3D as a benchmark of frame labels: 20 untrimmed recordings of ten actions.

The set has no official split: recordings of subjects with odd numbers train, those of even numbers test. The sensor
numbers its frames with gaps, where it tracked nobody; the frames of a recording here are those that were tracked,
counted from 0 without gaps (so that their rate is not constant, and clips have no ``fps``), and events begin and end at
such frames, both included. An action whose begin or end is ``NaN`` in the label file has no event, and neither has one
during which nobody was tracked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tmor_train.benchmarks.base import (
    Benchmark,
    FrameParts,
    Interval,
    Recordings,
    check_for,
    events_from_intervals,
)
from tmor_train.data import Clip, from_clips
from tmor_train.data.datasets import utkinect

_CLASSES = tuple(utkinect.CAPTIONS)


def _read(folder: Path, protocol: str) -> FrameParts:
    recordings = utkinect.recordings(folder)
    return FrameParts(
        train=_labelled([recording for recording in recordings if recording.subject % 2 == 1]),
        test=_labelled([recording for recording in recordings if recording.subject % 2 == 0]),
    )


def _labelled(recordings: list[utkinect.Recording]) -> Recordings:
    """Recordings, each as one clip, with their events."""
    clips = [
        Clip(
            key=f"utkinect-s{recording.subject:02d}-e{recording.trial:02d}",
            joints_MTJC=recording.joints_TJC[None],
            layout="ntu25",
            split="train" if recording.subject % 2 else "test",
            subject=recording.subject,
        )
        for recording in recordings
    ]
    events = events_from_intervals([list(_intervals(recording)) for recording in recordings], bounds="closed")
    return Recordings(from_clips(clips, classes=_CLASSES), _CLASSES, events)


def _intervals(recording: utkinect.Recording) -> Iterator[Interval]:
    """Its actions, in indices of its tracked frames, both ends included."""
    for segment in recording.segments:
        begin = int(np.searchsorted(recording.frame_T, segment.first))
        end = int(np.searchsorted(recording.frame_T, segment.last, side="right")) - 1
        if begin <= end:
            yield Interval(_CLASSES.index(segment.action), begin, end)


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
