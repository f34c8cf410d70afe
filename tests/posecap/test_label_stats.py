"""Alarms on labelled rows: the whole, and labels that stand out."""

import math
from pathlib import Path

import pytest
from scipy.stats import hypergeom

from posecap.label_stats import LabelStats, labels_of, tail_probability
from posecap.manifest.manifest_file import read_manifest
from posecap.outcomes import ClipOutcome, RowOutcome
from posecap.plan import PlanError, make_plan
from tests import small


def row(number: int, reason: str = "", stage: str = "filter_people") -> RowOutcome:
    """A row with one clip, kept or rejected for ``reason``."""
    status = "rejected" if reason else "kept"
    clip = ClipOutcome(status=status, clip_id=f"c{number}", stage=stage if reason else "", reason=reason)
    return RowOutcome(row_id=str(number), uri="v", status=status, stage=clip.stage, reason=reason, clips=(clip,))


def stats_of(**labels: tuple[int, int]) -> LabelStats:
    """Label → rows, and how many of them are rejected."""
    stats = LabelStats()
    for label, (rows, rejected) in labels.items():
        for number in range(rows):
            stats.add(label, row(number, "low_confidence" if number < rejected else ""))
    return stats


def test_a_label_that_loses_most_of_its_rows_is_named() -> None:
    labelled, pushups = stats_of(pushups=(100, 59), squats=(60, 0), lunges=(40, 4)).alarms()
    assert (labelled.stage, labelled.label, labelled.entered) == ("labelled", None, 200)
    assert labelled.sentence.startswith(
        "31.5 % of 200 labelled rows were rejected after decoding (expected at most 20 %)"
    )
    assert "low_confidence" in labelled.sentence
    assert (pushups.stage, pushups.label, pushups.share, pushups.expected) == ("labelled", "pushups", 0.59, 0.04)
    assert pushups.sentence.startswith("label 'pushups': 59 % of 100 rows were rejected after decoding, of the other")
    assert "`posecap view --sheet --rejected --label pushups`" in pushups.sentence
    assert pushups.as_json()["label"] == "pushups"
    assert "label" not in labelled.as_json()


def test_few_rows_small_differences_and_a_single_label_are_no_reason() -> None:
    assert stats_of(few=(7, 7), many=(100, 3)).alarms() == []
    assert stats_of(one=(1000, 190), two=(1000, 100)).alarms() == []  # certain, and too small to matter
    assert [alarm.label for alarm in stats_of(only=(50, 40)).alarms()] == [None]
    assert stats_of(none=(50, 0)).alarms() == []
    assert LabelStats().alarms() == []


def test_chance_alone_names_no_label() -> None:
    """Two hundred labels of ten rows, of which every seventh is rejected, spread as chance would spread them."""
    labels = {f"l{n}": (10, hypergeom.ppf((n + 0.5) / 200, 2000, 280, 10)) for n in range(200)}
    assert stats_of(**{label: (rows, int(rejected)) for label, (rows, rejected) in labels.items()}).alarms() == []


def test_a_pipeline_says_what_it_expects() -> None:
    stats = stats_of(a=(30, 9), b=(30, 9))
    assert len(stats.alarms()) == 1
    assert stats.alarms(expected_rejections={"labelled": 0.4}) == []


def test_what_says_nothing_about_footage_does_not_count() -> None:
    stats = LabelStats()
    for number in range(30):
        stats.add(None, row(number, "low_confidence"))
        stats.add("a", RowOutcome(row_id="r", uri="v", status="rejected", stage="download", reason="not_found"))
        stats.add("a", row(number, "forgotten", stage="forget"))
    assert stats.alarms() == []


@pytest.mark.parametrize(("least", "drawn", "marked", "total"), [(0, 5, 3, 20), (3, 5, 3, 20), (59, 100, 63, 200)])
def test_the_tail_is_that_of_the_hypergeometric_distribution(least: int, drawn: int, marked: int, total: int) -> None:
    expected = hypergeom.sf(least - 1, total, marked, drawn)
    assert tail_probability(least, drawn=drawn, marked=marked, total=total) == pytest.approx(expected, rel=1e-6)
    assert math.isfinite(tail_probability(900_000, drawn=1_000_000, marked=1_000_000, total=10_000_000))


def test_rows_that_are_kept_whole_may_be_counted_without_their_outcome() -> None:
    one, other = LabelStats(), LabelStats()
    for number in range(30):
        one.add("a", row(number))
        other.add_kept("a")
        other.add_kept(None)
    for stats in (one, other):
        for number in range(20):
            stats.add("b", row(number, "low_confidence"))
    assert one.alarms() == other.alarms() != []


def test_labels_come_from_the_plan(tmp_path: Path) -> None:
    rows = [small.KEPT, {"id": "mute", "video": "a.mp4"}, small.MISSING, {**small.KEPT, "id": "v", "split": "val"}]
    path = small.manifest(tmp_path, rows)
    plan = make_plan(read_manifest(path), tmp_path / "plan.parquet")
    assert labels_of(plan) == {"kept": "balancing", "missing": "gone", "v": "balancing"}
    of_parts = [labels_of(plan, part) for part in plan.parts()]
    assert of_parts == [{"kept": "balancing"}, {"missing": "gone"}, {"v": "balancing"}]
    content = plan.path.read_bytes()
    plan.path.write_bytes(content[:4] + b"\xff" * 200 + content[204:])  # the footer, which was read, is whole
    with pytest.raises(PlanError, match=r"plan\.parquet cannot be read as a plan .*; delete it and plan again"):
        labels_of(plan)
