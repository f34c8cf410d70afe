"""Frame-text alignment: every window of a clip, and not only the clip's mean, is nearest to the clip's own text.

Eq. 6 of T-MOR with windows as anchors. An encoder that is asked for the action in each stretch of a clip has features
of frames that tell actions apart, as detection reads them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tmor_train.losses.queue import NOBODY


def windows(frames_NDT: Tensor, length: int) -> Tensor:
    """Means over windows of ``length`` feature frames, one after the other: (N, D, S) with S = T / ``length`` rounded
    up; the last may have fewer frames.

    Raises:
        ValueError: ``length`` is below 1.
    """
    if length < 1:
        raise ValueError(f"windows have one frame at least, not {length}")
    return torch.stack([part.mean(2) for part in torch.split(frames_NDT, length, dim=2)], 2)


def frame_text(windows_NSW: Tensor, texts_NW: Tensor, text_id_N: Tensor, *, temperature: float) -> Tensor:
    """−E log( e^{s_own / Temp} / sum e^{s / Temp} ) over windows, with cosines s to the texts of the batch; shape ().

    Candidates are the clip's own text and every text with another id. Clips without a text, and those with no other
    text in the batch, are left out; where no clip is left, the loss is 0 with gradient 0.

    Args:
        windows_NSW: unit vectors (over W) of S windows of N clips.
        texts_NW: unit vector of each clip's text.
        text_id_N: int64, equal for equal sentences, −1 for none.
    """
    cosines_NSN = torch.einsum("nsw,mw->nsm", windows_NSW, texts_NW) / temperature
    own_NN = torch.eye(len(text_id_N), dtype=torch.bool, device=text_id_N.device)
    has_N = text_id_N != NOBODY
    candidates_NN = ((text_id_N[:, None] != text_id_N) & has_N) | own_NN
    logs_NSN = cosines_NSN.masked_fill(~candidates_NN[:, None], -torch.inf).log_softmax(2)
    loss_N = -logs_NSN.diagonal(dim1=0, dim2=2).mean(0)  # the diagonal is (S, N): each clip's own text
    counted_N = has_N & (candidates_NN.sum(1) > 1)
    return torch.where(counted_N, loss_N, 0.0).sum() / counted_N.sum().clamp(min=1)
