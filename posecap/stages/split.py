"""Decides which spans of a video become clips."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from posecap.stage import Reject, Stage
from posecap.types import CutVideo, Row, ShotRule, Span, Video

_EPSILON_SECONDS = 1e-6
"""By so much more may a span be long; see where it is used."""


@dataclass(frozen=True)
class Split(Stage):
    """A row's span becomes one clip; the video of a row without one is split into shots while it is decoded.

    A row may give only a start (to the video's end) or only an end (from its beginning). A shot longer than
    ``longest_seconds`` becomes several clips, one shorter than ``shortest_seconds`` becomes none; neither limits a
    row's span. That may be up to ``row_longest_seconds`` long, which is not checked where the row gives no end: there
    the decode stage's ``frames_at_most`` limits it. Where ``shortest_seconds`` is above half of ``longest_seconds``, a
    shot just above the latter gives two halves that are too short, and no clip. ``threshold`` is that of
    :class:`posecap.types.ShotRule`, in grey levels.

    Rejects with ``bad_span`` (negative, empty or not finite) and ``span_too_long``.

    Raises:
        ValueError: a number is out of its range.
    """

    name: ClassVar[str] = "split"
    takes: ClassVar[type] = Video
    gives: ClassVar[type] = CutVideo

    threshold: float = 42.0
    """From a first look at real footage, of which no benchmark was kept: camera motion and flashes made differences up
    to 40, nearly all hard cuts 66 and more."""
    shortest_seconds: float = 1.0
    """A free choice: a clip in which an action can be seen."""
    longest_seconds: float = 12.0
    """A free choice: about what one caption describes."""
    row_longest_seconds: float = 60.0
    """A free choice, 1800 frames (the decode stage's ``frames_at_most``) at 30 a second: a worker holds all frames of a
    clip at once. It is above ``longest_seconds`` since a row's span was chosen by someone."""

    def __post_init__(self) -> None:
        if not 0 <= self.shortest_seconds <= self.longest_seconds:
            raise ValueError(
                f"Split(shortest_seconds={self.shortest_seconds:g}, longest_seconds={self.longest_seconds:g}): "
                "the shortest clip must be no longer than the longest"
            )
        if self.longest_seconds <= 0 or self.row_longest_seconds <= 0 or self.threshold < 0:
            raise ValueError(
                f"Split(longest_seconds={self.longest_seconds:g}, row_longest_seconds={self.row_longest_seconds:g}, "
                f"threshold={self.threshold:g}): both lengths must be above 0, and the threshold 0 or more"
            )

    def __call__(self, item: Video) -> Iterator[CutVideo]:
        yield CutVideo(
            video=item,
            span=self._span(item.row),
            shots=ShotRule(
                threshold=self.threshold,
                shortest_seconds=self.shortest_seconds,
                longest_seconds=self.longest_seconds,
            ),
        )

    def check_row(self, row: Row) -> None:
        """
        Raises:
            Reject: ``bad_span``, ``span_too_long``.
        """
        self._span(row)

    def _span(self, row: Row) -> Span | None:
        """The row's span; None where it has neither start nor end, and the video is split into shots."""
        if row.start_seconds is None and row.end_seconds is None:
            return None
        start = row.start_seconds or 0.0
        end = math.inf if row.end_seconds is None else row.end_seconds
        if not 0 <= start < end or math.isinf(row.end_seconds or 0.0):
            raise Reject(
                "bad_span", f"start_seconds={row.start_seconds}, end_seconds={row.end_seconds}: needs 0 <= start < end"
            )
        # Of spans whose ends are decimal numbers, as 4.4 and 64.4, the difference is a little above 60.
        if math.isfinite(end) and end - start > self.row_longest_seconds + _EPSILON_SECONDS:
            raise Reject(
                "span_too_long",
                f"{end - start:g} s, at most {self.row_longest_seconds:g}: "
                "shorten the row's span or raise row_longest_seconds",
            )
        return Span(start, end)
