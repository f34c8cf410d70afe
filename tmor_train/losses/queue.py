"""MoCo queue and memory bank: keys of earlier batches, or one key per clip of the dataset, as further candidates.

A key is the projected motion feature of a clip's second view; in the batch it is fresh, afterwards it is stored here.

Motion keys are stored as projected by the EMA head, which moves slowly. Video and text vectors are stored as the
frozen encoders gave them and are projected when used, because their heads are trained. Clusters are not stored but
looked up by the clip's index in the dataset, so that a new clustering is in effect for all entries at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from tmor_train.objective_config import ObjectiveConfig

NOBODY = -1
"""The dataset index of an empty slot; no anchor is compared with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """K candidates.

    ``motion_KD`` are unit keys. ``video_KDv`` and ``text_KDt`` are the vectors of the frozen encoders, not projected
    unless a caller has replaced them; None where the data or the objective has none. ``has_video_K`` and ``has_text_K``
    bool say which candidates have one; the others have zeros. ``index_K`` int64 is the clip's index in the dataset, −1
    for an empty slot, which no anchor may be compared with; ``text_id_K`` int64 is equal for equal sentences, −1 for
    none.
    """

    motion_KD: Tensor
    video_KDv: Tensor | None
    text_KDt: Tensor | None
    has_video_K: Tensor
    has_text_K: Tensor
    index_K: Tensor
    text_id_K: Tensor

    @classmethod
    def of_motion(cls, keys_KD: Tensor, index_K: Tensor) -> Entries:
        """Unit motion keys (K, D) alone, without frozen vectors."""
        none_K = torch.zeros_like(index_K, dtype=torch.bool)
        return cls(
            motion_KD=keys_KD,
            video_KDv=None,
            text_KDt=None,
            has_video_K=none_K,
            has_text_K=none_K,
            index_K=index_K,
            text_id_K=torch.full_like(index_K, NOBODY),
        )

    def parts(self) -> dict[str, Tensor | None]:
        """The tensors by name, not copied."""
        return {name: getattr(self, name) for name in _PARTS}

    def map(self, change: Callable[[Tensor], Tensor]) -> Entries:
        """The candidates with ``change`` applied to every tensor."""
        changed: dict[str, Any] = {name: part if part is None else change(part) for name, part in self.parts().items()}
        return Entries(**changed)

    def concat(self, others: Entries) -> Entries:
        """These candidates, then ``others`` in the dtypes of these; video or text vectors are None where either has
        none."""
        joined: dict[str, Any] = dict.fromkeys(self.parts())
        for name, first in self.parts().items():
            second: Tensor | None = getattr(others, name)
            if first is not None and second is not None:
                joined[name] = torch.cat([first, second.to(first.dtype)])
        return Entries(**joined)


_PARTS = tuple(field.name for field in fields(Entries))

Gather = Callable[[Entries], tuple[Entries, int]]
"""Returns the entries of all ranks in order of rank, and the position of this rank's first one."""


class Slots(nn.Module):
    """A fixed number of entries in buffers, which are part of checkpoints, so that a resumed run has the same ones.

    Args:
        slots: number of entries.
        motion, video, text: widths of the keys and of the frozen vectors; None: there are no such vectors.
    """

    def __init__(self, slots: int, *, motion: int, video: int | None, text: int | None) -> None:
        super().__init__()
        self.register_buffer("motion_KD", torch.zeros(slots, motion))
        self.register_buffer("video_KDv", None if video is None else torch.zeros(slots, video))
        self.register_buffer("text_KDt", None if text is None else torch.zeros(slots, text))
        self.register_buffer("has_video_K", torch.zeros(slots, dtype=torch.bool))
        self.register_buffer("has_text_K", torch.zeros(slots, dtype=torch.bool))
        self.register_buffer("index_K", torch.full((slots,), NOBODY))
        self.register_buffer("text_id_K", torch.full((slots,), NOBODY))
        self.index_K: Tensor

    @property
    def filled(self) -> Tensor:
        """Number of slots that hold a key, int64 of shape ()."""
        return (self.index_K != NOBODY).sum()

    def slots(self) -> Entries:
        """All slots as candidates, including empty ones; not copied."""
        return Entries(**{name: getattr(self, name) for name in _PARTS})

    def write(self, slots_B: Tensor, entries: Entries) -> None:
        """Writes B entries, without gradient, into the slots of indices ``slots_B`` int64. Vectors that either lacks
        are not written."""
        for name, old in self.slots().parts().items():
            new: Tensor | None = getattr(entries, name)
            if old is not None and new is not None:
                old[slots_B] = new.detach().to(old.dtype)


