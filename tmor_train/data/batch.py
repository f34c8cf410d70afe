"""Batches that the loader yields: clips of equal numbers of frames and people in one layout, with labels and vectors;
and how they become a network's input: which frames and people, normalised coordinates, and the joint, bone and motion
streams.

Joints that are not seen are 0 in normalised coordinates, which is the centre of the picture, as in UNIK. Axes: N clips,
M people, T frames, V joints, C coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posecap.joints import LAYOUTS
from tmor_train.configuration import Checked
from tmor_train.data.dataset import MotionSet, Numbers


@dataclass(frozen=True, eq=False, kw_only=True)
class MotionBatch:
    """N clips, each with C coordinates, T frames, V joints and M people.

    ``motion_NCTVM`` float32 holds x to the right, y down and, where C is 3, z away from the camera, in the unit of the
    loader's :class:`~tmor_train.data.batch.Normalise` (the picture's width is -1 to 1, or the size of the body);
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
        """The batch with every tensor changed."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {name: change(t) for name, t in values.items() if isinstance(t, Tensor)}
        return replace(self, **changed)


def body_centre(joints_NMTVC: Tensor, seen_NMTV: Tensor) -> Tensor:
    """Mean position of the joints seen in a clip, over all people and frames: (N, 1, 1, 1, C); 0 where none is seen."""
    weights = seen_NMTV[..., None].to(joints_NMTVC.dtype)
    count = weights.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return (joints_NMTVC * weights).sum((1, 2, 3), keepdim=True) / count


Choice = Literal["uniform", "window"]
"""Which frames of a clip: see :func:`uniform_frames` and :func:`window_frames`."""

ByPeople = Literal["spread", "first"]
"""Which people of a clip: see :func:`people_of`."""

Stream = Literal["joint", "bone", "motion"]
"""See :func:`streamed`."""

BODY_RADIUS = 0.5
"""Mean distance of a person's joints from the middle of the body after :func:`of_the_body`. A standing person is then
about as large as one who fills a picture that is normalised to [-1, 1]."""


def uniform_frames(frames_N: Numbers, *, length: int, draw_NT: NDArray[np.float64]) -> Numbers:
    """Indices of frames, one from each of ``length`` equal segments of the clip, in order: (N, ``length``) int64.

    Frames of a clip with fewer than ``length`` frames repeat.

    Args:
        frames_N: number of frames of each clip.
        draw_NT: position of each frame in its segment, in [0, 1); 0.5 is the middle.
    """
    position = (np.arange(length) + draw_NT) * (frames_N[:, None] / length)
    # A draw just below 1 may round up into the next segment.
    last = -(-np.arange(1, length + 1) * frames_N[:, None] // length) - 1
    frames: Numbers = np.minimum(position.astype(np.int64), last)
    return frames


def window_frames(frames_N: Numbers, *, length: int, draw_N: NDArray[np.float64]) -> Numbers:
    """Indices of ``length`` consecutive frames: (N, ``length``) int64; -1 for the empty frames that pad a shorter clip.

    Args:
        frames_N: number of frames of each clip.
        draw_N: where the window begins, from 0 (the earliest place) to 1 (the latest). For a clip shorter than the
            window: the share of the empty frames that come before it.
    """
    spare = frames_N - length
    # Places are numbered from 0 to |spare|; a draw of 1 counts as just below 1, the last of them.
    begin_N = np.floor(np.minimum(draw_N, 1 - 2.0**-53) * (np.abs(spare) + 1)).astype(np.int64) * np.sign(spare)
    frames = begin_N[:, None] + np.arange(length)
    return np.where((frames >= 0) & (frames < frames_N[:, None]), frames, -1)


def people_of(motions: MotionSet, *, most: int, by: ByPeople) -> Numbers:
    """Indices of the people selected from each clip: (N, ``most``) int64; -1 for empty slots.

    ``first`` selects in stored order. ``spread`` selects those whose joints spread furthest (standard deviation of
    x plus that of y in the clip's units, over all joints seen in the clip), the furthest first; for this it reads the
    joints of all clips with several people. A person who is never seen comes last.
    """
    people_N = motions.clips.people_N
    slots = np.arange(most)
    chosen = np.where(slots < people_N[:, None], slots, -1)
    if by == "spread":
        for number in np.flatnonzero(people_N > 1).tolist():
            joints = motions.clip(number).joints_MTJC
            order = np.argsort([-_spread(person) for person in joints], kind="stable")[:most]
            chosen[number, : len(order)] = order
    return chosen


def _spread(joints_TJC: NDArray[np.float32]) -> float:
    """That of :func:`people_of` for one person; -1 for one who is never seen."""
    seen = joints_TJC[..., -1] > 0
    if not seen.any():
        return -1.0
    return float(joints_TJC[seen][:, :2].astype(np.float64).std(0).sum())


def streamed(batch: MotionBatch, streams: Sequence[Stream]) -> MotionBatch:
    """The batch with one stream in place of its joints, or with several concatenated along C (early fusion).

    ``joint`` is the joints as they are. ``bone`` is each joint minus its parent in the layout, 0 for the root.
    ``motion`` is each joint's next position minus its position, 0 in the last frame. A bone or a motion of which one
    end is not seen is 0 and not seen. Of several streams together, a joint is seen where it is in any of them.

    Raises:
        ValueError: no stream, a repeated one, or one that is not known.
    """
    unknown = set(streams) - {"joint", "bone", "motion"}
    if unknown or not streams or len(set(streams)) < len(streams):
        raise ValueError(f"streams are one or more of 'joint', 'bone' and 'motion', each once, not {tuple(streams)}")
    parts = [_stream(batch, stream) for stream in streams]
    seen = parts[0][1]
    for _, shown in parts[1:]:
        seen = seen | shown
    return replace(batch, motion_NCTVM=torch.cat([values for values, _ in parts], 1), seen_NTVM=seen)


def _stream(batch: MotionBatch, stream: Stream) -> tuple[Tensor, Tensor]:
    """The values and the mask of one stream; see :func:`streamed`."""
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


@dataclass(frozen=True)
class Normalise(Checked):
    """How coordinates are scaled.

    ``screen`` is for clips in pixels: ``frame`` gives x' = 2x/w - 1 and y' = 2y/w - h/w with the picture's own width w
    and height h; ``fixed640`` the same with 640 x 480 for every picture, as UNIK does; ``body`` scales them as clips in
    metres. Clips in metres have no picture and, with any ``screen``, are scaled by :func:`of_the_body`: the mean of the
    joints of the first person slot in the first frame in which that person is seen becomes 0, and the mean distance of
    that person's joints from the middle of the body, over the frames of the batch, becomes 0.5. Axes keep their
    directions: y down, z away from the camera.
    """

    screen: Literal["frame", "fixed640", "body"] = "frame"

    def __call__(self, joints_NMTVC: Tensor, seen_NMTV: Tensor, size_N2: Tensor, has_depth_N: Tensor) -> Tensor:
        """The scaled joints, 0 where not seen. ``joints_NMTVC`` may be overwritten to save a copy.

        Args:
            size_N2: width and height of each clip's picture in pixels; ignored where ``has_depth_N``.
            has_depth_N: which clips are in metres.
        """
        by_body = has_depth_N if self.screen != "body" else torch.ones_like(has_depth_N)
        if not by_body.any():
            scaled = self._on_screen(joints_NMTVC, size_N2)
        elif by_body.all():
            scaled = of_the_body(joints_NMTVC, seen_NMTV)
        else:
            picked = by_body[:, None, None, None, None]
            scaled = of_the_body(joints_NMTVC, seen_NMTV).where(picked, self._on_screen(joints_NMTVC, size_N2))
        if seen_NMTV.device.type == "cpu" and bool(seen_NMTV.numpy().all()):  # much faster in NumPy than in torch
            return scaled
        return scaled.mul_(seen_NMTV[..., None].to(scaled.dtype))  # several times faster than filling by a mask

    def _on_screen(self, joints_NMTVC: Tensor, size_N2: Tensor) -> Tensor:
        size = size_N2 if self.screen == "frame" else torch.tensor([[640.0, 480.0]]).expand(len(joints_NMTVC), 2)
        # Clips in metres, in a batch with others, may have a width of 0; what comes out here for them is not used.
        width_N, height_N = size.to(joints_NMTVC).clamp(min=1).unbind(1)
        factor_N = 2 / width_N
        shift_NC = torch.zeros(len(joints_NMTVC), joints_NMTVC.shape[-1]).to(joints_NMTVC)
        shift_NC[:, 0], shift_NC[:, 1] = 1, height_N / width_N
        return joints_NMTVC.mul_(factor_N[:, None, None, None, None]).sub_(shift_NC[:, None, None, None])


def of_the_body(joints_NMTVC: Tensor, seen_NMTV: Tensor) -> Tensor:
    """Joints relative to the first person's middle in that person's first frame, and scaled so that the mean distance
    of that person's joints from the middle of the body is :data:`BODY_RADIUS`; see :class:`Normalise`.
    """
    first, there = joints_NMTVC[:, :1], seen_NMTV[:, :1]
    frames = there.any(3)
    begin_N = frames.to(torch.uint8).argmax(2).flatten()
    clips = torch.arange(len(joints_NMTVC), device=joints_NMTVC.device)
    centre = body_centre(first[clips, :, begin_N][:, :, None], there[clips, :, begin_N][:, :, None])
    weights = there[..., None].to(joints_NMTVC.dtype)
    middle = (first * weights).sum(3, keepdim=True) / weights.sum(3, keepdim=True).clamp(min=1)
    away = (first - middle).norm(dim=-1, keepdim=True) * weights
    size = away.sum((1, 2, 3, 4), keepdim=True) / weights.sum((1, 2, 3, 4), keepdim=True).clamp(min=1)
    # A person all of whose joints lie at one point, or who is never seen, has the size 0: no division by it.
    scaled: Tensor = (joints_NMTVC - centre) * (BODY_RADIUS / size.clamp(min=1e-6))
    return scaled


def loop_padded(joints_NMTVC: Tensor, seen_NMTV: Tensor) -> tuple[Tensor, Tensor]:
    """Each person's frames from the first to the last in which any joint is seen, repeated to fill all T.

    This is UNIK's padding: empty leading frames are removed, and the tail is filled by repetition. People who are never
    seen stay absent.
    """
    there = seen_NMTV.any(3)
    frames = there.shape[2]
    steps = torch.arange(frames, device=there.device)
    first = torch.where(there, steps, frames).amin(2, keepdim=True)
    last = torch.where(there, steps, -1).amax(2, keepdim=True)
    length = (last - first + 1).clamp(min=1)
    taken = (first + steps % length).clamp(max=frames - 1)
    joints = joints_NMTVC.gather(2, taken[..., None, None].expand_as(joints_NMTVC))
    return joints, seen_NMTV.gather(2, taken[..., None].expand_as(seen_NMTV))
