"""Rejections of labelled rows, all of them and label by label, and alarms on them.

Whoever gave a row its label has seen a person do something in it. So fewer of these rows may be rejected than of
footage that nobody has looked at, and no label much more often than the others. A row counts once its video was
decoded; it is lost when none of its clips is kept.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from posecap.outcomes import LABELLED, LEAST_ENTERED, Alarm, RowOutcome, largest_first, percent
from posecap.plan import Plan, PlannedPart

EXPECTED_REJECTIONS = 0.2
"""Share of the labelled rows that may be rejected, where the pipeline does not say otherwise. A free choice, as are the
three below."""
LEAST_OF_A_LABEL = 8
"""Labels with fewer decoded rows raise no alarm."""
LEAST_ABOVE = 0.15
"""How much larger than that of the other labels a label's share of rejected rows must be, however many rows it has."""
CHANCE = 0.01
"""Probability of any alarm on a label, at most, where rejections do not depend on labels."""
MOST_NAMED = 10
"""Labels that alarms are raised on, the most certain first; more would not be read."""


@dataclass
class LabelStats:
    """Running counts by label. Memory grows with the number of labels."""

    _entered: Counter[str] = field(default_factory=Counter)
    _rejected: Counter[str] = field(default_factory=Counter)
    _reasons: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, label: str | None, outcome: RowOutcome) -> None:
        """Count a row; those without a label, and those that were lost before they had clips, do not count."""
        clips = outcome.clips
        if not label or not clips or outcome.status not in ("kept", "rejected"):
            return
        if any(clip.stage == "forget" for clip in clips):
            return  # removed on request, which says nothing about the footage
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
        expected = (expected_rejections or {}).get(LABELLED, EXPECTED_REJECTIONS)
        return [*self._overall(expected), *self._outstanding()]

    def _overall(self, expected: float) -> Iterator[Alarm]:
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


def labels_of(plan: Plan, part: PlannedPart | None = None) -> dict[str, str]:
    """Label by row id, of a part or, with None, of all; rows without a label are left out.

    Raises:
        posecap.plan.PlanError: the plan is damaged.
    """
    known: dict[str, str] = {}  # one text for equal labels
    table = plan.columns(["id", "label"], part)
    pairs = zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True)
    return {row_id: known.setdefault(label, label) for row_id, label in pairs if label}


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
