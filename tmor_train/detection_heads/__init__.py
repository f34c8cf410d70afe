"""Heads that score every feature frame: (N, 256, T') features and (N, T') bool ``valid`` to (N, K, T') logits.

Valid frames stand first, at least one in each row. Their logits do not depend on what padded frames hold. A new head is
a file and a line here.
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
"""Every head by its name; called with the number of classes."""

__all__ = ["DETECTION_HEADS", "MSTCT", "PDAN", "SDTCN", "TGM", "BiLSTM", "Linear"]
