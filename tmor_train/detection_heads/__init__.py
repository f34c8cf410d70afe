"""Detection heads, which score the K classes for every feature frame.

``head(features, valid)`` takes features (N, 256, T') float of N windows of recordings and (N, T') bool ``valid``, False
for padding, and returns logits (N, K, T'). Valid frames come first, at least one in each window; their logits do not
depend on the values of padded frames. A new head is a file and an entry in ``DETECTION_HEADS``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from tmor_train.detection_heads.mstct import MSTCT
from tmor_train.detection_heads.pdan import PDAN
from tmor_train.detection_heads.simple import SDTCN, BiLSTM, Linear
from tmor_train.detection_heads.tgm import TGM

DETECTION_HEADS: dict[str, Callable[[int], nn.Module]] = {
    "linear": Linear,
    "bilstm": BiLSTM,
    "sdtcn": SDTCN,
    "tgm": TGM,
    "pdan": PDAN,
    "mstct": MSTCT,
}
"""The class of each head by its name; called with the number of classes K."""

__all__ = ["DETECTION_HEADS", "MSTCT", "PDAN", "SDTCN", "TGM", "BiLSTM", "Linear"]
