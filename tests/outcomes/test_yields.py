from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from posecap.outcomes.outcome import ClipOutcome, RowOutcome, tally
from posecap.outcomes.yields import LOST, StageOrder, Yields

ORDER = StageOrder(("download", "cut", "decode"), ("decode", "track", "select", "pack"))
STAGES = ["download", "cut", "decode", "track", "select", "pack", "plan", "run", "forget", "elsewhere", ""]

fates = st.fixed_dictionaries(
    {"status": st.sampled_from(["refused", "failed", "quarantined"]), "stage": st.sampled_from(STAGES)},
    optional={"reason": st.sampled_from(["no_person", "too_short", "error"])},
) | st.just({"status": "kept"})
clips = fates.map(lambda fate: ClipOutcome(**fate))


@st.composite
def rows(draw: st.DrawFn) -> RowOutcome:
    found = tuple(draw(st.lists(clips, max_size=4)))
    fate = draw(fates)
    if any(clip.status == "kept" for clip in found):
        fate = {"status": "kept"}
    return RowOutcome(row_id="r", uri="u", clips=found, **fate)


@given(st.lists(rows(), max_size=30))
def test_the_sums_always_add_up(outcomes: list[RowOutcome]):
    lines = Yields.of(ORDER, outcomes).lines()
    counts = tally(outcomes).as_json()
    for line in lines:
        assert line.entered == line.left + sum(line.total(fate) for fate in LOST)
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
        for fate in LOST:
            reasons.update(line.lost[fate])
    assert dict(reasons) == counts["reasons"]


@given(st.lists(rows(), max_size=12), st.randoms())
def test_the_order_of_outcomes_leaves_no_trace(outcomes: list[RowOutcome], random):
    shuffled = list(outcomes)
    random.shuffle(shuffled)
    assert Yields.of(ORDER, shuffled).lines() == Yields.of(ORDER, outcomes).lines()


def test_a_build_by_hand():
    def clip(status: str = "kept", stage: str = "", reason: str = "") -> ClipOutcome:
        return ClipOutcome(status=status, stage=stage, reason=reason)

    def row(status: str, stage: str = "", reason: str = "", clips: tuple[ClipOutcome, ...] = ()) -> RowOutcome:
        return RowOutcome(row_id="r", uri="u", status=status, stage=stage, reason=reason, clips=clips)

    lines = Yields.of(
        ORDER,
        [
            row("kept", clips=(clip(), clip("refused", "select", "no_motion"), clip("refused", "decode", "too_short"))),
            row("refused", "select", "no_motion", clips=(clip("refused", "select", "no_motion"),)),
            row("refused", "download", "not_found"),
            row("failed", "download", "timeout"),
            row("quarantined", "run", "worker_died"),
            row("refused", "plan", "duplicate"),
            row("kept", clips=(clip(), clip("refused", "forget", "forgotten"))),
        ],
    ).lines()
    assert [(line.unit, line.stage, line.entered, line.left) for line in lines] == [
        ("rows", "plan", 7, 6),
        ("rows", "run", 6, 5),
        ("rows", "download", 5, 3),
        ("rows", "cut", 3, 3),
        ("rows", "decode", 3, 3),
        ("clips", "decode", 6, 5),
        ("clips", "track", 5, 5),
        ("clips", "select", 5, 3),
        ("clips", "pack", 3, 3),
        ("clips", "forget", 3, 2),
    ]
    assert lines[2].as_json() == {
        "stage": "download",
        "unit": "rows",
        "in": 5,
        "out": 3,
        "refused": {"not_found": 1},
        "failed": {"timeout": 1},
        "quarantined": {},
    }


def test_reasons_stand_commonest_first():
    outcomes = [
        RowOutcome(row_id="r", uri="u", status="refused", stage="cut", reason=reason)
        for reason in ("b", "a", "c", "c", "a", "c")
    ]
    lines = Yields.of(ORDER, outcomes).lines()
    assert list(lines[1].lost["refused"].items()) == [("c", 3), ("a", 2), ("b", 1)]


def test_the_stage_that_makes_clips_is_last_of_one_and_first_of_the_other():
    from posecap.engines.pyav import PyAV
    from posecap.stages.cut import Cut
    from posecap.stages.decode import Decode
    from posecap.stages.pack import Pack

    order = StageOrder.of((Cut(), Decode(prober=PyAV(), decoders=(PyAV(),)), Pack()))
    assert order == StageOrder(("cut", "decode"), ("decode", "pack"))
