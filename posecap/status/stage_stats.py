"""What went into each stage, what came out, and what became of the rest; the sums always add up.

A build counts rows until a video is decoded and clips from there on, so the yield is a list of lines, each with
its unit. In every line ``entered = left + rejected + failed + quarantined``, and what left a line is what entered
the next one of the same unit. The stage that turns rows into clips has two lines: rows that gave no stretch of
video end in the first, stretches that became no clip in the second. What ended outside the pipeline's stages has
lines of its own: ``plan`` (duplicate rows) and ``run`` (rows that took their worker down) before the stages,
``forget`` (removed on request) after them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from posecap.stage import Stage
from posecap.status.outcome import ClipOutcome, RowOutcome, Status, Tally
from posecap.types import Clip

Unit = Literal["rows", "clips"]
LossKind = Literal["rejected", "failed", "quarantined"]
LOST: tuple[LossKind, ...] = ("rejected", "failed", "quarantined")

_OUTSIDE = {"plan": 0, "run": 1, "forget": 3}
_AMONG_STAGES = 2


@dataclass(frozen=True, kw_only=True)
class StageLine:
    """One stage, one unit. ``lost`` counts by fate and reason, the commonest first."""

    stage: str
    unit: Unit
    entered: int
    left: int
    lost: Mapping[LossKind, Mapping[str, int]]

    def total(self, fate: LossKind) -> int:
        """How many of the line met this fate."""
        return sum(self.lost[fate].values())

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "unit": self.unit,
            "in": self.entered,
            "out": self.left,
            **{fate: dict(self.lost[fate]) for fate in LOST},
        }


@dataclass(frozen=True)
class StageOrder:
    """Names of a pipeline's stages: ``row_stages`` work on rows, ``clip_stages`` on clips.

    The stage that turns rows into clips is the last of the one and the first of the other.
    """

    row_stages: tuple[str, ...]
    clip_stages: tuple[str, ...]

    @classmethod
    def of(cls, stages: Iterable[Stage]) -> StageOrder:
        """Read off what the stages take and give."""
        stages = list(stages)
        rows = [stage.name for stage in stages if not issubclass(stage.takes, Clip)]
        clips = [stage.name for stage in stages if issubclass(stage.takes, Clip)]
        return cls(tuple(rows), (*rows[-1:], *clips))

    def stages(self, unit: Unit) -> tuple[str, ...]:
        return self.row_stages if unit == "rows" else self.clip_stages


@dataclass
class StageStats:
    """Counts over outcomes as they come in; memory grows with the number of different reasons only."""

    order: StageOrder
    tally: Tally = field(default_factory=Tally)
    _ends: Counter[tuple[Unit, str, Status, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, order: StageOrder, outcomes: Iterable[RowOutcome]) -> StageStats:
        """Counts over ``outcomes``."""
        stats = cls(order)
        for outcome in outcomes:
            stats.add(outcome)
        return stats

    def add(self, outcome: RowOutcome) -> None:
        """Count a row: by its clips where it gave any, else by where it ended itself."""
        self.tally.add(outcome)
        if outcome.clips:
            self._ends["rows", "", "kept", ""] += 1
        else:
            self._count("rows", outcome)
        for clip in outcome.clips:
            self._count("clips", clip)

    def lines(self) -> list[StageLine]:
        """The yield, in the order in which rows and clips walk."""
        return [*self._lines("rows"), *self._lines("clips")]

    def _count(self, unit: Unit, fate: RowOutcome | ClipOutcome) -> None:
        kept = fate.status == "kept"
        self._ends[unit, "" if kept else fate.stage or "unknown", fate.status, "" if kept else fate.reason] += 1

    def _lines(self, unit: Unit) -> list[StageLine]:
        ends = {key: count for key, count in self._ends.items() if key[0] == unit}
        entered = sum(ends.values())
        lines = []
        for stage in _walked(self.order.stages(unit), {stage for _, stage, status, _ in ends if status != "kept"}):
            lost = {fate: _by_reason(ends, stage, fate) for fate in LOST}
            left = entered - sum(sum(reasons.values()) for reasons in lost.values())
            lines.append(StageLine(stage=stage, unit=unit, entered=entered, left=left, lost=lost))
            entered = left
        return lines


def _walked(stages: Sequence[str], ended_in: set[str]) -> list[str]:
    """The pipeline's stages, with the places outside them where something ended; unknown ones come first."""
    rank = {stage: (_AMONG_STAGES, i, "") for i, stage in enumerate(stages)}
    for stage in ended_in - rank.keys():
        rank[stage] = (_OUTSIDE.get(stage, 0), 0, stage)
    return sorted(rank, key=lambda stage: rank[stage])


def _by_reason(ends: Mapping[tuple[Unit, str, Status, str], int], stage: str, fate: LossKind) -> dict[str, int]:
    found = {reason: n for (_, at, status, reason), n in ends.items() if (at, status) == (stage, fate)}
    return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))


# Alarms: a stage that rejects or loses far more than it should points at a wrong threshold or a broken input.


EXPECTED_REJECTIONS = 0.8
"""Share of what enters a stage that it may reject, where the pipeline says nothing else."""
EXPECTED_FAILURES = 0.2
"""Share of what enters a stage that may fail or take its worker down."""
LEAST_ENTERED = 20
"""Fewer items than this say nothing about a share."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """One stage that lost more than expected. ``share`` and ``expected`` are of what entered it."""

    stage: str
    kind: Literal["rejected", "failed"]
    share: float
    expected: float
    entered: int
    sentence: str

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "share": round(self.share, 6)}


def alarms(lines: Iterable[StageLine], *, expected_rejections: Mapping[str, float] | None = None) -> list[Alarm]:
    """Alarms over the yield so far, in the order of its lines.

    Args:
        expected_rejections: stage → share of items it may reject; 0.8 for the others.
    """
    expected = expected_rejections or {}
    raised = []
    for line in lines:
        if line.entered < LEAST_ENTERED:
            continue
        bounds = (expected.get(line.stage, EXPECTED_REJECTIONS), EXPECTED_FAILURES)
        losses = (dict(line.lost["rejected"]), _together(line.lost["failed"], line.lost["quarantined"]))
        kinds: tuple[Literal["rejected", "failed"], ...] = ("rejected", "failed")
        for kind, bound, reasons in zip(kinds, bounds, losses, strict=True):
            share = sum(reasons.values()) / line.entered
            if share > bound:
                raised.append(
                    Alarm(
                        stage=line.stage,
                        kind=kind,
                        share=share,
                        expected=bound,
                        entered=line.entered,
                        sentence=_sentence(line, kind, share, bound, reasons),
                    )
                )
    return raised


def _sentence(
    line: StageLine, kind: Literal["rejected", "failed"], share: float, bound: float, reasons: Mapping[str, int]
) -> str:
    commonest = min(reasons, key=lambda reason: (-reasons[reason], reason))
    remedy = (
        "is the threshold right?"
        if kind == "rejected"
        else "`posecap status --failed` lists them; is the input, or a machine, broken?"
    )
    what = "rejected" if kind == "rejected" else "lost to failures"
    return (
        f"{line.stage} {what} {_percent(share)} of {line.entered} {line.unit} "
        f"(expected at most {_percent(bound)}): most often {commonest}; {remedy}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _together(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in {*one, *other}}


__all__ = [
    "EXPECTED_FAILURES",
    "EXPECTED_REJECTIONS",
    "LEAST_ENTERED",
    "LOST",
    "Alarm",
    "StageLine",
    "StageOrder",
    "StageStats",
    "alarms",
]
