"""Scores of the frames of recordings, with their labels, as they are kept beside a result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmor_train.data.arrays import Floats, Numbers

MOST_FRAMES = 2**19
"""That are kept of all recordings together."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FrameScores:
    """What was measured, frame by frame: frame 0 and then each ``every``-th of R recordings, F in all.

    ``scores_FK`` float16 and ``label_FK`` bool are those frames, recording after recording; recording r has the rows
    ``offset_R[r]`` to ``offset_R[r + 1]`` (int64, R + 1). ``key_R`` are the recordings' names and ``fps_R`` their rates
    (0 where not known). Scores of events have K + 1 columns, background first.
    """

    scores_FK: NDArray[np.float16]
    label_FK: NDArray[np.bool_]
    offset_R: Numbers
    key_R: NDArray[np.str_]
    fps_R: Floats
    every: int = 1

    def __post_init__(self) -> None:
        (rows, columns), recordings = self.scores_FK.shape, len(self.key_R)
        fits = self.label_FK.shape in ((rows, columns), (rows, columns - 1)) and self.fps_R.shape == (recordings,)
        offsets = self.offset_R.shape == (recordings + 1,) and (np.diff(self.offset_R) >= 0).all()
        if not fits or not offsets or self.offset_R[0] != 0 or self.offset_R[-1] != rows or self.every < 1:
            raise ValueError(
                f"scores {self.scores_FK.shape}, labels {self.label_FK.shape} and {recordings} recordings do not fit"
            )

    @classmethod
    def of(
        cls,
        recordings: Iterable[tuple[Floats, NDArray[np.bool_]]],
        *,
        frames: int,
        key_R: NDArray[np.str_],
        fps_R: Floats,
    ) -> FrameScores:
        """Those of whole recordings, (scores (T, K), labels (T, K)) each, ``frames`` in all: every frame, or every
        second, fourth, eighth ..., so that at most ``MOST_FRAMES`` and one for each recording are kept."""
        every = 1
        while frames > MOST_FRAMES * every:
            every *= 2
        kept = [(scores[::every].astype(np.float16), labels[::every]) for scores, labels in recordings]
        return cls(
            scores_FK=np.concatenate([scores for scores, _ in kept]),
            label_FK=np.concatenate([labels for _, labels in kept]),
            offset_R=np.cumsum([0, *(len(scores) for scores, _ in kept)]).astype(np.int64),
            key_R=key_R,
            fps_R=fps_R,
            every=every,
        )

    def recording(self, number: int) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Scores and labels of the kept frames of one recording; views."""
        begin, end = self.offset_R[number : number + 2].tolist()
        return self.scores_FK[begin:end], self.label_FK[begin:end]
