"""T-MOR itself, Eqs. 5 and 9, as a method of the loop: two views, a key by the averaged encoder, three losses."""

from __future__ import annotations

from collections.abc import Sequence

from tmor_train.backbones import FEATURES
from tmor_train.data.batch import MotionBatch
from tmor_train.losses.anchors import Anchors
from tmor_train.losses.memory import Entries
from tmor_train.methods.contract import Made, Method, Setup, Turn
from tmor_train.objective import Objective


class TMOR(Objective, Method):
    """The objective with what makes its anchors; its state is the objective's.

    Raises:
        ValueError: as :class:`~tmor_train.objective.Objective`.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(
            setup.objective,
            features=FEATURES,
            video=setup.video,
            text=setup.text,
            clips=setup.clips,
            gather=setup.gather,
        )
        self._anchor, self._positive = setup.anchor, setup.positive

    def losses(self, batch: MotionBatch, turn: Turn) -> Made:
        """Eq. 9 of the clips and their second views."""
        anchor, positive = (turn.view(batch, steps) for steps in (self._anchor, self._positive))
        features_ND = turn.features(anchor)
        keys_ND = turn.features(positive) if self.config.keys == "same" else turn.keys(positive)
        anchors = Anchors(
            features_ND=features_ND,
            keys_ND=keys_ND,
            index_N=batch.index_N,
            video_NDv=batch.video_ND,
            text_NDt=batch.text_ND,
            text_id_N=batch.text_id_N,
            has_video_N=batch.has_video_N,
        )
        losses = self(anchors, turn.cluster_of)
        return Made(
            total=losses.total,
            figures=losses.figures,
            features_ND=features_ND,
            keys_ND=keys_ND,
            fresh=(losses.fresh,),
        )

    def after_step(self, fresh: Sequence[Entries]) -> None:
        """Memory, averaged head and temperatures."""
        self.advance(fresh[0])


__all__ = ["TMOR"]
