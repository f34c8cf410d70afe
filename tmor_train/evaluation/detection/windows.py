"""Windows of recordings: their frames and labels in batches, and the mean of their scores over each recording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from tmor_train.benchmarks import Recordings
from tmor_train.data import Loader, Sampling
from tmor_train.data.batch import people_of
from tmor_train.data.dataset import Floats, Numbers
from tmor_train.evaluation.detection.config import WindowConfig


def windows(frames: int, config: WindowConfig) -> tuple[tuple[int, int], ...]:
    """(begin, end), in frames and end excluded, of the windows that cover a recording of ``frames`` frames, in order.

    Raises:
        ValueError: there is no frame.
    """
    if frames < 1:
        raise ValueError("a recording without frames cannot be cut into windows")
    length, step = config.length, config.stride or config.length
    count = 1 + max(0, -(-(frames - length) // step))
    found = [(n * step, min(n * step + length, frames)) for n in range(count)]
    if config.last == "shifted":  # only recordings shorter than ``length`` have a shorter window
        found[-1] = (max(0, frames - length), frames)
    return tuple(found)


def averaged(scores: Iterable[tuple[int, Floats]], *, frames: int) -> Floats:
    """The mean score of each of ``frames`` frames over all windows that hold it: (T, K) float32.

    ``scores`` has, for each window, its first frame and its scores (length, K).

    Raises:
        ValueError: a frame lies in no window, or a window goes beyond the recording.
    """
    total: Floats | None = None
    count_T = np.zeros(frames, np.int64)
    for begin, score in scores:
        if begin < 0 or begin + len(score) > frames:
            raise ValueError(f"frames {begin} to {begin + len(score)} lie outside a recording of {frames}")
        if total is None:
            total = np.zeros((frames, score.shape[1]), np.float32)
        total[begin : begin + len(score)] += score
        count_T[begin : begin + len(score)] += 1
    if total is None or not count_T.all():
        raise ValueError(f"{int((count_T == 0).sum())} of {frames} frames lie in no window")
    mean: Floats = (total / count_T[:, None]).astype(np.float32)
    return mean


class RecordingWindows(Loader):
    """The W windows of some recordings, numbered in their order; ``gather`` makes a batch of some of them.

    Frames keep their rate, and coordinates are scaled as ``sampling`` says, window by window. The people shown are
    those of the whole recording. Windows of a batch have the frames of its longest; those after the end of a shorter
    one are absent. ``recording_W``, ``begin_W`` and ``length_W`` (frames) are int64.
    """

    def __init__(self, recordings: Recordings, *, sampling: Sampling, config: WindowConfig) -> None:
        cut = [
            (number, begin, end - begin)
            for number, frames in enumerate(recordings.motions.clips.frames_N.tolist())
            for begin, end in windows(frames, config)
        ]
        self.recording_W, self.begin_W, self.length_W = np.array(cut, np.int64).reshape(-1, 3).T
        self.recordings, self.config = recordings, config
        seen = replace(sampling, frames=config.length, choice="window", draw="deterministic", padding="zero")
        super().__init__(recordings.motions.select(self.recording_W), sampling=seen, workers=0)

    def labels(self, index_N: Numbers) -> torch.Tensor:
        """Which classes each frame of some windows has: (N, T, K) bool, no class after a window's end."""
        classes, longest = len(self.recordings.classes), int(self.length_W[index_N].max())
        label_NTK = np.zeros((len(index_N), longest, classes), np.bool_)
        for row, number in enumerate(index_N.tolist()):
            begin, length = int(self.begin_W[number]), int(self.length_W[number])
            packed = self._packed[int(self.recording_W[number])][begin : begin + length]
            label_NTK[row, :length] = np.unpackbits(packed, axis=1, count=classes)
        return torch.from_numpy(label_NTK)

    def alike(self, *, batch: int) -> list[Numbers]:
        """All windows in batches whose windows are of one length, so that nothing is padded."""
        found: list[Numbers] = []
        for length in np.unique(self.length_W).tolist():
            members = np.flatnonzero(self.length_W == length)
            found += np.split(members, range(batch, len(members), batch))
        return found

    @cached_property
    def _packed(self) -> list[NDArray[np.uint8]]:
        """The labels of each recording, eight classes a byte: those of an hour-long set fit into memory then."""
        return [np.packbits(self.recordings.labels(number), axis=1) for number in range(len(self.recordings.motions))]

    @cached_property
    def _people(self) -> Numbers:
        rank = self.sampling.rank
        people = people_of(self.recordings.motions, most=rank + self.sampling.people, by=self.sampling.by)
        return people[self.recording_W, rank:]

    def _frames(self, index_N: Numbers, epoch: int) -> Numbers:
        step_T = np.arange(int(self.length_W[index_N].max()))
        inside = step_T < self.length_W[index_N][:, None]
        return np.where(inside, self.begin_W[index_N][:, None] + step_T, -1)
