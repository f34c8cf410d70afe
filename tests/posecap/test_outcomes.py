"""Outcomes of rows and clips, counts by stage, and alarms."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from posecap import legacy
from posecap.manifest.manifest_file import read_manifest
from posecap.outcomes import (
    LOST,
    STATUSES,
    ClipOutcome,
    LabelStats,
    RowOutcome,
    StageLine,
    StageOrder,
    StageStats,
    alarms,
    tail_probability,
    tally,
)
from posecap.plan import PlanError, make_plan
from tests import small

texts = st.text(max_size=8)
stages = texts.filter(lambda name: name not in legacy.STAGES)  # former names are read as the present ones
any_clips = st.builds(
    ClipOutcome,
    status=st.sampled_from(["kept", "rejected", "failed"]),
    clip_id=st.none() | texts,
    start_seconds=st.none() | st.floats(0, 1e6),
    end_seconds=st.none() | st.floats(0, 1e6),
    stage=stages,
    reason=texts,
    detail=texts,
)
any_rows = st.builds(
    RowOutcome,
    row_id=texts,
    uri=texts,
    status=st.sampled_from(STATUSES),
    stage=stages,
    reason=texts,
    detail=texts,
    retryable=st.booleans(),
    clips=st.lists(any_clips, max_size=3).map(tuple),
)


@given(any_rows)
def test_an_outcome_comes_back_from_json(row: RowOutcome) -> None:
    assert RowOutcome.from_json(json.loads(json.dumps(row.as_json()))) == row


@given(st.lists(any_rows, max_size=8))
def test_planned_is_the_sum_of_the_four_outcomes(many: list[RowOutcome]) -> None:
    counts = tally(many).as_json()
    assert counts["rows"]["planned"] == len(many) == sum(counts["rows"][status] for status in STATUSES)
    assert sum(counts["clips"].values()) == sum(len(row.clips) for row in many)


def test_reasons_are_counted_once_for_each_lost_clip_or_clipless_row() -> None:
    lost = ClipOutcome(status="rejected", stage="filter_people", reason="no_motion")
    counts = tally(
        [
            RowOutcome(row_id="a", uri="a", status="kept", clips=(ClipOutcome(status="kept"), lost)),
            RowOutcome(row_id="b", uri="b", status="rejected", reason="no_motion", clips=(lost, lost)),
            RowOutcome(row_id="c", uri="c", status="failed", reason="timeout"),
        ]
    ).as_json()
    assert counts["reasons"] == {"no_motion": 3, "timeout": 1}
    assert counts["rows"] == {"planned": 3, "kept": 1, "rejected": 1, "failed": 1, "quarantined": 0}
    assert counts["clips"] == {"kept": 1, "rejected": 3, "failed": 0, "quarantined": 0}


def line(stage: str, entered: int, *, unit: str = "clips", **lost: dict[str, int]) -> StageLine:
    every = {outcome: lost.get(outcome, {}) for outcome in ("rejected", "failed", "quarantined")}
    gone = sum(sum(reasons.values()) for reasons in every.values())
    return StageLine(stage=stage, unit=unit, entered=entered, left=entered - gone, lost=every)


def test_a_stage_that_rejects_far_more_than_expected_is_named_with_its_commonest_reason():
    (alarm,) = alarms([line("filter_people", 120, rejected={"no_motion": 100, "too_small": 15})])
    assert alarm.sentence == (
        "filter_people rejected 95.8 % of 120 clips (expected at most 80 %): "
        "most often no_motion; is the threshold right?"
    )
    assert (alarm.stage, alarm.kind, alarm.entered, alarm.expected) == ("filter_people", "rejected", 120, 0.8)


def test_the_expected_share_itself_and_small_numbers_raise_none():
    assert alarms([line("filter_people", 100, rejected={"no_motion": 80})]) == []
    assert alarms([line("filter_people", 19, rejected={"no_motion": 19})]) == []
    assert len(alarms([line("filter_people", 20, rejected={"no_motion": 20})])) == 1
    assert (
        alarms([line("plan", 100, unit="rows", rejected={"filtered": 90, "duplicate": 10})]) == []
    )  # as was asked for


def test_a_stage_s_own_share_counts():
    lines = [
        line("filter_people", 100, rejected={"no_motion": 50}),
        line("track", 100, rejected={"no_person_found": 50}),
    ]
    (alarm,) = alarms(lines, expected_rejections={"track": 0.4})
    assert alarm.sentence.startswith(
        "track rejected 50 % of 100 clips (expected at most 40 %): most often no_person_found"
    )
    assert alarms(lines, expected_rejections={"filter_people": 0.6}) == []


def test_failures_and_lost_workers_count_together():
    (alarm,) = alarms([line("download", 40, unit="rows", failed={"timeout": 6}, quarantined={"worker_died": 3})])
    assert (alarm.kind, alarm.share) == ("failed", 9 / 40)
    assert alarm.sentence == (
        "download lost to failures 22.5 % of 40 rows (expected at most 20 %): most often timeout; "
        "`posecap status --failed` lists them; is the input, or a machine, broken?"
    )


def test_of_equally_common_reasons_the_first_by_name_is_said():
    (alarm,) = alarms([line("filter_people", 20, rejected={"b": 10, "a": 10})])
    assert "most often a;" in alarm.sentence


ORDER = StageOrder(("download", "split", "decode"), ("decode", "track", "filter_people", "pack"))
STAGES = ["download", "split", "decode", "track", "filter_people", "pack", "plan", "run", "forget", "elsewhere", ""]

outcomes = st.fixed_dictionaries(
    {"status": st.sampled_from(["rejected", "failed", "quarantined"]), "stage": st.sampled_from(STAGES)},
    optional={"reason": st.sampled_from(["no_person_found", "too_short", "error"])},
) | st.just({"status": "kept"})
clips = outcomes.map(lambda outcome: ClipOutcome(**outcome))


@st.composite
def rows(draw: st.DrawFn) -> RowOutcome:
    found = tuple(draw(st.lists(clips, max_size=4)))
    outcome = draw(outcomes)
    if any(clip.status == "kept" for clip in found):
        outcome = {"status": "kept"}
    return RowOutcome(row_id="r", uri="u", clips=found, **outcome)


@given(st.lists(rows(), max_size=30))
def test_the_sums_always_add_up(outcomes: list[RowOutcome]):
    lines = StageStats.of(ORDER, outcomes).lines()
    counts = tally(outcomes).as_json()
    for line in lines:
        assert line.entered == line.left + sum(sum(line.lost[outcome].values()) for outcome in LOST)
        assert line.left >= 0
    for unit in ("rows", "clips"):
        own = [line for line in lines if line.unit == unit]
        assert all(before.left == after.entered for before, after in pairwise(own))
        assert len({line.stage for line in own}) == len(own)
    row_lines, clip_lines = ([line for line in lines if line.unit == unit] for unit in ("rows", "clips"))
    assert row_lines[0].entered == counts["rows"]["planned"]
    assert row_lines[-1].left == sum(bool(o.clips) or o.status == "kept" for o in outcomes)
    assert clip_lines[0].entered == sum(len(o.clips) for o in outcomes)
    assert clip_lines[-1].left == counts["clips"]["kept"]
    reasons: Counter[str] = Counter()
    for line in lines:
        for outcome in LOST:
            reasons.update(line.lost[outcome])
    assert dict(reasons) == counts["reasons"]


@given(st.lists(rows(), max_size=12), st.randoms())
def test_the_order_of_outcomes_does_not_matter(outcomes: list[RowOutcome], random):
    shuffled = list(outcomes)
    random.shuffle(shuffled)
    assert StageStats.of(ORDER, shuffled).lines() == StageStats.of(ORDER, outcomes).lines()


def test_a_build_by_hand():
    def clip(status: str = "kept", stage: str = "", reason: str = "") -> ClipOutcome:
        return ClipOutcome(status=status, stage=stage, reason=reason)

    def row(status: str, stage: str = "", reason: str = "", clips: tuple[ClipOutcome, ...] = ()) -> RowOutcome:
        return RowOutcome(row_id="r", uri="u", status=status, stage=stage, reason=reason, clips=clips)

    lines = StageStats.of(
        ORDER,
        [
            row(
                "kept",
                clips=(clip(), clip("rejected", "filter_people", "no_motion"), clip("rejected", "decode", "too_short")),
            ),
            row("rejected", "filter_people", "no_motion", clips=(clip("rejected", "filter_people", "no_motion"),)),
            row("rejected", "download", "not_found"),
            row("failed", "download", "timeout"),
            row("quarantined", "run", "worker_died"),
            row("rejected", "plan", "duplicate"),
            row("kept", clips=(clip(), clip("rejected", "forget", "forgotten"))),
        ],
    ).lines()
    assert [(line.unit, line.stage, line.entered, line.left) for line in lines] == [
        ("rows", "plan", 7, 6),
        ("rows", "run", 6, 5),
        ("rows", "download", 5, 3),
        ("rows", "split", 3, 3),
        ("rows", "decode", 3, 3),
        ("clips", "decode", 6, 5),
        ("clips", "track", 5, 5),
        ("clips", "filter_people", 5, 3),
        ("clips", "pack", 3, 3),
        ("clips", "forget", 3, 2),
    ]
    assert lines[2].as_json() == {
        "stage": "download",
        "unit": "rows",
        "in": 5,
        "out": 3,
        "rejected": {"not_found": 1},
        "failed": {"timeout": 1},
        "quarantined": {},
    }


def test_reasons_stand_commonest_first():
    outcomes = [
        RowOutcome(row_id="r", uri="u", status="rejected", stage="split", reason=reason)
        for reason in ("b", "a", "c", "c", "a", "c")
    ]
    lines = StageStats.of(ORDER, outcomes).lines()
    assert list(lines[1].lost["rejected"].items()) == [("c", 3), ("a", 2), ("b", 1)]


def test_the_stage_that_makes_clips_is_last_of_one_and_first_of_the_other():
    from posecap.engines.pyav import PyAV
    from posecap.stages.decode import Decode, Split
    from posecap.stages.pack import Pack

    order = StageOrder.of((Split(), Decode(prober=PyAV(), decoders=(PyAV(),)), Pack()))
    assert order == StageOrder(("split", "decode"), ("decode", "pack"))


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
        stats.add("a", row(number, "filtered", stage="filter_clips"))
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
    assert plan.labels() == {"kept": "balancing", "missing": "gone", "v": "balancing"}
    of_parts = [plan.labels(part) for part in plan.parts()]
    assert of_parts == [{"kept": "balancing"}, {"missing": "gone"}, {"v": "balancing"}]
    content = plan.path.read_bytes()
    plan.path.write_bytes(content[:4] + b"\xff" * 200 + content[204:])  # the footer, which was read, is whole
    with pytest.raises(PlanError, match=r"plan\.parquet cannot be read as a plan .*; delete it and plan again"):
        plan.labels()
