"""Outcomes of rows and clips (each is kept, rejected, failed or quarantined), counts by stage, and alarms on them.

A build counts rows until a video is decoded and clips from there on, so the counts are a list of lines, each with its
unit. In every line ``entered = left + rejected + failed + quarantined``, and what left a line entered the next one of
the same unit. The stage that turns rows into clips has two lines: rows without any span of video end in the first,
spans that became no clip in the second. Items that ended outside the pipeline's stages have lines of their own:
``plan`` (rows that are rejected before any work: bad cells, duplicates, what a stage rejects by the row alone) and
``run`` (rows on which workers died) before the stages, ``forget`` (clips removed on request) after them.

Rows with a label have expectations of their own: whoever gave a row its label has seen a person do something in it. So
fewer of these rows may be rejected than of footage that nobody has looked at, and no label much more often than the
others. A row counts there once its video was decoded; it is lost when none of its clips is kept.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from posecap import legacy
from posecap.stage import Stage
from posecap.types import Clip, Sample, StagedResults, StagedSample

Status = Literal["kept", "rejected", "failed", "quarantined"]
"""``rejected`` is unsuitable, ``failed`` could not be processed (:class:`posecap.stage.Reject`,
:class:`posecap.stage.PermanentError`); ``quarantined`` is a row on which workers died again and again."""
STATUSES: tuple[Status, ...] = get_args(Status)

Unit = Literal["rows", "clips"]
"""What a line counts."""
LossKind = Literal["rejected", "failed", "quarantined"]
LOST: tuple[LossKind, ...] = ("rejected", "failed", "quarantined")
"""Every status but ``kept``."""
_RANK_OUTSIDE_STAGES = {"plan": 0, "run": 1, "forget": 3}
_RANK_OF_STAGES = 2
"""Order of the lines, as the module describes it."""

EXPECTED_REJECTIONS = 0.8
"""Share of the items entering a stage that it may reject, where the pipeline does not say otherwise. Our choice,
for footage that nobody has looked at: one item in five is still worth a build."""
EXPECTED_FAILURES = 0.2
"""Share of the items entering a stage that may fail or be quarantined. Our choice: single broken videos raise
no alarm, an address or an engine that fails does."""
FILTERED = "filtered"
"""Reason of clips and rows that a condition leaves out (:mod:`posecap.stages.filter_clips`)."""
LABELLED = "labelled"
"""All rows with a label, among the expectations of a pipeline and in alarms, where stages have their names."""
LEAST_ENTERED = 20
"""Stages with fewer items raise no alarm, as their shares say little."""

_BY_CHOICE = ("forget", "filter_clips")
"""Stages whose rejections somebody asked for, and which therefore raise no alarm on labels."""
EXPECTED_LABELLED_REJECTIONS = 0.2
"""Share of the labelled rows that may be rejected, where the pipeline does not say otherwise. Our choice, as are the
four below: a label that loses more is worth a look, and few alarms are read."""
LEAST_OF_A_LABEL = 8
"""Labels with fewer decoded rows raise no alarm."""
LEAST_ABOVE = 0.15
"""How much larger than that of the other labels a label's share of rejected rows must be, however many rows it has."""
CHANCE = 0.01
"""Probability of any alarm on a label, at most, where rejections do not depend on labels."""
MOST_NAMED = 10
"""Labels that alarms are raised on, the most certain first; more would not be read."""


@dataclass(frozen=True, kw_only=True)
class ClipOutcome:
    """The outcome of one clip.

    Args:
        clip_id: None for spans that never became a clip.
        start_seconds, end_seconds: of its span on the source video's clock; None where no span is known.
        stage: in which it ended; empty if it was kept, as are ``reason`` and ``detail``.
        reason: a snake_case word, by which outcomes are counted.
        detail: a sentence for people.
    """

    status: Status
    clip_id: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    stage: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class RowOutcome:
    """The outcome of one row and of its clips. A row is kept if at least one of its clips is.

    Args:
        uri: the video, as the manifest names it.
        stage, reason, detail: as in :class:`ClipOutcome`; those of a row whose clips were all lost are those of the
            row's own error or else of a clip, of one that failed rather than was rejected.
        retryable: whether the same row may pass when it is run again: it ended by a
            :class:`posecap.stage.TransientError`, an OSError or for want of memory. False where it was only clips that
            ended so.
        clips: in the order in which they were cut; empty for a row that ended before. A row that ended after its first
            clips, such as a file that breaks off, has this as one more clip, without id and span.
    """

    row_id: str
    uri: str
    status: Status
    stage: str = ""
    reason: str = ""
    detail: str = ""
    retryable: bool = False
    clips: tuple[ClipOutcome, ...] = ()

    def as_json(self) -> dict[str, Any]:
        # In the order of the fields, as asdict gives it, which copies every value and takes ten times as long.
        return {**vars(self), "clips": [dict(vars(clip)) for clip in self.clips]}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> RowOutcome:
        """What :meth:`as_json` gave, also in the words of posecap 0.1 (:mod:`posecap.legacy`).

        Raises:
            KeyError, TypeError: it is something else. Of the fields themselves no type is checked.
        """
        clips = tuple(ClipOutcome(**_with_present_names(clip)) for clip in written["clips"])
        return cls(**{**_with_present_names(written), "clips": clips})


