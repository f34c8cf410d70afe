"""Outcomes of rows and clips: each is kept, rejected, failed or quarantined."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from posecap import legacy
from posecap.types import Sample

Status = Literal["kept", "rejected", "failed", "quarantined"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, kw_only=True)
class ClipOutcome:
    """The outcome of one clip. ``clip_id`` is None for spans that never became a clip."""

    status: Status
    clip_id: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    stage: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class RowOutcome:
    """The outcome of one row and of its clips. A row is kept if at least one of its clips is."""

    row_id: str
    uri: str
    status: Status
    stage: str = ""
    reason: str = ""
    detail: str = ""
    retryable: bool = False
    clips: tuple[ClipOutcome, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "clips": [asdict(clip) for clip in self.clips]}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> RowOutcome:
        clips = tuple(ClipOutcome(**_in_words_of_today(clip)) for clip in written["clips"])
        return cls(**{**_in_words_of_today(written), "clips": clips})


def _in_words_of_today(written: Mapping[str, Any]) -> Mapping[str, Any]:
    old = written["status"] in legacy.STATUSES or written.get("stage", "") in legacy.STAGES
    return legacy.upgraded_record(written) if old else written


@dataclass(frozen=True)
class RowResult:
    """A row's outcome and samples, the seconds spent on it by stage, and the frames decoded."""

    outcome: RowOutcome
    samples: tuple[Sample, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    frames: int = 0


@dataclass
class Tally:
    """Running counts over rows and clips; ``planned`` rows always equal the sum of the four outcomes."""

    rows: Counter[str] = field(default_factory=Counter)
    clips: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: RowOutcome) -> None:
        self.rows[outcome.status] += 1
        for clip in outcome.clips:
            self.clips[clip.status] += 1
        # The reasons of a row with clips are those of the clips.
        self.reasons.update(o.reason for o in outcome.clips or (outcome,) if o.status != "kept")

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": {"planned": self.rows.total(), **{s: self.rows[s] for s in STATUSES}},
            "clips": {s: self.clips[s] for s in STATUSES},
            "reasons": dict(sorted(self.reasons.items())),
        }


def tally(outcomes: Iterable[RowOutcome]) -> Tally:
    """Counts over ``outcomes``."""
    total = Tally()
    for outcome in outcomes:
        total.add(outcome)
    return total


def sum_seconds(spent: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum of worker seconds by stage."""
    total: dict[str, float] = defaultdict(float)
    for seconds in spent:
        for stage, value in seconds.items():
            total[stage] += value
    return dict(total)
