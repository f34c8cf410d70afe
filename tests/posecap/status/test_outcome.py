"""Fates and their counts."""

import json

from hypothesis import given
from hypothesis import strategies as st

from posecap.status.outcome import STATUSES, ClipOutcome, RowOutcome, tally

texts = st.text(max_size=8)
clips = st.builds(
    ClipOutcome,
    status=st.sampled_from(["kept", "rejected", "failed"]),
    clip_id=st.none() | texts,
    start_seconds=st.none() | st.floats(0, 1e6),
    end_seconds=st.none() | st.floats(0, 1e6),
    stage=texts,
    reason=texts,
    detail=texts,
)
rows = st.builds(
    RowOutcome,
    row_id=texts,
    uri=texts,
    status=st.sampled_from(STATUSES),
    stage=texts,
    reason=texts,
    detail=texts,
    retryable=st.booleans(),
    clips=st.lists(clips, max_size=3).map(tuple),
)


@given(rows)
def test_a_fate_comes_back_from_json(row: RowOutcome) -> None:
    assert RowOutcome.from_json(json.loads(json.dumps(row.as_json()))) == row


@given(st.lists(rows, max_size=8))
def test_planned_is_the_sum_of_the_four_fates(many: list[RowOutcome]) -> None:
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