def _with_present_names(written: Mapping[str, Any]) -> Mapping[str, Any]:
    """An outcome of a row or clip, with the words of posecap 0.1 replaced.

    Raises:
        TypeError: it is no mapping.
    """
    if not isinstance(written, Mapping):
        raise TypeError(f"an outcome is an object, not {type(written).__name__}")
    old = (
        written.get("status") in legacy.STATUSES
        or written.get("stage") in legacy.STAGES
        or written.get("reason") in legacy.REASONS
    )
    return legacy.upgraded_record(written) if old else written


@dataclass(frozen=True)
class RowResult:
    """A row's outcome and samples, the worker seconds spent on it by stage, the number of frames decoded, the bytes of
    its video, and the node that was last at work on it.

    ``samples`` of a build are where they were staged, ``results`` is where what is stored of the row lies; None where
    nothing is. ``seconds`` and ``node`` are empty and the numbers 0 where the
    row was not executed in this run; one that an earlier run had done for a part under way has the seconds and numbers
    of that run.
    """

    outcome: RowOutcome
    samples: tuple[Sample | StagedSample, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    frames: int = 0
    bytes_read: int = 0
    node: str = ""
    results: StagedResults | None = None


@dataclass
class Tally:
    """Running counts over rows and clips by status, and by reason over clips, and rows without clips, that were lost.

    In :meth:`as_json` the planned rows are the sum of the four statuses: of a build under way, the rows that are done.
    """

    rows: Counter[str] = field(default_factory=Counter)
    clips: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: RowOutcome) -> None:
        """Count a row and its clips."""
        self.rows[outcome.status] += 1
        for clip in outcome.clips:
            self.clips[clip.status] += 1
        self.reasons.update(o.reason for o in outcome.clips or (outcome,) if o.status != "kept")

    def add_kept(self, clips: int) -> None:
        """Count a row of which every clip is kept."""
        self.rows["kept"] += 1
        self.clips["kept"] += clips

    def remove(self, outcome: RowOutcome) -> None:
        """Count a row no longer that was counted."""
        self.rows[outcome.status] -= 1
        for clip in outcome.clips:
            self.clips[clip.status] -= 1
        for reason in (o.reason for o in outcome.clips or (outcome,) if o.status != "kept"):
            self.reasons[reason] -= 1
            if not self.reasons[reason]:
                del self.reasons[reason]

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


@dataclass(frozen=True, kw_only=True)
class StageLine:
    """How many items entered a stage and left it for the next one.

    ``lost`` counts those that ended in it by status and reason, most frequent first.
    """

    stage: str
    unit: Unit
    entered: int
    left: int
    lost: Mapping[LossKind, Mapping[str, int]]

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "unit": self.unit,
            "in": self.entered,
            "out": self.left,
            **{kind: dict(self.lost[kind]) for kind in LOST},
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
        """The order of ``stages``, from the types they take and give."""
        stages = list(stages)
        rows = [stage.name for stage in stages if not issubclass(stage.takes, Clip)]
        clips = [stage.name for stage in stages if issubclass(stage.takes, Clip)]
        return cls(tuple(rows), (*rows[-1:], *clips))


