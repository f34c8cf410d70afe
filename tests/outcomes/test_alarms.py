from posecap.outcomes.alarms import alarms
from posecap.outcomes.yields import YieldLine


def line(stage: str, entered: int, *, unit: str = "clips", **lost: dict[str, int]) -> YieldLine:
    every = {fate: lost.get(fate, {}) for fate in ("refused", "failed", "quarantined")}
    gone = sum(sum(reasons.values()) for reasons in every.values())
    return YieldLine(stage=stage, unit=unit, entered=entered, left=entered - gone, lost=every)


def test_a_stage_that_refuses_far_more_than_expected_is_named_with_its_commonest_reason():
    (alarm,) = alarms([line("select", 120, refused={"no_motion": 100, "too_small": 15})])
    assert alarm.sentence == (
        "select refused 95.8 % of 120 clips (expected at most 80 %): most often no_motion; is the threshold right?"
    )
    assert (alarm.stage, alarm.kind, alarm.entered, alarm.expected) == ("select", "refused", 120, 0.8)


def test_the_expected_share_itself_and_small_numbers_raise_none():
    assert alarms([line("select", 100, refused={"no_motion": 80})]) == []
    assert alarms([line("select", 19, refused={"no_motion": 19})]) == []
    assert len(alarms([line("select", 20, refused={"no_motion": 20})])) == 1


def test_a_stage_s_own_share_counts():
    lines = [line("select", 100, refused={"no_motion": 50}), line("track", 100, refused={"no_person": 50})]
    (alarm,) = alarms(lines, expected_refusals={"track": 0.4})
    assert alarm.sentence.startswith("track refused 50 % of 100 clips (expected at most 40 %): most often no_person")
    assert alarms(lines, expected_refusals={"select": 0.6}) == []


def test_failures_and_lost_workers_count_together():
    (alarm,) = alarms([line("download", 40, unit="rows", failed={"timeout": 6}, quarantined={"worker_died": 3})])
    assert (alarm.kind, alarm.share) == ("failed", 9 / 40)
    assert alarm.sentence == (
        "download lost to failures 22.5 % of 40 rows (expected at most 20 %): most often timeout; "
        "`posecap status --failed` lists them; is the input, or a machine, broken?"
    )


def test_of_equally_common_reasons_the_first_by_name_is_said():
    (alarm,) = alarms([line("select", 20, refused={"b": 10, "a": 10})])
    assert "most often a;" in alarm.sentence
