"""Coordinates that a network can take: of the screen for joints in pixels, of the body for joints in space.

Joints that are not seen stay 0, which is the middle of the screen, as in UNIK.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tmor_train.data.batch import body_centre

Screen = Literal["frame", "fixed640", "body"]

# How far the joints lie from the body's middle on average once its size is taken out. A standing person is then about
# as large in [-1, 1] as one who fills the picture.
BODY_RADIUS = 0.5


@dataclass(frozen=True)
class Normalise:
    """How coordinates are scaled.

    ``screen``, for joints in pixels: ``frame`` gives x' = 2x/w - 1 and y' = 2y/w - h/w with the picture's own w and h;
    ``fixed640`` the same with 640 x 480 for every picture, as UNIK does; ``body`` as for joints in space. Those in
    space have no picture: their centre, the mean of all joints seen in the first person's first frame, becomes 0, and
    their size, the mean distance of the first person's joints from that person's middle over the clip, becomes 0.5.
    """

    screen: Screen = "frame"

    def __post_init__(self) -> None:
        if self.screen not in ("frame", "fixed640", "body"):
            raise ValueError(f"screen is 'frame', 'fixed640' or 'body', not {self.screen!r}")

    def __call__(self, joints_NMTVC: Tensor, seen_NMTV: Tensor, size_N2: Tensor, has_depth_N: Tensor) -> Tensor:
        """The scaled joints, 0 where not seen. ``joints_NMTVC`` may be overwritten, which saves a copy of the batch.

        Args:
            size_N2: width and height of each clip's picture; not looked at where ``has_depth_N``.
        """
        by_body = has_depth_N if self.screen != "body" else torch.ones_like(has_depth_N)
        if not by_body.any():
            scaled = self._on_screen(joints_NMTVC, size_N2)
        elif by_body.all():
            scaled = of_the_body(joints_NMTVC, seen_NMTV)
        else:
            picked = by_body[:, None, None, None, None]
            scaled = of_the_body(joints_NMTVC, seen_NMTV).where(picked, self._on_screen(joints_NMTVC, size_N2))
        if seen_NMTV.device.type == "cpu" and bool(seen_NMTV.numpy().all()):  # NumPy looks in no time, torch does not
            return scaled
        return scaled.mul_(seen_NMTV[..., None].to(scaled.dtype))  # several times faster than filling by a mask

    def _on_screen(self, joints_NMTVC: Tensor, size_N2: Tensor) -> Tensor:
        size = size_N2 if self.screen == "frame" else torch.tensor([[640.0, 480.0]]).expand(len(joints_NMTVC), 2)
        width_N, height_N = size.to(joints_NMTVC).clamp(min=1).unbind(1)
        factor_N = 2 / width_N
        shift_NC = torch.zeros(len(joints_NMTVC), joints_NMTVC.shape[-1]).to(joints_NMTVC)
        shift_NC[:, 0], shift_NC[:, 1] = 1, height_N / width_N
        return joints_NMTVC.mul_(factor_N[:, None, None, None, None]).sub_(shift_NC[:, None, None, None])


def of_the_body(joints_NMTVC: Tensor, seen_NMTV: Tensor) -> Tensor:
    """Joints about the first person's first middle, in units of that person's size; see :class:`Normalise`."""
    first, there = joints_NMTVC[:, :1], seen_NMTV[:, :1]
    frames = there.any(3)
    begin_N = frames.to(torch.uint8).argmax(2).flatten()
    clips = torch.arange(len(joints_NMTVC), device=joints_NMTVC.device)
    centre = body_centre(first[clips, :, begin_N][:, :, None], there[clips, :, begin_N][:, :, None])
    weights = there[..., None].to(joints_NMTVC.dtype)
    middle = (first * weights).sum(3, keepdim=True) / weights.sum(3, keepdim=True).clamp(min=1)
    away = (first - middle).norm(dim=-1, keepdim=True) * weights
    size = away.sum((1, 2, 3, 4), keepdim=True) / weights.sum((1, 2, 3, 4), keepdim=True).clamp(min=1)
    scaled: Tensor = (joints_NMTVC - centre) * (BODY_RADIUS / size.clamp(min=1e-6))
    return scaled


def loop_padded(joints_NMTVC: Tensor, seen_NMTV: Tensor) -> tuple[Tensor, Tensor]:
    """Each person's frames from the first to the last in which any joint is seen, repeated to fill all T.

    This is UNIK's padding: empty frames before a person comes are taken away, and the tail is filled by going round.
    Whoever is never seen stays away.
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
