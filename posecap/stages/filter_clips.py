"""Rejects clips for which a condition on their index row does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

from posecap.outcomes import FILTERED
from posecap.shards.where import Where, WhereError
from posecap.stage import Reject, Stage
from posecap.types import Row, SkeletonClip
from posecap.video import frame_rate


@dataclass(frozen=True, kw_only=True)
class FilterClips(Stage):
    """Keeps the clips for which a condition holds; a manifest's ``filter`` puts one behind the skeletons.

    It stands before captions and vectors, so that nothing is spent on what is left out, and knows what is known by
    then: the span, row, source and label, sizes, quality, and the models up to the pose. Rows that cannot pass, as by
    their label, are rejected before anything is downloaded. Conditions on captions, on vectors and on where a sample
    lies in its shard are for readers: ``posecap.open(where=…)``.

    Args:
        where: the condition, as :mod:`posecap.shards.where` explains it.

    Rejects:
        ``filtered``, with the values that the first part of the condition does not hold for. However many these are,
        they raise no alarm.

    Raises:
        WhereError: it is no condition, or one on a column that is not known yet.
    """

    name: ClassVar[str] = "filter_clips"
    takes: ClassVar[type] = SkeletonClip
    gives: ClassVar[type] = SkeletonClip
    row_fields: ClassVar[tuple[str, ...] | None] = ("row_id", "uri", "split", "label", "license", "source")

    where: str

    def __post_init__(self) -> None:
        if unknown := sorted({*self._condition.columns} - COLUMNS):
            raise WhereError(
                f"where: {', '.join(unknown)} is not known before captions and vectors are made: leave it to readers, "
                "as posecap.open(where=…)"
            )

    def __call__(self, item: SkeletonClip) -> Iterator[SkeletonClip]:
        if (why := self._condition.failing(_row(item))) is not None:
            raise Reject(FILTERED, why)
        yield item

    def check_row(self, row: Row) -> None:
        """Raise what the row alone tells; parts of the condition on columns that it does not tell are passed over.

        Raises:
            Reject: ``filtered``: a part of the condition that the row alone decides does not hold.
        """
        if (why := self._condition.failing(_of_row(row), lacking="pass over")) is not None:
            raise Reject(FILTERED, why)

    @cached_property
    def _condition(self) -> Where:
        """The condition, read once; WhereError where it is none."""
        return Where(self.where)


COLUMNS: Final = frozenset(
    {
        *("key", "row_id", "uri", "source_id", "split", "label", "license", "source", "start_seconds", "end_seconds"),
        *("fps", "width", "height", "codec", "layout", "M", "T", "J", "first_pts_seconds", "last_pts_seconds"),
        *("coverage", "mean_score", "zero_pose_share", "jitter", "bone_jump_share", "identity_switches", "motion"),
        *("decoder_model", "detector_model", "tracker_model", "pose_model"),
    }
)
"""Columns of the index whose values are known once a clip has its skeletons."""


def _of_row(row: Row) -> dict[str, Any]:
    """Those of :data:`COLUMNS` that a row tells before its video is there."""
    return {name: getattr(row, name) for name in FilterClips.row_fields or ()}


def _row(item: SkeletonClip) -> dict[str, Any]:
    """What :data:`COLUMNS` will be for a clip (:func:`posecap.shards.index.index_row`)."""
    row, (people, frames, joints, _) = item.row, item.joints_MTJ3.shape
    first, last = float(item.pts_T[0]), float(item.pts_T[-1])
    return {
        **_of_row(row),
        "key": item.clip_id,
        "source_id": item.video.source_id,
        "start_seconds": item.span.start_seconds,
        "end_seconds": item.span.end_seconds,
        "fps": frame_rate(frames, last - first, stated=item.media.fps),
        "width": item.media.width,
        "height": item.media.height,
        "codec": item.media.codec,
        "layout": item.layout,
        "M": people,
        "T": frames,
        "J": joints,
        "first_pts_seconds": first,
        "last_pts_seconds": last,
        **asdict(item.quality),
        "decoder_model": item.decoder,
        "detector_model": item.detector,
        "tracker_model": item.tracker,
        "pose_model": item.pose_model,
    }
