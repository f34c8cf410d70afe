"""Heads that score every feature frame: (N, 256, T') features and (N, T') bool ``valid`` to (N, K, T') logits.

Logits of frames that are valid do not depend on what padded frames hold. A new head is a file and a line here.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from tmor_train.detection_heads.bilstm import BiLSTM
from tmor_train.detection_heads.linear import Linear
from tmor_train.detection_heads.sdtcn import SDTCN

DETECTION_HEADS: dict[str, Callable[[int], nn.Module]] = {"linear": Linear, "bilstm": BiLSTM, "sdtcn": SDTCN}
"""Every head by its name; called with the number of classes."""

__all__ = ["DETECTION_HEADS", "SDTCN", "BiLSTM", "Linear"]
