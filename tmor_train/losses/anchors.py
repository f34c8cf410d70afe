"""What a step of training hands to the objective: features of clips and who the clips are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tmor_train.losses.memory import NOBODY, Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """A step's N clips: features (N, F) of the clip by the encoder, keys (N, F) of its augmented view.

    Video (N, Dv) and text (N, Dt) are the frozen encoders' vectors, or None where the set has none; the masks (N,) say
    which clips have one (all, where a mask is None). ``index_N`` int64 is the clip's place in the dataset;
    ``text_id_N`` int64 is the same for the same sentence, −1 for none.
    """

    features_ND: Tensor
    keys_ND: Tensor
    index_N: Tensor
    video_NDv: Tensor | None = None
    text_NDt: Tensor | None = None
    text_id_N: Tensor | None = None
    has_video_N: Tensor | None = None
    has_text_N: Tensor | None = None

    def entries(self, keys_ND: Tensor, *, video: int | None, text: int | None) -> Entries:
        """The clips as candidates with the projected ``keys_ND``; frozen vectors as wide as said, or left out.

        Raises:
            ValueError: there are texts, but not which of them are the same.
        """
        text_id_N = torch.full_like(self.index_N, NOBODY) if self.text_id_N is None else self.text_id_N
        if text is not None and self.text_NDt is not None and self.text_id_N is None:
            raise ValueError("clips with text need text_id_N, which says whose sentences are the same")
        video_NDv, has_video_N = _present(self.video_NDv, self.has_video_N, video, like=keys_ND)
        text_NDt, has_text_N = _present(self.text_NDt, self.has_text_N, text, like=keys_ND)
        return Entries(
            motion_KD=keys_ND,
            video_KDv=video_NDv,
            text_KDt=text_NDt,
            has_video_K=has_video_N,
            has_text_K=has_text_N & (text_id_N != NOBODY),
            index_K=self.index_N,
            text_id_K=text_id_N,
        )


def _present(
    vectors_ND: Tensor | None, has_N: Tensor | None, width: int | None, *, like: Tensor
) -> tuple[Tensor | None, Tensor]:
    """The vectors, zeros where there are none (whatever the data holds there), and the mask of who has one."""
    if width is None or vectors_ND is None:
        nobody_N = torch.zeros(len(like), dtype=torch.bool, device=like.device)
        return None if width is None else like.new_zeros(len(like), width), nobody_N
    if has_N is None:
        return vectors_ND, torch.ones(len(like), dtype=torch.bool, device=like.device)
    return vectors_ND.masked_fill(~has_N[:, None], 0.0), has_N
