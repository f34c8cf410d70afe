"""Rows that are done in parts under way, as the ledger has them while a build runs."""

from pathlib import Path

from posecap.ledger import Ledger, read_open_rows
from posecap.open_rows import OpenRows
from posecap.outcomes import ClipOutcome, RowOutcome


def test_they_are_entered_once_a_second_and_leave_with_their_part(tmp_path: Path) -> None:
    path, now = tmp_path / "ledger.sqlite", [0.0]
    assert read_open_rows(path) is None
    kept = RowOutcome(row_id="a", uri="a", status="kept", clips=(ClipOutcome(status="kept", clip_id="k"),))
    lost = RowOutcome(row_id="b", uri="b", status="rejected", stage="plan", reason="duplicate")
    with Ledger(path) as ledger:
        rows = OpenRows(ledger, clock=lambda: now[0])
        rows.done(kept)
        assert read_open_rows(path) is None
        now[0] = 1.0
        rows.done(lost)
        found = read_open_rows(path)
        assert found is not None
        assert found["rows"] == {"planned": 2, "kept": 1, "rejected": 1, "failed": 0, "quarantined": 0}
        assert (found["clips"]["kept"], found["reasons"]) == (1, {"duplicate": 1})
        rows.committed([kept])
        found = read_open_rows(path)
        assert found is not None
        assert (found["rows"]["planned"], found["rows"]["kept"], found["clips"]["kept"]) == (1, 0, 0)
        rows.end()
        assert read_open_rows(path) is None
        ledger.record_open_rows({"rows": {}})
        OpenRows(ledger)  # the next run
        assert read_open_rows(path) is None