@dataclass
class StageStats:
    """Running counts over outcomes; memory grows with the number of different reasons only.

    ``_ends`` counts items by unit, stage in which they ended (empty if kept), status and reason.
    """

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
        """Count a row: by its clips if it has any, else by the stage in which it ended itself."""
        self.tally.add(outcome)
        if outcome.clips:
            self._ends["rows", "", "kept", ""] += 1
        else:
            self._count("rows", outcome)
        for clip in outcome.clips:
            self._count("clips", clip)

    def lines(self) -> list[StageLine]:
        """The counts, rows before clips, in the order of the stages."""
        return [*self._lines("rows", self.order.row_stages), *self._lines("clips", self.order.clip_stages)]

    def _count(self, unit: Unit, outcome: RowOutcome | ClipOutcome) -> None:
        kept = outcome.status == "kept"
        stage, reason = ("", "") if kept else (outcome.stage or "unknown", outcome.reason)
        self._ends[unit, stage, outcome.status, reason] += 1

    def _lines(self, unit: Unit, stages: Sequence[str]) -> list[StageLine]:
        """The lines of one unit, of these stages and of all others in which an item ended."""
        ends = {tuple(key): count for (of, *key), count in self._ends.items() if of == unit}
        entered = sum(ends.values())
        lines = []
        for stage in _in_order(stages, {stage for stage, status, _ in ends if status != "kept"}):
            ended = [(status, reason, n) for (end, status, reason), n in ends.items() if end == stage]
            lost = {kind: largest_first({why: n for status, why, n in ended if status == kind}) for kind in LOST}
            left = entered - sum(sum(reasons.values()) for reasons in lost.values())
            lines.append(StageLine(stage=stage, unit=unit, entered=entered, left=left, lost=lost))
            entered = left
        return lines


def _in_order(stages: Sequence[str], ended_in: set[str]) -> list[str]:
    """The pipeline's stages and the others in ``ended_in``; unknown ones come first."""
    rank = {stage: (_RANK_OF_STAGES, i, "") for i, stage in enumerate(stages)}
    for stage in ended_in - rank.keys():
        rank[stage] = (_RANK_OUTSIDE_STAGES.get(stage, 0), 0, stage)
    return sorted(rank, key=lambda stage: rank[stage])


