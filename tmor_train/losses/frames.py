"""Losses on the features of frames, for detection: those that are pooled over a clip need not differ between its
frames.

:func:`frame_contrast` is of LAC (Yang et al., "LAC: Latent Action Composition for Skeleton-based Action Segmentation",
ICCV 2023): two clips are as alike as their frames at the same times. For the frames q_nt of an anchor and k_mt of the
other views, unit vectors,

    s_nm = mean_t q_nt · k_mt,    L = −E_n log( e^{s_nn / Temp} / sum_m e^{s_nm / Temp} )

LAC's released code (``model/builder.py``) sums over its 30 feature frames at Temp 0.07, which is this mean at Temp
0.07 / 30, and takes its negatives from a queue of 65,536 clips' frames; here they are the other clips of the batch.

:func:`frame_text` is Eq. 6 of T-MOR with :func:`windows` as anchors: each window of a clip, and not only the clip's
mean, is nearest to the clip's own text. An encoder that is asked for the action in each stretch of a clip has features
of frames that tell actions apart, as detection reads them.

:func:`decorrelation` is of USDRL (Weng et al., "USDRL: Unified Skeleton-Based Dense Representation Learning with
Multi-Grained Feature Decorrelation", AAAI 2025), without negatives. For samples z and z' of B rows and D columns, with
the weights of their released code (``model/loss.py`` and ``pretrain.py``):

    L = 5 |z − z'|² / (BD)                                                      views agree
        + V(z) + V(z'),  V(z) = 5 mean_d max(0, 1 − std_d) + sum_{d≠e} cov_de² / D  columns vary, and differ (VICReg)
        + 0.001 ( sum_d (1 − c_dd)² + 0.005 sum_{d≠e} c_de² )                   of their correlation c (Barlow Twins)

USDRL has four views and sums the last term over their pairs, and applies L to what a transformer gives of a clip, of
its frames pooled and of its joints pooled. Here there are two views, and rows are feature frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tmor_train.losses.queue import NOBODY


def frame_contrast(queries_NWT: Tensor, keys_NWT: Tensor, excluded_NN: Tensor, *, temperature: float) -> Tensor:
    """The loss L, shape (): the mean over the clips that have a negative, 0 with gradient 0 where none has.

    Args:
        queries_NWT: unit vectors (over W) of T frames of N clips.
        keys_NWT: those of the clips' other view, frame by frame at the same times.
        excluded_NN: bool, which other clips are no negatives of a clip; what is on the diagonal is not used.

    Raises:
        ValueError: the two have different shapes, so that frames do not correspond.
    """
    if queries_NWT.shape != keys_NWT.shape:
        raise ValueError(f"frames do not correspond: {tuple(queries_NWT.shape)} and {tuple(keys_NWT.shape)}")
    frames = queries_NWT.shape[2]
    logits_NN = queries_NWT.flatten(1) @ keys_NWT.flatten(1).T / (frames * temperature)
    own_NN = torch.eye(len(logits_NN), dtype=torch.bool, device=logits_NN.device)
    candidates_NN = ~excluded_NN | own_NN
    loss_N = -logits_NN.masked_fill(~candidates_NN, -torch.inf).log_softmax(1).diagonal()
    counted_N = candidates_NN.sum(1) > 1
    return torch.where(counted_N, loss_N, 0.0).sum() / counted_N.sum().clamp(min=1)


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


_AGREE, _DEVIATION, _CORRELATION, _OTHERS = 5.0, 5.0, 1e-3, 5e-3
_SMALL = 1e-4  # added to variances, as in their code


def decorrelation(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """L of two views' features, shape (), computed in float32 or float64.

    Raises:
        ValueError: there are fewer than two rows, of which no deviation is known, or shapes differ.
    """
    if first_BD.shape != second_BD.shape or len(first_BD) < 2:
        raise ValueError(
            f"two views of at least two samples are needed, not {tuple(first_BD.shape)} and {tuple(second_BD.shape)}"
        )
    agree = (first_BD - second_BD).square().mean()
    return _AGREE * agree + spread(first_BD) + spread(second_BD) + _CORRELATION * cross(first_BD, second_BD)


def spread(rows_BD: Tensor) -> Tensor:
    """V of one view, shape ()."""
    count, width = rows_BD.shape
    deviation_D = (rows_BD.var(0) + _SMALL).sqrt()
    centred_BD = rows_BD - rows_BD.mean(0)
    covariance_DD = centred_BD.T @ centred_BD / (count - 1)
    return _DEVIATION * (1 - deviation_D).relu().mean() + _off_diagonal(covariance_DD).square().sum() / width


def cross(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """The term of Barlow Twins, shape (), without its weight of 0.001."""
    standard = [(rows - rows.mean(0)) / (rows.var(0) + _SMALL).sqrt() for rows in (first_BD, second_BD)]
    correlation_DD = standard[0].T @ standard[1] / len(first_BD)
    on = (1 - correlation_DD.diagonal()).square().sum()
    return on + _OTHERS * _off_diagonal(correlation_DD).square().sum()


def _off_diagonal(matrix_DD: Tensor) -> Tensor:
    """The matrix with zeros on its diagonal."""
    return matrix_DD - torch.diag(matrix_DD.diagonal())
