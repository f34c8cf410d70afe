"""UTKinect-Action3D by frames: whole recordings. The set has no official split: odd subjects train, even ones test.

Times count tracked frames, because the sensor skips some. An action without frame numbers (``NaN``) has no event.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tmor_train.benchmarks.base import Benchmark, Events, FrameParts, Missing, Recordings, absent
from tmor_train.data import Clip, from_clips
from tmor_train.data.datasets import utkinect


def _missing(folder: Path, protocol: str) -> tuple[Missing, ...]:
    return absent(Path(folder), ("joints/actionLabel.txt", "joints/joints_s*_e*.txt"), utkinect.SOURCE)


def _read(folder: Path, protocol: str) -> FrameParts:
    found = utkinect.recordings(Path(folder))
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
    classes = tuple(utkinect.CAPTIONS)
    events = []
    for number, recording in enumerate(found):
        for segment in recording.segments:
            begin = int(np.searchsorted(recording.frame_T, segment.first))
            end = int(np.searchsorted(recording.frame_T, segment.last, side="right")) - 1
            if begin <= end:
                events.append((number, classes.index(segment.action), begin, end))
    columns = np.array(events, np.int64).reshape(-1, 4)
    begin_E, end_E = columns[:, 2].astype(np.float64), columns[:, 3].astype(np.float64)
    return Recordings(
        from_clips(clips, classes=classes), classes, Events(columns[:, 0], columns[:, 1], begin_E, end_E, "closed")
    )


UTKINECT = Benchmark(
    name="utkinect",
    about="UTKinect-Action3D, ten actions in a row in 3D",
    task="frames",
    protocols=("subjects",),
    primary_metric="all_classes",
    clips=20,
    classes=10,
    missing=_missing,
    read=_read,
)