def largest_first(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by word, the largest first, equal ones by word."""
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A stage that lost a larger share of its items than expected: a wrong threshold or a broken input.

    Args:
        kind: ``failed`` includes quarantined items.
        share: of the ``entered`` items that were lost, 0 to 1.
        expected: the largest share that raises no alarm.
        sentence: for people, with the most frequent reason and what to check.
        label: of the rows that were lost, where the alarm is on one label.
    """

    stage: str
    kind: Literal["rejected", "failed"]
    share: float
    expected: float
    entered: int
    sentence: str
    label: str | None = None

    def as_json(self) -> dict[str, Any]:
        written = {**asdict(self), "share": round(self.share, 6), "expected": round(self.expected, 6)}
        return written if self.label is not None else {key: value for key, value in written.items() if key != "label"}


def alarms(lines: Iterable[StageLine], *, expected_rejections: Mapping[str, float] | None = None) -> list[Alarm]:
    """Alarms over the counts so far, in the order of ``lines``; none for a stage that fewer than 20 items entered.

    Args:
        expected_rejections: stage → share of items it may reject, 0 to 1; 0.8 for the others. Of failures it may have
            0.2, whatever the stage. What a filter leaves out is meant to be, and does not count.
    """
    expected = expected_rejections or {}
    found = []
    for line in lines:
        failed = Counter(line.lost["failed"]) + Counter(line.lost["quarantined"])
        rejected = {why: count for why, count in line.lost["rejected"].items() if why != FILTERED}
        of_rejections = _alarm(line, "rejected", rejected, expected.get(line.stage, EXPECTED_REJECTIONS))
        found += [of_rejections, _alarm(line, "failed", failed, EXPECTED_FAILURES)]
    return [alarm for alarm in found if alarm is not None]


def _alarm(
    line: StageLine, kind: Literal["rejected", "failed"], reasons: Mapping[str, int], expected: float
) -> Alarm | None:
    """The alarm on a line for losses of one kind, counted by reason; None where they are as expected."""
    if line.entered < LEAST_ENTERED or (share := sum(reasons.values()) / line.entered) <= expected:
        return None
    commonest = next(iter(largest_first(reasons)))
    what, remedy = {
        "rejected": ("rejected", "is the threshold right?"),
        "failed": ("lost to failures", "`posecap status --failed` lists them; is the input, or a machine, broken?"),
    }[kind]
    sentence = (
        f"{line.stage} {what} {percent(share)} of {line.entered} {line.unit} "
        f"(expected at most {percent(expected)}): most often {commonest}; {remedy}"
    )
    return Alarm(stage=line.stage, kind=kind, share=share, expected=expected, entered=line.entered, sentence=sentence)


def percent(share: float) -> str:
    """A share in words, as ``41.2 %``."""
    return f"{100 * share:.3g} %"


@dataclass
class LabelStats:
    """Running counts by label: rows whose video was decoded, of them those without any kept clip, and the reasons of
    their clips. Memory grows with the number of labels.
    """

    _entered: Counter[str] = field(default_factory=Counter)
    _rejected: Counter[str] = field(default_factory=Counter)
    _reasons: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, label: str | None, outcome: RowOutcome) -> None:
        """Count a row; those without a label, and those that were lost before they had clips, do not count."""
        clips = outcome.clips
        if not label or not clips or outcome.status not in ("kept", "rejected"):
            return
        if any(clip.stage == "forget" or clip.reason == FILTERED for clip in clips):
            return  # removed on request or by the manifest's filter, which says nothing about the footage
        self._entered[label] += 1
        if outcome.status == "rejected":
            self._rejected[label] += 1
            self._reasons.setdefault(label, Counter()).update({clip.reason for clip in clips})

    def add_kept(self, label: str | None) -> None:
        """Count a row of which every clip is kept."""
        if label:
            self._entered[label] += 1

    def alarms(self, *, expected_rejections: Mapping[str, float] | None = None) -> list[Alarm]:
        """An alarm on all labelled rows, and one on each label whose rejections stand out, the most certain first.

        Args:
            expected_rejections: the pipeline's; ``labelled`` is the share of labelled rows that may be rejected.
        """
        expected = (expected_rejections or {}).get(LABELLED, EXPECTED_LABELLED_REJECTIONS)
        return [*self._overall(expected), *self._outstanding()]

    def _overall(self, expected: float) -> Iterator[Alarm]:
        """An alarm on all labelled rows, where there is one."""
        entered, rejected = self._entered.total(), self._rejected.total()
        if entered < LEAST_ENTERED or rejected / entered <= expected:
            return
        reasons = sum(self._reasons.values(), Counter[str]())
        sentence = (
            f"{percent(rejected / entered)} of {entered:,} labelled rows were rejected after decoding (expected at "
            f"most {percent(expected)}): most often {next(iter(largest_first(reasons)))}; their labels say that "
            "somebody is there, `posecap view --sheet --rejected` shows them"
        )
        share = rejected / entered
        yield Alarm(stage=LABELLED, kind="rejected", share=share, expected=expected, entered=entered, sentence=sentence)

    def _outstanding(self) -> Iterator[Alarm]:
        """Alarms on labels. ``chance`` is the probability that so many of the label's rows are rejected if rejections
        do not depend on labels; times the number of labels compared (Bonferroni) it must be below ``CHANCE``.
        """
        rows, lost = self._entered.total(), self._rejected.total()
        candidates = [label for label, count in self._entered.items() if LEAST_OF_A_LABEL <= count < rows]
        found = []
        for label in candidates:
            entered, rejected = self._entered[label], self._rejected[label]
            others = (lost - rejected) / (rows - entered)
            if rejected / entered >= others + LEAST_ABOVE:
                chance = tail_probability(rejected, drawn=entered, marked=lost, total=rows)
                if chance * len(candidates) < CHANCE:
                    found.append((chance, label, others))
        for _, label, others in sorted(found)[:MOST_NAMED]:
            entered, share = self._entered[label], self._rejected[label] / self._entered[label]
            sentence = (
                f"label {label!r}: {percent(share)} of {entered:,} rows were rejected after decoding, of the other "
                f"labels' rows {percent(others)}: most often {next(iter(largest_first(self._reasons[label])))}; "
                f"`posecap view --sheet --rejected --label {shlex.quote(label)}` shows them"
            )
            yield Alarm(
                stage=LABELLED,
                kind="rejected",
                share=share,
                expected=others,
                entered=entered,
                sentence=sentence,
                label=label,
            )


def tail_probability(least: int, *, drawn: int, marked: int, total: int) -> float:
    """Probability that at least ``least`` of ``drawn`` items are marked, of ``total`` of which ``marked`` are.

    The upper tail of the hypergeometric distribution: Fisher's exact test, one-sided.
    """
    most = min(drawn, marked)
    everything = _log_choose(total, drawn)
    return min(
        1.0,
        math.fsum(
            math.exp(_log_choose(marked, hit) + _log_choose(total - marked, drawn - hit) - everything)
            for hit in range(least, most + 1)
            if drawn - hit <= total - marked
        ),
    )


def _log_choose(n: int, k: int) -> float:
    """Logarithm of the binomial coefficient."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
