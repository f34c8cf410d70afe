"""L_mt: a motion is like the sentence that describes it, and unlike sentences of other motions (Eqs. 6 to 8)."""

from __future__ import annotations

from torch import Tensor

from tmor_train.encoder.projection import Scale
from tmor_train.losses.candidates import Relations, text_candidates
from tmor_train.losses.contrast import Term, frozen_contrast
from tmor_train.objective_config import ObjectiveConfig


def motion_text(
    anchors_ND: Tensor, texts_KD: Tensor, keys_KD: Tensor, of: Relations, *, scale: Scale, config: ObjectiveConfig
) -> Term:
    """Eq. 6: L_mt = −E[log(S_align / (S_align + S_disc))], the mean over anchors sk that have a text, with

    S_align = exp(Sim(E_M(sk), E_T(a))), a the text of the same clip (Eq. 7), and
    S_disc = sum over sk− in N_a of exp(Sim(E_M(sk), E_T(a−))), a− the text of sk− (Eq. 8).

    Eq. 8 sums over N_a, the sentence under it draws from N_sk: by default sk− is of another cluster and a− another
    sentence than a; ``mt_negatives`` names the other readings. ``texts_KD`` are the projected texts and
    ``keys_KD`` the motion keys of the pool, unit vectors; ``scale`` is 1 / Temp.
    """
    who = text_candidates(of, config)
    return frozen_contrast(anchors_ND, texts_KD, keys_KD, who, own_N=of.own_N, scale=scale, config=config)
