"""A bidirectional LSTM over feature frames (Graves and Schmidhuber, Neural Networks 18, 2005)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tmor_train.backbones import FEATURES


class BiLSTM(nn.Module):
    """(N, 256, T') features to (N, K, T') logits. Padded frames are at the end; the recurrence never reads them."""

    def __init__(self, classes: int, *, width: int = 512) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, width, batch_first=True, bidirectional=True)
        self.map = nn.Linear(2 * width, classes)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            features.transpose(1, 2), valid.sum(1).cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=features.shape[2])
        logits: Tensor = self.map(states).transpose(1, 2)
        return logits
