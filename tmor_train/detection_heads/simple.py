"""Heads of few layers: T-MOR's linear map (arXiv 2606.21607), a bidirectional LSTM (Graves and Schmidhuber, Neural
Networks 18, 2005), and SD-TCN, the head of UNIK's released detector for untrimmed recordings (Toyota Smarthome
Untrimmed, Dai et al., TPAMI 2022), whose layers are those of MS-TCN (Farha and Gall, CVPR 2019).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tmor_train.backbones import FEATURES


class Linear(nn.Module):
    """One linear map, (N, 256, T') features to (N, K, T') logits; a frame sees itself alone, ``valid`` is not used."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.map = nn.Conv1d(FEATURES, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        logits: Tensor = self.map(features)
        return logits


class BiLSTM(nn.Module):
    """(N, 256, T') features to (N, K, T') logits. Padded frames are at the end; the recurrence never reads them.

    A frame sees the whole window. Its width of 512 for each direction is the hidden width of the other heads.
    """

    def __init__(self, classes: int, *, width: int = 512) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, width, batch_first=True, bidirectional=True)
        self.map = nn.Linear(2 * width, classes)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        lengths = valid.sum(1).cpu()  # torch takes lengths on the CPU alone
        packed = pack_padded_sequence(features.transpose(1, 2), lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=features.shape[2])
        logits: Tensor = self.map(states).transpose(1, 2)
        return logits


DILATIONS = (1, 2, 4, 8, 16)
"""Distance of neighbouring taps of each convolution of SD-TCN, in feature frames."""


class SDTCN(nn.Module):
    """(N, 256, T') features to (N, K, T') logits; a frame sees 31 feature frames on each side.

    Width and dropout are those of :class:`~tmor_train.detection_heads.pdan.PDAN`, so that the two differ in their
    layers alone.
    """

    def __init__(self, classes: int, *, width: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.into = nn.Conv1d(FEATURES, width, 1)
        self.wide = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in DILATIONS)
        self.narrow = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in DILATIONS)
        self.dropout = nn.Dropout(dropout)
        self.map = nn.Conv1d(width, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        mask = valid[:, None].to(features.dtype)
        x = self.into(features) * mask
        for wide, narrow in zip(self.wide, self.narrow, strict=True):
            x = (x + self.dropout(narrow(functional.relu(wide(x))))) * mask
        logits: Tensor = self.map(x) * mask
        return logits
