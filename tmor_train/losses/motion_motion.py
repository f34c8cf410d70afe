"""L_mm: a motion is like its augmented view and its cluster, and unlike the motions of other clusters (Eqs. 1 to 3)."""

from __future__ import annotations

from torch import Tensor

from tmor_train.encoder.projection import Scale
from tmor_train.losses.candidates import Relations, motion_candidates
from tmor_train.losses.contrast import Term, contrast
from tmor_train.objective_config import ObjectiveConfig


def motion_motion(anchors_ND: Tensor, keys_KD: Tensor, of: Relations, *, scale: Scale, config: ObjectiveConfig) -> Term:
    """Eq. 1: L_mm = −E[log(S_align / (S_align + S_disc))], the mean over anchors sk, with

    S_align = sum over sk+ in P_sk of exp(Sim(E_M(sk), E_M(sk+))) (Eq. 2) and
    S_disc = sum over sk− in N_sk of exp(Sim(E_M(sk), E_M(sk−))) (Eq. 3).

    ``anchors_ND`` are phi(E_M(sk)) and ``keys_KD`` those of the pool, unit vectors both; ``scale`` is 1 / Temp.
    """
    who = motion_candidates(of, config)
    return contrast(anchors_ND, keys_KD, who, scale=scale, reduction=config.positive_reduction)
