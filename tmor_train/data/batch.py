"""The batch that the loader yields: clips of equal numbers of frames and people in one layout, with labels and
vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class MotionBatch:
    """N clips, each with C coordinates, T frames, V joints and M people.

    ``motion_NCTVM`` float32 holds x to the right, y down and, where C is 3, z away from the camera, in the unit of the
    loader's :class:`~tmor_train.data.modalities.Normalise` (the picture's width is -1 to 1, or the size of the body);
    0 where a joint is not seen. C is 2 or 3 times the number of streams, in the order of the view's ``streams``.
    ``seen_NTVM`` bool says which joints are seen. ``index_N`` int64 is each clip's index in the loader's
    :class:`~tmor_train.data.dataset.MotionSet`; ``label_N`` int64 its index in the set's ``classes`` and ``text_id_N``
    int64 the one caption that was drawn, as an index into the set's ``sentences``; either is -1 where the clip has
    none. ``has_depth_N`` bool is False where the third coordinate is padding, ``has_video_N`` bool False for a clip
    without a video vector. ``layout`` names the joints (:data:`posecap.joints.LAYOUTS`).

    ``video_ND`` and ``text_ND`` float32 are the vectors of the frozen encoders, each with its own D; zeros for a clip
    without one, None where the whole set has none.

    Raises:
        ValueError: ``seen_NTVM`` is not bool, or does not fit ``motion_NCTVM``.
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
                f"seen_NTVM {tuple(self.seen_NTVM.shape)} {self.seen_NTVM.dtype} does not fit motion_NCTVM "
                f"{tuple(self.motion_NCTVM.shape)}; expected (N, T, V, M) bool"
            )

    def __len__(self) -> int:
        return len(self.index_N)

    @property
    def present(self) -> Tensor:
        """Mask of people in frames: whether any of a person's joints is seen in a frame, (N, M, T) bool."""
        return self.seen_NTVM.any(2).transpose(1, 2)

    @property
    def people(self) -> Tensor:
        """Mask of people: whether any of a person's joints is seen in any frame, (N, M) bool."""
        return self.seen_NTVM.any(2).any(1)

    @property
    def joints(self) -> Tensor:
        """``motion_NCTVM`` with people first and coordinates last, (N, M, T, V, C); a view."""
        return self.motion_NCTVM.permute(0, 4, 2, 3, 1)

    @property
    def seen(self) -> Tensor:
        """``seen_NTVM`` with people first, (N, M, T, V); a view."""
        return self.seen_NTVM.permute(0, 3, 1, 2)

    def moved(self, joints_NMTVC: Tensor, seen_NMTV: Tensor | None = None) -> MotionBatch:
        """The same clips with other joints; those that are not seen become 0.

        Args:
            joints_NMTVC: of another T than before only with a mask of that T.
            seen_NMTV: which of them are seen; None keeps the mask of this batch.
        """
        seen = self.seen if seen_NMTV is None else seen_NMTV
        shown = joints_NMTVC.masked_fill(~seen[..., None], 0)
        return replace(self, motion_NCTVM=shown.permute(0, 4, 2, 3, 1), seen_NTVM=seen.permute(0, 2, 3, 1))

    def without_depth(self) -> MotionBatch:
        """The same clips marked as without depth; the caller has projected the coordinates already
        (:class:`~tmor_train.data.augment.Project`)."""
        return replace(self, has_depth_N=torch.zeros_like(self.has_depth_N))

    def to(self, device: torch.device | str) -> MotionBatch:
        """The batch on another device; copies from pinned memory to a GPU are asynchronous."""
        # To the CPU a copy must wait: nothing would hold back a read of values that have not arrived.
        asynchronous = torch.device(device).type != "cpu"
        return self._each(lambda tensor: tensor.to(device, non_blocking=asynchronous))

    def pinned(self) -> MotionBatch:
        """The batch in pinned memory, for asynchronous copies to a GPU."""
        return self._each(lambda tensor: tensor.contiguous().pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> MotionBatch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {name: change(t) for name, t in values.items() if isinstance(t, Tensor)}
        return replace(self, **changed)


def body_centre(joints_NMTVC: Tensor, seen_NMTV: Tensor) -> Tensor:
    """Mean position of the joints seen in a clip, over all people and frames: (N, 1, 1, 1, C); 0 where none is seen."""
    weights = seen_NMTV[..., None].to(joints_NMTVC.dtype)
    count = weights.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return (joints_NMTVC * weights).sum((1, 2, 3), keepdim=True) / count
