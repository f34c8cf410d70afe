"""Detection heads, which score the K classes for every feature frame.

``head(features, valid)`` takes features (N, 256, T') float of N windows of recordings and (N, T') bool ``valid``, False
for padding, and returns logits (N, K, T'). Valid frames come first, at least one in each window; their logits do not
depend on the values of padded frames. A new head is a class and an entry in ``DETECTION_HEADS``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tmor_train.backbones import FEATURES

_DILATIONS = (1, 2, 4, 8, 16)
"""Distance of the neighbours that each layer of SD-TCN and of PDAN takes in, in feature frames."""
# Of TGM: its layers, the Gaussians of each, the frames that a filter covers, a layer's output channels, and the width
# of the hidden layer.
_LAYERS, _GAUSSIANS, _LENGTH, _CHANNELS, _HIDDEN = 3, 16, 5, 8, 512
_SCALES = 4
"""Number of stages of MS-TCT; each after the first has half as many frames as the one before, rounded up."""


class Linear(nn.Module):
    """T-MOR's linear map (arXiv 2606.21607), (N, 256, T') features to (N, K, T') logits; a frame sees itself alone,
    ``valid`` is not used."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.map = nn.Conv1d(FEATURES, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        logits: Tensor = self.map(features)
        return logits


class BiLSTM(nn.Module):
    """(N, 256, T') features to (N, K, T') logits. Padded frames are at the end; the recurrence never reads them.

    A bidirectional LSTM (Graves and Schmidhuber, Neural Networks 18, 2005); a frame sees the whole window. Its width of
    512 for each direction is our choice, the hidden width of the other heads.
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


class SDTCN(nn.Module):
    """(N, 256, T') features to (N, K, T') logits; a frame sees 31 feature frames on each side.

    The head of UNIK's released detector for untrimmed recordings (Toyota Smarthome Untrimmed, Dai et al., TPAMI 2022),
    whose layers are those of MS-TCN (Farha and Gall, CVPR 2019). Width and dropout are those of :class:`PDAN`, so that
    the two differ in their layers alone.
    """

    def __init__(self, classes: int, *, width: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.into = nn.Conv1d(FEATURES, width, 1)
        self.wide = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in _DILATIONS)
        self.narrow = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in _DILATIONS)
        self.dropout = nn.Dropout(dropout)
        self.map = nn.Conv1d(width, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        mask = valid[:, None].to(features.dtype)
        x = self.into(features) * mask
        for wide, narrow in zip(self.wide, self.narrow, strict=True):
            x = (x + self.dropout(narrow(functional.relu(wide(x))))) * mask
        logits: Tensor = self.map(x) * mask
        return logits


class TGM(nn.Module):
    """(N, 256, T') features to (N, K, T') logits; a frame sees six feature frames on each side.

    Temporal Gaussian mixture layers (Piergiovanni and Ryoo, "Temporal Gaussian Mixture Layer for Videos", ICML 2019):
    three layers of 16 Gaussians, length 5 and 8 channels, the maximum over channels joined to the features themselves,
    and a hidden layer of 512, as in the released ``StackTGM``, whose dropout is torch's usual half. Super-events, which
    look at the whole video, are in another of the released models. Filters are the paper's Gaussians here; the released
    code has 1 / (1 + (t / γ)²) in their place."""

    def __init__(self, classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GaussianLayer(_CHANNELS if number else 1) for number in range(_LAYERS))
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Conv1d(2 * FEATURES, _HIDDEN, 1)
        self.map = nn.Conv1d(_HIDDEN, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        mask = valid[:, None, None].to(features.dtype)
        channels = features[:, None] * mask
        for layer in self.layers:
            channels = layer(channels) * mask
        joined = torch.cat([self.dropout(features), self.dropout(channels.amax(1))], 1)
        logits: Tensor = self.map(functional.relu(self.hidden(functional.relu(joined))))
        return logits


class GaussianLayer(nn.Module):
    """(N, C, D, T) to (N, 8, D, T): each output channel filters every input channel over time with a mixture of 16
    Gaussians, the same for all D features, and adds the channels up by a 1 x 1 convolution with ReLU.

    K[m, l] = exp(-(l - mu_m)^2 / (2 s_m^2)) / Z with mu_m = (L - 1)(tanh(c_m) + 1) / 2 and s_m = exp(-2 |w_m|)
    (Eqs. 1 and 2); a channel's filter is sum_m softmax(a)_m K[m] (Eq. 3). c, w and a are learned: ``centre``, ``width``
    and ``attention``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        # Initial values are our choice: centres over the whole filter, widths of up to a frame. The released code draws
        # centres half as wide, and attention not at all: it takes what memory holds.
        self.centre = nn.Parameter(torch.randn(_GAUSSIANS))
        self.width = nn.Parameter(0.5 * torch.randn(_GAUSSIANS))
        self.attention = nn.Parameter(torch.randn(_CHANNELS * channels, _GAUSSIANS))
        # A single channel has nothing to be added to.
        self.combine = nn.Conv2d(_CHANNELS * channels, _CHANNELS, 1, groups=_CHANNELS) if channels > 1 else None

    def filters(self) -> Tensor:
        """One filter for each output and input channel: (8 C, L), each row sums to 1."""
        mean = (_LENGTH - 1) * (torch.tanh(self.centre) + 1) / 2
        deviation = torch.exp(-2 * self.width.abs())
        step = torch.arange(_LENGTH, device=mean.device, dtype=mean.dtype)
        gaussian = torch.softmax(-((step - mean[:, None]) ** 2) / (2 * deviation[:, None] ** 2), 1)
        return torch.softmax(self.attention, 1) @ gaussian

    def forward(self, x: Tensor) -> Tensor:
        filters = self.filters()[:, None, None]
        # All C input channels are repeated for each output channel; each repeated channel has a filter of its own.
        filtered = functional.conv2d(
            x.repeat(1, _CHANNELS, 1, 1), filters, padding=(0, _LENGTH // 2), groups=_CHANNELS * self.channels
        )
        return filtered if self.combine is None else functional.relu(self.combine(filtered))


class PDAN(nn.Module):
    """(N, 256, T') features to (N, K, T') logits; a frame sees 31 feature frames on each side.

    A pyramid of dilated attention (Dai et al., "PDAN: Pyramid Dilated Attention Network for Action Detection", WACV
    2021): one stage of five blocks of width 512, each a dilated attention over three frames, ReLU, a 1 x 1 convolution
    and dropout around a residual, as in the released ``models_PDAN.py`` (of width 256 by default; the released
    ``PDAN.py`` also adds a learned vector for each of the three frames to the values). Here attention keeps PyTorch's
    initial weights, the released ones are He's (``fan_out``); and frames beyond the recording get no attention, where
    the original attends to zeros.
    """

    def __init__(self, classes: int, *, width: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.into = nn.Conv1d(FEATURES, width, 1)
        self.attend = nn.ModuleList(DilatedAttention(width, dilation) for dilation in _DILATIONS)
        self.mix = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in _DILATIONS)
        self.dropout = nn.Dropout(dropout)
        self.map = nn.Conv1d(width, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        mask = valid[:, None].to(features.dtype)
        x = self.into(features) * mask
        for attend, mix in zip(self.attend, self.mix, strict=True):
            x = (x + self.dropout(mix(functional.relu(attend(x, valid))))) * mask
        logits: Tensor = self.map(x)
        return logits


class DilatedAttention(nn.Module):
    """Each frame attends to itself and to the frames ``dilation`` before and after it, channel by channel:
    y_t = sum_s softmax_s(q_t k_s) v_s over s in {t - d, t, t + d} that are valid (Sec. 3.1)."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.query, self.key, self.value = (nn.Conv1d(width, width, 1, bias=False) for _ in range(3))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        agreement = self.query(x)[..., None] * self._three(self.key(x))
        is_valid = self._three(valid[:, None].to(x.dtype)) > 0
        # A padded frame may have no valid neighbour; it always attends to itself, so that no softmax is empty.
        is_valid = is_valid | torch.tensor([False, True, False], device=x.device)
        weights = torch.softmax(agreement.masked_fill(~is_valid, float("-inf")), -1)
        return (weights * self._three(self.value(x))).sum(-1)

    def _three(self, x: Tensor) -> Tensor:
        """(N, D, T) to (N, D, T, 3): the frames before, at and after each; zeros beyond the ends."""
        padded, frames = functional.pad(x, (self.dilation, self.dilation)), x.shape[2]
        return torch.stack([padded[..., shift * self.dilation :][..., :frames] for shift in range(3)], -1)


class MSTCT(nn.Module):
    """(N, 256, T') features to (N, K, T') logits; a frame sees the whole window.

    Convolutions and attention at several temporal scales (Dai et al., "MS-TCT: Multi-Scale Temporal ConvTransformer for
    Action Detection", CVPR 2022). A stage is a convolution over three frames, with stride 2 after the first, then
    blocks of attention over all frames and a convolution beside an MLP; the stages' outputs, brought to T' again, are
    mixed into class scores. The original has three blocks a stage, widths that grow from 256 to 864 and a second loss
    on the centres of events. Here every stage has one block and one width, its MLP is twice as wide, coarse frames are
    repeated rather than interpolated, and the loss on centres is left out. The 8 attention heads are the original's.
    The dropout is our choice: the original leaves out half of the features before the first stage, and nothing later.
    """

    def __init__(self, classes: int, *, width: int = 256, heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.merge = nn.ModuleList(
            nn.Conv1d(width if number else FEATURES, width, 3, stride=2 if number else 1, padding=1)
            for number in range(_SCALES)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(_SCALES))
        self.blocks = nn.ModuleList(ConvTransformerBlock(width, heads, dropout) for _ in range(_SCALES))
        self.mix = nn.Conv1d(_SCALES * width, 2 * width, 1)
        self.dropout = nn.Dropout(dropout)
        self.map = nn.Conv1d(2 * width, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        frames = torch.arange(features.shape[2], device=features.device)
        x, valid_here, stages = features * valid[:, None].to(features.dtype), valid, []
        for number, (merge, norm, block) in enumerate(zip(self.merge, self.norm, self.blocks, strict=True)):
            valid_here = valid_here[:, ::2] if number else valid_here
            x = norm(merge(x).transpose(1, 2)).transpose(1, 2) * valid_here[:, None].to(x.dtype)
            x = block(x, valid_here)
            stages.append(x[:, :, frames // 2**number])
        logits: Tensor = self.map(self.dropout(functional.relu(self.mix(torch.cat(stages, 1)))))
        return logits


class ConvTransformerBlock(nn.Module):
    """(N, width, T) to the same: attention over all valid frames, then an MLP with a convolution over three frames in
    it. Each has a residual connection and a layer norm before it; padded frames become 0."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_all, self.norm_near = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.wide = nn.Conv1d(width, 2 * width, 1)
        self.near = nn.Conv1d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.narrow = nn.Conv1d(2 * width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        mask = valid[:, None].to(x.dtype)
        steps = self.norm_all(x.transpose(1, 2))
        attended: Tensor = self.attention(steps, steps, steps, key_padding_mask=~valid, need_weights=False)[0]
        x = (x + self.dropout(attended.transpose(1, 2))) * mask
        wide = self.wide(self.norm_near(x.transpose(1, 2)).transpose(1, 2)) * mask
        mixed: Tensor = self.narrow(functional.gelu(self.near(wide)))
        output: Tensor = (x + self.dropout(mixed)) * mask
        return output


DETECTION_HEADS: dict[str, Callable[[int], nn.Module]] = {
    "linear": Linear,
    "bilstm": BiLSTM,
    "sdtcn": SDTCN,
    "tgm": TGM,
    "pdan": PDAN,
    "mstct": MSTCT,
}
"""The class of each head by its name; called with the number of classes K."""
