"""Frame-level contrast: two clips are as alike as their frames at the same times (LAC: Yang et al., "LAC: Latent Action
Composition for Skeleton-based Action Segmentation", ICCV 2023).

Features that are pooled over a clip need not differ between its frames; detection by frames needs that. For the frames
q_nt of an anchor and k_mt of the other views, unit vectors,

    s_nm = mean_t q_nt · k_mt,    L = −E_n log( e^{s_nn / Temp} / sum_m e^{s_nm / Temp} )

LAC's released code (``model/builder.py``) sums over its 30 feature frames at Temp 0.07, which is this mean at Temp
0.07 / 30, and takes its negatives from a queue of 65,536 clips' frames; here they are the other clips of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
