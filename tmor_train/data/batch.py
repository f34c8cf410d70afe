"""The batch that the loader yields: clips of one length in one layout, with labels and vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class MotionBatch:
    """A batch of N clips.

    ``motion_NCTVM`` float32, 0 where a joint is not seen; ``seen_NTVM`` bool; ``index_N`` int64 the clips' numbers in
    their set; ``label_N`` and ``text_id_N`` int64, -1 where unknown; ``has_depth_N`` bool, False where the third
    coordinate is padding; ``video_ND`` and ``text_ND`` float32, None where the set has no such vectors, and
    zeros for a clip without one (``has_video_N`` False, ``text_id_N`` -1). ``layout`` names the joints.
    """

    motion_NCTVM: Tensor
    seen_NTVM: Tensor
    index_N: Tensor
    label_N: Tensor
    text_id_N: Tensor
    has_depth_N: Tensor
    has_video_N: Tensor
    layout: str
    video_ND: Tensor | None = None
    text_ND: Tensor | None = None

    def __post_init__(self) -> None:
        clips, _, *rest = self.motion_NCTVM.shape
        if self.seen_NTVM.shape != (clips, *rest) or self.seen_NTVM.dtype != torch.bool:
            raise ValueError(
                f"seen {tuple(self.seen_NTVM.shape)} {self.seen_NTVM.dtype} does not fit motion "
                f"{tuple(self.motion_NCTVM.shape)}: it is (N, T, V, M) bool"
            )

    def __len__(self) -> int:
        return len(self.index_N)

    @property
    def present(self) -> Tensor:
        """Who is there in which frame: any joint seen."""
        return self.seen_NTVM.any(2).transpose(1, 2)

    @property
    def people(self) -> Tensor:
        """Whether a person has any seen joint: (N, M) bool."""
        return self.seen_NTVM.any(2).any(1)

    @property
    def joints(self) -> Tensor:
        """The same motion with people first and coordinates last; a view."""
        return self.motion_NCTVM.permute(0, 4, 2, 3, 1)

    @property
    def seen(self) -> Tensor:
        """The same mask with people first; a view."""
        return self.seen_NTVM.permute(0, 3, 1, 2)

    def moved(self, joints_NMTVC: Tensor, seen_NMTV: Tensor | None = None) -> MotionBatch:
        """The same clips with other joints; those that are not seen become 0."""
        seen = self.seen if seen_NMTV is None else seen_NMTV
        shown = joints_NMTVC.masked_fill(~seen[..., None], 0)
        return replace(self, motion_NCTVM=shown.permute(0, 4, 2, 3, 1), seen_NTVM=seen.permute(0, 2, 3, 1))

    def flattened(self) -> MotionBatch:
        """The same clips as clips without depth."""
        return replace(self, has_depth_N=torch.zeros_like(self.has_depth_N))

    def to(self, device: torch.device | str) -> MotionBatch:
        """The batch on another device; copies from pinned memory are asynchronous."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> MotionBatch:
        """The batch in pinned memory, for asynchronous copies to a GPU."""
        return self._each(lambda tensor: tensor.contiguous().pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> MotionBatch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {name: change(t) for name, t in values.items() if isinstance(t, Tensor)}
        return replace(self, **changed)


def body_centre(joints_NMTVC: Tensor, seen_NMTV: Tensor) -> Tensor:
    """Mean of all joints that are seen in a clip: (N, 1, 1, 1, C); 0 where none is."""
    weights = seen_NMTV[..., None].to(joints_NMTVC.dtype)
    count = weights.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return (joints_NMTVC * weights).sum((1, 2, 3), keepdim=True) / count
