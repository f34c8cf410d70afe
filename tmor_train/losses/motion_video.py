"""L_mv: a motion is like the video it was seen in, and unlike the videos of other clusters (the text under Eq. 3)."""

from __future__ import annotations

from torch import Tensor

from tmor_train.encoder.projection import Scale
from tmor_train.losses.candidates import Relations, video_candidates
from tmor_train.losses.contrast import Term, frozen_contrast
from tmor_train.objective_config import ObjectiveConfig


def motion_video(
    anchors_ND: Tensor, videos_KD: Tensor, keys_KD: Tensor, of: Relations, *, scale: Scale, config: ObjectiveConfig
) -> Term:
    """Eq. 1 with E_V(v) for E_M(sk+) and E_V(v−) for E_M(sk−): L_mv = −E[log(S_align / (S_align + S_disc))],

    S_align = exp(Sim(E_M(sk), E_V(v))), v the video of the same clip (of all clips in P_sk if ``mv_positives`` is
    "cluster"), and S_disc = sum over sk− in N_sk of exp(Sim(E_M(sk), E_V(v−))), v− the video of sk−.

    ``videos_KD`` are the projected videos and ``keys_KD`` the motion keys of the pool, unit vectors; ``scale`` is
    1 / Temp. An anchor without video has no part in the mean.
    """
    who = video_candidates(of, config)
    return frozen_contrast(anchors_ND, videos_KD, keys_KD, who, own_N=of.own_N, scale=scale, config=config)