class Queue(Slots):
    """The last ``slots`` keys, first in, first out. A clip may have several."""

    def __init__(self, slots: int, *, motion: int, video: int | None, text: int | None) -> None:
        super().__init__(slots, motion=motion, video=video, text=text)
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))
        self.cursor: Tensor

    def negatives(self, fresh: Entries) -> Entries:
        """The candidates besides the batch's own: all slots, with empty ones and with older keys of the batch's clips,
        which the caller must mask. They are the buffers themselves: :meth:`enqueue` changes them."""
        return self.slots()

    @torch.no_grad()
    def enqueue(self, fresh: Entries) -> None:
        """Overwrites the oldest entries with those of the batch; of a batch larger than the queue, with its last
        ones."""
        slots = len(self.index_K)
        last = fresh.map(lambda part: part[-slots:])
        count = len(last.index_K)
        self.write((self.cursor + torch.arange(count, device=self.cursor.device)) % slots, last)
        self.cursor.add_(count).remainder_(slots)


class MemoryBank(Slots):
    """A slot for every clip of the dataset, at its index, whose motion key is averaged over the epochs.

    ``momentum`` is the weight of the stored key in the average, which is scaled to unit length. A clip of the batch is
    represented by its fresh key alone.
    """

    def __init__(self, slots: int, *, momentum: float, motion: int, video: int | None, text: int | None) -> None:
        super().__init__(slots, motion=motion, video=video, text=text)
        self.momentum = momentum

    def negatives(self, fresh: Entries) -> Entries:
        """The candidates besides the batch's own: all slots, those of the batch's clips as if they were empty."""
        slots = self.slots()
        return replace(slots, index_K=slots.index_K.index_fill(0, fresh.index_K, NOBODY))

    @torch.no_grad()
    def enqueue(self, fresh: Entries) -> None:
        """Averages the batch's keys into the slots of their clips; the first key of a clip is stored as it is. Of a
        clip that is twice in the batch, as where the last batch is filled up, one of both is stored."""
        slots_B = fresh.index_K
        motion_KD = self.slots().motion_KD
        old, new = motion_KD[slots_B], fresh.motion_KD.to(motion_KD.dtype)
        first_B = self.index_K[slots_B] == NOBODY
        mixed = nn.functional.normalize(self.momentum * old + (1 - self.momentum) * new, dim=1)
        self.write(slots_B, replace(fresh, motion_KD=torch.where(first_B[:, None], new, mixed)))


class NoQueue(nn.Module):
    """Stores nothing: the candidates are those of the batch."""

    def negatives(self, fresh: Entries) -> None:
        """There are no candidates besides the batch's own."""

    def enqueue(self, fresh: Entries) -> None:
        """Nothing is kept."""


Memory = Queue | MemoryBank | NoQueue


def build_memory(config: ObjectiveConfig, *, video: int | None, text: int | None, clips: int | None) -> Memory:
    """The queue or memory bank that ``config.negatives`` names.

    Args:
        video, text: widths of the frozen vectors to store; None stores none.
        clips: number of clips of the dataset, which only a memory bank needs.

    Raises:
        ValueError: a memory bank, and ``clips`` is None.
    """
    if config.negatives == "batch":
        return NoQueue()
    if config.negatives == "queue":
        return Queue(config.queue_size, motion=config.width, video=video, text=text)
    if clips is None:
        raise ValueError("a memory bank has a slot for every clip: say how many clips the dataset has")
    return MemoryBank(clips, momentum=config.bank_momentum, motion=config.width, video=video, text=text)
