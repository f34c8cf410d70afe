"""A detector: an encoder's features of frames, a head on them, and its logits brought to the frames' own rate."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tmor_train.backbones import FEATURES, STRIDE, Backbone
from tmor_train.data.arrays import Numbers
from tmor_train.data.augment import Augmentation
from tmor_train.detection_heads import DETECTION_HEADS
from tmor_train.evaluation.frames.config import DetectorConfig
from tmor_train.evaluation.frames.window_loader import RecordingWindows
from tmor_train.evaluation.frames.windows import to_frames
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.training.device import autocast_of


class Detector(nn.Module):
    """A copy of an encoder with a new head of ``classes`` outputs.

    ``mean`` and ``deviation`` (256, 1) scale features before the head; they begin as 0 and 1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: Pretrained, config: DetectorConfig, *, classes: int) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.trunk: Backbone = copy.deepcopy(encoder.network).requires_grad_(config.trains == "all")
        self.head = DETECTION_HEADS[config.head](classes)
        self.register_buffer("mean", torch.zeros(FEATURES, 1))
        self.register_buffer("deviation", torch.ones(FEATURES, 1))
        self.to(encoder.device)

    def features(
        self, windows: RecordingWindows, index_N: Numbers, steps: Sequence[Augmentation], generator: torch.Generator
    ) -> Tensor:
        """Features of some windows after ``steps``, persons pooled: (N, 256, T') float32."""
        batch = windows.gather(index_N).to(self.encoder.device)
        seen = self.encoder.taken(batch, (*self.encoder.views.still, *steps), generator)
        with autocast_of(self.config.precision, self.encoder.device):
            return self.trunk.pooled_frames(seen.motion_NCTVM, seen.present).float()

    def forward(self, features: Tensor, length_N: Sequence[int]) -> Tensor:
        """Logits of every frame, (N, K, T) with T the longest of the windows' ``length_N``; zeros behind the others.

        Args:
            features: (N, 256, T'); of a window of ``length`` frames the first ceil(length / 4) are its own.
        """
        own = torch.tensor([-(-length // STRIDE) for length in length_N], device=features.device)
        valid = torch.arange(features.shape[2], device=features.device) < own[:, None]
        coarse: Tensor = self.head((features - self.mean) / self.deviation, valid)
        logits = coarse.new_zeros(len(length_N), coarse.shape[1], max(length_N))
        for length in sorted(set(length_N)):
            rows = [row for row, other in enumerate(length_N) if other == length]
            logits[rows, :, :length] = to_frames(coarse[rows, :, : -(-length // STRIDE)], length)
        return logits

    @torch.no_grad()
    def scale_to(self, features_W: Sequence[Tensor]) -> None:
        """Scale features so that over all frames of ``features_W``, (256, T') each, their mean is 0 and their deviation
        1; one that never changes is left as it is."""
        count = sum(one.shape[1] for one in features_W)
        mean = torch.stack([one.double().sum(1) for one in features_W]).sum(0) / count
        squares = torch.stack([(one.double() - mean[:, None]).square().sum(1) for one in features_W]).sum(0)
        deviation = (squares / count).sqrt()
        deviation[deviation < 1e-6 * deviation.max().clamp(min=1e-12)] = 1.0
        self.mean.copy_(mean[:, None])
        self.deviation.copy_(deviation[:, None])


def padded(features: Sequence[Tensor], device: torch.device) -> Tensor:
    """Features (256, T') of windows side by side, zeros behind the shorter ones: (N, 256, longest) float32."""
    found = torch.zeros(len(features), FEATURES, max(one.shape[1] for one in features))
    for row, one in enumerate(features):
        found[row, :, : one.shape[1]] = one
    return found.to(device)


__all__ = ["Detector", "padded"]
