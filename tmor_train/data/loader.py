"""Loads batches of clips in an order that depends on seed and epoch alone; training can resume at any position.

Random numbers are hashes of integers: the same seed, epoch, purpose and clip always give the same number. There is no
generator whose state would have to be saved, and a clip's numbers do not depend on the batch, the worker or the rank
that gathers it. The hash is SplitMix64's finaliser. In all functions of it ``names`` are integers of at least 0 that
identify the draw, such as seed, epoch and a number for the purpose; ``index_N`` int64 are the clips' indices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tmor_train.configuration import Checked, ranged
from tmor_train.data.batch import (
    ByPeople,
    Choice,
    MotionBatch,
    Normalise,
    loop_padded,
    people_of,
    uniform_frames,
    window_frames,
)
from tmor_train.data.dataset import MotionSet, Numbers

# Purposes of random numbers, so that the order, a clip's frames and its caption are drawn independently.
_ORDER, _FRAMES, _CAPTION = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Sampling(Checked):
    """How frames, people and a caption are sampled from a clip.

    ``frames`` is the number of frames T of the result. ``choice``: ``uniform`` selects one frame from each of T equal
    segments, ``window`` T consecutive frames. ``draw``: ``random``, for training, draws the frame in each segment, the
    position of the window and the caption; ``deterministic`` takes the middle of each segment, the middle window (a
    clip shorter than the window fills its last frames) and the first caption. ``padding`` ``zero`` leaves the other
    frames of such a window empty. ``loop``, with either ``choice``, repeats each person's frames from the first to the
    last in which the person is seen, so that frames without the person at both ends are replaced, too
    (:func:`~tmor_train.data.batch.loop_padded`).

    ``people`` is the number of person slots M; slots of a clip with fewer people are empty. They are filled with the
    clip's people ``by`` spread or in stored order (:func:`~tmor_train.data.batch.people_of`), leaving out the
    first ``rank`` of that order (1 and ``people`` 1: the second person alone). ``layout`` names the joints of the
    result (:data:`posecap.joints.LAYOUTS`), to which each clip's own layout must have an exact map; ``normalise``
    scales their coordinates.
    """

    frames: int = ranged(64, 1)
    choice: Choice = "uniform"
    draw: Literal["random", "deterministic"] = "random"
    padding: Literal["zero", "loop"] = "zero"
    people: int = ranged(1, 1)
    by: ByPeople = "spread"
    rank: int = ranged(0, 0)
    layout: str = "unik17"
    normalise: Normalise = field(default_factory=Normalise)


@dataclass(frozen=True, kw_only=True)
class Batching(Checked):
    """How clips are grouped into batches.

    ``size`` is the number of clips of a batch on each rank. ``order``: ``shuffled`` anew each epoch, or ``stored``.
    ``last``: an incomplete last batch is left out (``drop``), divided among the ranks, some of which may get no clip
    (``keep``), or completed with the first clips of the same epoch (``fill``), repeated where they are too few.
    ``seed`` decides the order, and which frames and caption are drawn from a clip; views have a seed of their own
    (``loop.seed``).
    """

    size: int = ranged(256, 1)
    order: Literal["shuffled", "stored"] = "shuffled"
    last: Literal["drop", "keep", "fill"] = "drop"
    seed: int = ranged(0, 0)


@dataclass(frozen=True, slots=True)
class ProcessRank:
    """Which of the processes that train together this one is: number ``rank``, from 0, of ``world`` processes.

    Raises:
        ValueError: ``rank`` is below 0 or not below ``world``.
    """

    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} is not one of 0 to {self.world - 1}, for a world size of {self.world}")


@dataclass(frozen=True)
class LoaderState:
    """How far training is: ``position`` clips of the order of epoch ``epoch`` (from 0) have been returned, by all ranks
    together.

    Raises:
        ValueError: a number is below 0.
    """

    epoch: int = 0
    position: int = 0

    def __post_init__(self) -> None:
        if min(self.epoch, self.position) < 0:
            raise ValueError(f"epoch and position are at least 0, not {self.epoch} and {self.position}")


class Loader:
    """Iterates over batches, one epoch per loop: ``for batch in loader`` yields the rest of the current epoch, and the
    next loop the epoch after it.

    The order is a pure function of seed and epoch, and sampling of a clip one of seed, epoch and clip. Batches do not
    depend on ``workers``, and training resumed from :attr:`state` sees exactly the remaining clips, also with another
    batch size or number of ranks.

    Args:
        sampling, batching: None takes the defaults.
        process: which part of each batch this process loads; None: there is a single process, which loads all.
        workers: threads that prefetch batches; 0 gathers in the calling thread. Threads suffice, since gathering copies
            arrays with the GIL released.
        ahead: batches that each worker prefetches while the caller works on one.

    Raises:
        ValueError: ``workers`` is below 0 or ``ahead`` below 1.
    """

    def __init__(
        self,
        motions: MotionSet,
        *,
        sampling: Sampling | None = None,
        batching: Batching | None = None,
        process: ProcessRank | None = None,
        workers: int = 1,
        ahead: int = 2,
    ) -> None:
        if workers < 0 or ahead < 1:
            raise ValueError(f"workers is at least 0 and ahead at least 1, not {workers} and {ahead}")
        self.motions = motions
        self.sampling, self.batching = sampling or Sampling(), batching or Batching()
        self.process = process or ProcessRank()
        self._workers, self._ahead = workers, ahead
        self._state = LoaderState()

    @property
    def state(self) -> LoaderState:
        """How far training is after the batch that was returned last; it can be set, to resume there.

        Raises:
            ValueError: on setting, a position beyond the clips of the set.
        """
        return self._state

    @state.setter
    def state(self, state: LoaderState) -> None:
        if state.position > len(self.motions):
            raise ValueError(f"position {state.position} is beyond the {len(self.motions)} clips of the set")
        self._state = state

    def __len__(self) -> int:
        """Number of batches that this epoch still yields."""
        rest, step = len(self.motions) - self._state.position, self.batching.size * self.process.world
        return rest // step if self.batching.last == "drop" else -(-rest // step)

    def __iter__(self) -> Iterator[MotionBatch]:
        epoch = self._state.epoch
        plan = self._plan(epoch)
        if self._workers == 0:
            for index_N, after in plan:
                batch = self.gather(index_N, epoch=epoch)
                self._state = after
                yield batch
        else:
            yield from self._prefetch(plan, epoch)
        self._state = LoaderState(epoch + 1, 0)

    def gather(self, index_N: Numbers, *, epoch: int = 0) -> MotionBatch:
        """The clips of indices ``index_N`` (int64, into the set) as a batch, sampled as in ``epoch`` (from 0)."""
        sampling, clips = self.sampling, self.motions.clips
        joints, seen = self.motions.gather(
            index_N,
            frame_NT=self._frames(index_N, epoch),
            person_NM=self._people[index_N],
            layout=sampling.layout,
        )
        has_depth_N = torch.from_numpy(self._has_depth[index_N])
        size_N2 = torch.from_numpy(np.stack([clips.width_N[index_N], clips.height_N[index_N]], 1))
        if sampling.padding == "loop":
            joints, seen = loop_padded(joints, seen)
        joints = sampling.normalise(joints, seen, size_N2, has_depth_N)
        video_N, text_id_N = clips.video_N[index_N], self._captions(index_N, epoch)
        video, text = self.motions.video, self.motions.text
        return MotionBatch(
            motion_NCTVM=joints.permute(0, 4, 2, 3, 1),
            seen_NTVM=seen.permute(0, 2, 3, 1),
            index_N=torch.from_numpy(index_N),
            label_N=torch.from_numpy(clips.label_N[index_N]),
            text_id_N=torch.from_numpy(text_id_N),
            has_depth_N=has_depth_N,
            has_video_N=torch.from_numpy(video_N >= 0),
            layout=sampling.layout,
            video_ND=None if video is None else torch.from_numpy(video.rows(video_N)),
            text_ND=None if text is None else torch.from_numpy(text.rows(text_id_N)),
        )

    @cached_property
    def _people(self) -> Numbers:
        rank = self.sampling.rank
        return people_of(self.motions, most=rank + self.sampling.people, by=self.sampling.by)[:, rank:]

    @cached_property
    def _has_depth(self) -> NDArray[np.bool_]:
        return self.motions.has_depth

    @cached_property
    def _entries(self) -> Numbers:
        """The set's ``caption_K`` with -1 appended, so that the index -1 of a clip without captions gives -1."""
        return np.append(self.motions.caption_K, -1)

    def _frames(self, index_N: Numbers, epoch: int) -> Numbers:
        """The frames of each clip, (N, T) int64, -1 for an empty one."""
        sampling, frames_N = self.sampling, self.motions.clips.frames_N[index_N]
        count = sampling.frames if sampling.choice == "uniform" else 1
        if sampling.draw == "random":
            draw = uniform(self.batching.seed, epoch, _FRAMES, index_N=index_N, count=count)
        else:
            draw = np.full((len(index_N), count), 0.5)
        if sampling.choice == "uniform":
            return uniform_frames(frames_N, length=sampling.frames, draw_NT=draw)
        if sampling.draw == "deterministic":
            draw = np.where(frames_N < sampling.frames, 1.0, 0.5)[:, None]
        return window_frames(frames_N, length=sampling.frames, draw_N=draw[:, 0])

    def _captions(self, index_N: Numbers, epoch: int) -> Numbers:
        """The sentence of each clip, (N,) int64 into the set's ``sentences``, -1 for a clip without captions."""
        clips = self.motions.clips
        count_N = clips.caption_count_N[index_N]
        number_N = np.zeros(len(index_N), np.int64)
        if self.sampling.draw == "random":
            draw_N = uniform(self.batching.seed, epoch, _CAPTION, index_N=index_N, count=1)[:, 0]
            number_N = (draw_N * count_N).astype(np.int64)
        return self._entries[np.where(count_N > 0, clips.caption_first_N[index_N] + number_N, -1)]

    def _plan(self, epoch: int) -> Iterator[tuple[Numbers, LoaderState]]:
        """The indices of this rank's clips for each remaining batch, with the state after it."""
        count, batching, (rank, world) = len(self.motions), self.batching, (self.process.rank, self.process.world)
        if batching.order == "shuffled":
            order = permutation(batching.seed, epoch, _ORDER, count=count)
        else:
            order = np.arange(count)
        step = batching.size * world
        for begin in range(self._state.position, count, step):
            clips = order[begin : begin + step]
            after = LoaderState(epoch, begin + len(clips))
            if len(clips) < step and batching.last == "drop":
                return
            if batching.last == "fill":
                clips = np.resize(np.concatenate([clips, order[: step - len(clips)]]), step)
            yield clips[len(clips) * rank // world : len(clips) * (rank + 1) // world], after

    def _prefetch(self, plan: Iterator[tuple[Numbers, LoaderState]], epoch: int) -> Iterator[MotionBatch]:
        """The batches of ``plan``, gathered ahead by threads; the state is that of the batch returned last."""
        waiting: deque[tuple[Future[Any], LoaderState]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="loader") as pool:
            try:
                for index_N, after in plan:
                    waiting.append((pool.submit(self.gather, index_N, epoch=epoch), after))
                    if len(waiting) > self._workers * self._ahead:
                        yield self._next(waiting)
                while waiting:
                    yield self._next(waiting)
            finally:
                for future, _ in waiting:
                    future.cancel()

    def _next(self, waiting: deque[tuple[Future[Any], LoaderState]]) -> MotionBatch:
        future, after = waiting.popleft()
        batch: MotionBatch = future.result()
        self._state = after
        return batch


Hashes = NDArray[np.uint64]
SPLITMIX = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""SplitMix64's increment and multipliers (Steele, Lea and Flood, OOPSLA 2014)."""
_STEP, _FIRST, _SECOND = SPLITMIX
_WORD = 2**64 - 1  # keeps the lower 64 bits


def _mixed(values: Hashes) -> Hashes:
    """SplitMix64's finaliser, in place."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(_FIRST)
    values ^= values >> np.uint64(27)
    values *= np.uint64(_SECOND)
    values ^= values >> np.uint64(31)
    return values


def _mixed_one(value: int) -> int:
    """:func:`_mixed` of one number, much faster than of an array of one."""
    value = (value ^ value >> 30) * _FIRST & _WORD
    value = (value ^ value >> 27) * _SECOND & _WORD
    return value ^ value >> 31


def hashes(*names: int, index_N: Numbers) -> Hashes:
    """A 64-bit hash of ``names`` and each of ``index_N``: (N,) uint64."""
    base = 0
    for name in names:
        base = _mixed_one(base + _STEP * (name + 1) & _WORD)
    return _mixed(index_N.astype(np.uint64) * np.uint64(_STEP) + np.uint64(base + _STEP & _WORD))


def uniform(*names: int, index_N: Numbers, count: int) -> NDArray[np.float64]:
    """``count`` numbers for each of ``index_N``, uniform in [0, 1): (N, count) float64."""
    row_N1 = hashes(*names, index_N=index_N)[:, None]
    steps = np.uint64(_STEP) * np.arange(1, count + 1, dtype=np.uint64)
    # The upper 53 bits are a float64 exactly.
    return np.asarray((_mixed(row_N1 + steps) >> np.uint64(11)) * 2.0**-53, np.float64)


def permutation(*names: int, count: int) -> Numbers:
    """The integers 0 to ``count`` - 1 in a random order that depends on ``names`` alone: (count,) int64."""
    index = np.arange(count, dtype=np.int64)
    return np.argsort(hashes(*names, index_N=index), kind="stable").astype(np.int64)


def seed_of(*names: int) -> int:
    """A seed for ``torch.Generator``: a hash of ``names``, from 0 to 2^63 - 1."""
    return int(hashes(*names, index_N=np.zeros(1, np.int64))[0] >> np.uint64(1))
