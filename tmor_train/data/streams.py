"""Views of the same motion: where joints are, how bones point, how joints move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from posecap.joints import LAYOUTS
from tmor_train.data.batch import MotionBatch

Stream = Literal["joint", "bone", "motion"]


def streamed(batch: MotionBatch, streams: Sequence[Stream]) -> MotionBatch:
    """One stream, or several side by side as channels (early fusion): C times as many channels as streams.

    ``joint`` is the joints as they are. ``bone`` is each joint minus its parent in the layout, 0 for the root.
    ``motion`` is each joint's next place minus its place, 0 in the last frame. A bone or a motion of which one end is
    not seen is 0 and not seen; of several streams together, a joint is seen where any of them sees it.

    Raises:
        ValueError: no stream, a repeated one, or one that is not known.
    """
    unknown = set(streams) - {"joint", "bone", "motion"}
    if unknown or not streams or len(set(streams)) < len(streams):
        raise ValueError(f"streams are some of 'joint', 'bone' and 'motion', each once, not {tuple(streams)}")
    parts = [_stream(batch, stream) for stream in streams]
    seen = parts[0][1]
    for _, shown in parts[1:]:
        seen = seen | shown
    return replace(batch, motion_NCTVM=torch.cat([values for values, _ in parts], 1), seen_NTVM=seen)


def _stream(batch: MotionBatch, stream: Stream) -> tuple[Tensor, Tensor]:
    motion, seen = batch.motion_NCTVM, batch.seen_NTVM
    if stream == "joint":
        return motion, seen
    if stream == "bone":
        parents = torch.tensor(_parents(batch.layout), device=motion.device)
        shown = seen & seen[:, :, parents]
        shown[:, :, LAYOUTS[batch.layout].root] = seen[:, :, LAYOUTS[batch.layout].root]
        values = motion - motion[:, :, :, parents]
    else:
        shown = torch.zeros_like(seen)
        shown[:, :-1] = seen[:, :-1] & seen[:, 1:]
        values = torch.zeros_like(motion)
        values[:, :, :-1] = motion[:, :, 1:] - motion[:, :, :-1]
    return values.masked_fill(~shown[:, None], 0), shown


def _parents(layout: str) -> list[int]:
    """Each joint's parent; the root is its own."""
    parents = dict(LAYOUTS[layout].bones)
    return [parents.get(joint, joint) for joint in range(len(LAYOUTS[layout].names))]
