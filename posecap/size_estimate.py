"""How many bytes clips will take in a dataset, from their length alone: an order of magnitude before a build."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ASSUMED_SECONDS = 10.0
"""Length of the clips of a row that lacks an end of its span, or both, where nothing better is known."""
ASSUMED_FPS = 30.0
ASSUMED_PEOPLE = 1.5
"""A free choice between one and two, the most that the default pipeline keeps."""
BYTES_PER_CLIP = 20_000
"""Vectors (1280 + 2 x 384 float32, 8 kB), sentences, facts and tar headers."""
BYTES_PER_PERSON_AND_FRAME = 17 * 3 * 4
"""17 joints of x, y and score in float32."""
BYTES_PER_FRAME = 8
"""A presentation time in float64."""
BYTES_PER_SECOND_OF_VIDEO = 150_000
"""An mp4 of 1.2 Mbit/s."""
COPIES = 2
"""Arrays are stored in the tar for exchange and again in the columns file for training."""


def estimate(*, clips: int, seconds: float, store_video: Literal["none", "clip"]) -> int:
    """Bytes of a finished dataset: 2 x (20 kB a clip + 30 frames a second of 1.5 people's 17 joints and a time
    stamp), and 150 kB a second of stored video.

    Rejections, shots and people vary.

    Args:
        clips: number of clips; :func:`posecap.plan_summary.summarise` takes one for each row that is no duplicate.
        seconds: of all clips together.
        store_video: as in the manifest; ``clip`` stores an mp4 of each clip.
    """
    return round(clips * COPIES * BYTES_PER_CLIP + seconds * _bytes_per_second(store_video))


def bytes_of_rows(rows: pa.Table, *, store_video: Literal["none", "clip"]) -> NDArray[np.int64]:
    """(N) estimated bytes of each row of a plan: of one clip of its span; 0 for a row that will be rejected."""
    span = pc.fill_null(pc.subtract(rows["end"], rows["start"]), ASSUMED_SECONDS).to_numpy()
    each = COPIES * BYTES_PER_CLIP + np.maximum(span, 0.0) * _bytes_per_second(store_video)
    used = pc.and_(pc.is_null(rows["duplicate_of"]), pc.is_null(rows["problem"])).to_numpy()
    # Cut at a petabyte: a span of any length may be written in a table, and int64 must hold the sum of a part.
    return np.where(used, np.minimum(np.rint(each), 1e15), 0).astype(np.int64)


def _bytes_per_second(store_video: Literal["none", "clip"]) -> float:
    frame = ASSUMED_PEOPLE * BYTES_PER_PERSON_AND_FRAME + BYTES_PER_FRAME
    return COPIES * ASSUMED_FPS * frame + (BYTES_PER_SECOND_OF_VIDEO if store_video == "clip" else 0)
