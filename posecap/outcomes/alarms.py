"""Alarms: a stage that refuses or loses far more than it should points at a wrong threshold or a broken input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from posecap.outcomes.yields import YieldLine

EXPECTED_REFUSALS = 0.8
"""Share of what enters a stage that it may refuse, where the pipeline says nothing else."""
EXPECTED_FAILURES = 0.2
"""Share of what enters a stage that may fail or take its worker down."""
LEAST_ENTERED = 20
"""Fewer items than this say nothing about a share."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """One stage that lost more than expected. ``share`` and ``expected`` are of what entered it."""

    stage: str
    kind: Literal["refused", "failed"]
    share: float
    expected: float
    entered: int
    sentence: str

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "share": round(self.share, 6)}


def alarms(lines: Iterable[YieldLine], *, expected_refusals: Mapping[str, float] | None = None) -> list[Alarm]:
    """Alarms over the yield so far, in the order of its lines.

    Args:
        expected_refusals: stage → share of items it may refuse; 0.8 for the others.
    """
    expected = expected_refusals or {}
    raised = []
    for line in lines:
        if line.entered < LEAST_ENTERED:
            continue
        bounds = (expected.get(line.stage, EXPECTED_REFUSALS), EXPECTED_FAILURES)
        losses = (dict(line.lost["refused"]), _together(line.lost["failed"], line.lost["quarantined"]))
        kinds: tuple[Literal["refused", "failed"], ...] = ("refused", "failed")
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
    line: YieldLine, kind: Literal["refused", "failed"], share: float, bound: float, reasons: Mapping[str, int]
) -> str:
    commonest = min(reasons, key=lambda reason: (-reasons[reason], reason))
    remedy = (
        "is the threshold right?"
        if kind == "refused"
        else "`posecap status --failed` lists them; is the input, or a machine, broken?"
    )
    what = "refused" if kind == "refused" else "lost to failures"
    return (
        f"{line.stage} {what} {_percent(share)} of {line.entered} {line.unit} "
        f"(expected at most {_percent(bound)}): most often {commonest}; {remedy}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _together(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in {*one, *other}}


__all__ = ["EXPECTED_FAILURES", "EXPECTED_REFUSALS", "LEAST_ENTERED", "Alarm", "alarms"]
