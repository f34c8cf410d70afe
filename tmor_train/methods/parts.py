"""Parts that several methods share: a query's candidates, the loss over them, and decoders from features to joints.

Candidates of a query are its own key, the other keys of the batch and those in the queue, but no older key of the
query's own clip. In the code of AimCLR and of CrosSCLR, candidates are the own key and the whole queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES, STRIDE
from tmor_train.losses.queue import NOBODY, Entries, Queue

# Of the decoders: channels of their layers, which begin at FEATURES and whose two steps of 2 make up for STRIDE, and
# frames of a convolution. Halving widths and five frames are our choice: decoders that train in little time.
_WIDTHS = (256, 128, 64)
_TAPS = 5


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The keys that N queries are compared with.

    ``keys_KD`` are unit vectors; ``own_N`` int64 is the index of each query's own key; ``valid_NK`` bool marks the
    candidates of each query, its own key among them.
    """

    keys_KD: Tensor
    own_N: Tensor
    valid_NK: Tensor

    @property
    def others(self) -> Tensor:
        """The candidates of each query without its own key, (N, K) bool."""
        return self.valid_NK.scatter(1, self.own_N[:, None], False)

    @property
    def own(self) -> Tensor:
        """The mask of each query's own key, (N, K) bool."""
        return torch.zeros_like(self.valid_NK).scatter(1, self.own_N[:, None], True)

    def similarities(self, queries_ND: Tensor) -> Tensor:
        """Cosines of unit queries and all keys, (N, K), also of keys that are not candidates."""
        return queries_ND @ self.keys_KD.T


def pool_of(queue: Queue, fresh: Entries, *, first: int, count: int) -> Pool:
    """The pool of ``count`` queries whose own keys are ``fresh[first : first + count]``; ``fresh`` holds the keys of
    all processes. Its K keys are those of ``fresh``, then those of the queue, also where no query may use them."""
    keys = fresh.concat(queue.negatives(fresh))
    own_N = torch.arange(first, first + count, device=keys.index_K.device)
    index_N = fresh.index_K[own_N]
    taken_K = keys.index_K != NOBODY
    valid_NK = (keys.index_K != index_N[:, None]) & taken_K
    return Pool(keys_KD=keys.motion_KD, own_N=own_N, valid_NK=valid_NK.scatter(1, own_N[:, None], True))


def multi_positive_info_nce(logits_NK: Tensor, positives_NK: Tensor, valid_NK: Tensor) -> Tensor:
    """The negative mean, over a query's positives, of log softmax over its candidates; then the mean over queries;
    shape ().

    Logits are similarities divided by the temperature. Each query needs a positive, and every positive must be a
    candidate, or the loss is not finite. With the own key as the one positive it is InfoNCE (MoCo, Eq. 1).
    """
    logs_NK = log_shares(logits_NK, valid_NK).masked_fill(~positives_NK, 0)
    return -(logs_NK.sum(1) / positives_NK.sum(1)).mean()


def log_shares(logits_NK: Tensor, valid_NK: Tensor) -> Tensor:
    """log softmax of logits over a query's candidates, (N, K); -inf for all others."""
    return logits_NK.masked_fill(~valid_NK, -torch.inf).log_softmax(1)


def nearest_of(similarities_NK: Tensor, others_NK: Tensor, count: int) -> Tensor:
    """Marks the ``count`` candidates of ``others_NK`` with the largest similarity, (N, K) bool; fewer where there are
    fewer."""
    masked = similarities_NK.detach().masked_fill(~others_NK, -torch.inf)
    top = masked.topk(min(count, masked.shape[1]), dim=1).indices
    return torch.zeros_like(others_NK).scatter(1, top, True) & others_NK


class FrameDecoder(nn.Module):
    """Decodes feature frames to frames of the clip: (B, 256, T') to (B, ``outputs``, 4 T'); callers cut off what is
    beyond the clip, whose T' is T / 4 rounded up.

    Two layers each double the number of frames; a last convolution gives the ``outputs`` coordinates of a frame.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for taken, given in pairwise(_WIDTHS):
            layers += [nn.Upsample(scale_factor=2), nn.Conv1d(taken, given, _TAPS, padding=_TAPS // 2), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(_WIDTHS[-1], outputs, _TAPS, padding=_TAPS // 2))

    def forward(self, frames: Tensor) -> Tensor:
        made: Tensor = self.layers(frames)
        return made


class ClipDecoder(nn.Module):
    """Decodes one vector per clip to ``length`` frames: (N, 256) to (N, ``outputs``, ``length``).

    The vector is repeated for every feature frame, added to a sinusoidal code of the frame's position (Vaswani et al.,
    2017), and decoded by a :class:`FrameDecoder`.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.into = nn.Linear(FEATURES, FEATURES)
        self.frames = FrameDecoder(outputs)

    def forward(self, features_ND: Tensor, length: int) -> Tensor:
        times = -(-length // STRIDE)
        repeated = self.into(features_ND)[:, :, None] + time_code(times, features_ND.device).T
        made: Tensor = self.frames(functional.relu(repeated))[..., :length]
        return made


def time_code(times: int, device: torch.device) -> Tensor:
    """Sines and cosines of the positions 0 to ``times`` - 1 at 128 frequencies: (``times``, 256) float32."""
    # From 1 down to about 1e-4: 9.21 is log(10,000).
    rates = torch.exp(torch.arange(FEATURES // 2, device=device) * (-9.21 / (FEATURES // 2)))
    angles = torch.arange(times, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def distance(made_NCTVM: Tensor, motion_NCTVM: Tensor, seen_NTVM: Tensor) -> Tensor:
    """Mean squared difference of the coordinates of seen joints, shape (); 0 where no joint is seen.

    ``seen_NTVM`` bool holds for all coordinates of a joint.
    """
    weight = seen_NTVM[:, None].to(made_NCTVM.dtype)
    squares = (made_NCTVM - motion_NCTVM).square() * weight
    return squares.sum() / (weight.sum() * motion_NCTVM.shape[1]).clamp(min=1)
