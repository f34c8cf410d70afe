"""The last stage of benchmarks/hostile.py, cheap and exact; workers import it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import ClassVar

import numpy as np
from measuring import made_sample

from posecap.stage import Stage
from posecap.types import Clip, Sample


@dataclass(frozen=True)
class Digest(Stage):
    """A sample without people for each clip, whose caption is the SHA-256 of the clip's frames and times.

    Two builds then have the same files only if every frame that was decoded is the same, down to the last bit.
    """

    name: ClassVar[str] = "pack"
    takes: ClassVar[type] = Clip
    gives: ClassVar[type] = Sample

    def __call__(self, item: Clip) -> Iterator[Sample]:
        digest = sha256(np.ascontiguousarray(item.frames_THW3).tobytes() + item.pts_T.tobytes()).hexdigest()
        joints = np.zeros((1, len(item.pts_T), 17, 3), np.float32)
        video, text = np.eye(1, 8, dtype=np.float32)[0], np.eye(1, 8, dtype=np.float32)
        made = made_sample(0, joints, video_D=video, text_CD=text, caption=digest)
        facts = {
            **made.facts,
            "clip_id": item.clip_id,
            "row_id": item.video.row.row_id,
            "uri": item.video.row.uri,
            "source_id": item.video.source_id,
            "start_seconds": item.span.start_seconds,
            "end_seconds": item.span.end_seconds,
            "pts_span": [float(item.pts_T[0]), float(item.pts_T[-1])],
            "models": {**made.facts["models"], "decoder": item.decoder},
        }
        changed = {"key": item.clip_id, "pts_T": item.pts_T, "facts": facts}
        yield Sample(**{**{f.name: getattr(made, f.name) for f in fields(made)}, **changed})
