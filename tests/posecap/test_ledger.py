"""What is entered in a ledger is there once, and a file that is no ledger is never trusted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from posecap.ledger import Ledger, read_nodes
from posecap.outcomes import ClipOutcome, RowOutcome, tally
from posecap.types import PartName

ONE, TWO = PartName("train", 0), PartName("val", 0)
KEPT = RowOutcome(
    row_id="a",
    uri="a.mp4",
    status="kept",
    clips=(
        ClipOutcome(status="kept", clip_id="k"),
        ClipOutcome(status="rejected", stage="filter_people", reason="no_motion"),
    ),
)
FAILED = RowOutcome(
    row_id="b", uri="b.mp4", status="failed", stage="download", reason="timeout", detail="slow", retryable=True
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def record(ledger: Ledger, part: PartName, *outcomes: RowOutcome, fingerprint: str = "f", **more: object) -> None:
    ledger.record_part(part, fingerprint, outcomes, **{"seconds": {}, "frames": 0, **more})  # type: ignore[arg-type]


def test_what_is_entered_is_read_by_the_next_process(path: Path) -> None:
    with Ledger(path) as ledger:
        record(ledger, TWO, FAILED)
        record(ledger, ONE, KEPT, FAILED)
    with Ledger(path) as ledger:
        assert list(ledger.outcomes()) == [KEPT, FAILED, FAILED]
        assert list(ledger.outcomes("train/00000")) == [KEPT, FAILED]
        assert ledger.parts() == {"train/00000": "f", "val/00000": "f"}
        assert tally(ledger.outcomes()).rows == {"kept": 1, "failed": 2}


def test_a_part_entered_again_replaces_what_was_known(path: Path) -> None:
    with Ledger(path) as ledger:
        record(ledger, ONE, KEPT, FAILED, seconds={"decode": 2.0}, frames=7)
        record(ledger, ONE, KEPT, fingerprint="g", seconds={"decode": 3.0, "track": 1.5}, frames=9)
        assert list(ledger.outcomes()) == [KEPT]
        assert ledger.parts() == {"train/00000": "g"}
        assert ledger.seconds() == ({"decode": 3.0, "track": 1.5}, 9)


def test_seconds_add_up_over_parts(path: Path) -> None:
    with Ledger(path) as ledger:
        record(ledger, ONE, KEPT, seconds={"decode": 2.0}, frames=7)
        record(ledger, TWO, KEPT, seconds={"decode": 0.5, "pack": 1.0}, frames=1)
        assert ledger.seconds() == ({"decode": 2.5, "pack": 1.0}, 8)


def test_a_part_can_be_struck(path: Path) -> None:
    with Ledger(path) as ledger:
        record(ledger, ONE, KEPT)
        record(ledger, TWO, FAILED)
        ledger.remove_part("train/00000")
        assert list(ledger.outcomes()) == [FAILED]
        assert ledger.parts() == {"val/00000": "f"}


def test_losses_count_over_runs_until_the_row_has_a_fate(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.record_loss("a")
        ledger.record_loss("b")
    with Ledger(path) as ledger:
        ledger.record_loss("a")
        assert ledger.losses() == {"a": 2, "b": 1}
        record(ledger, ONE, KEPT)
        assert ledger.losses() == {"b": 1}


def test_nodes_are_those_of_the_last_run_and_read_without_touching_the_ledger(path: Path) -> None:
    assert read_nodes(path) == []
    assert not path.exists()
    with Ledger(path) as ledger:
        ledger.record_nodes([{"node": "b", "state": "used"}, {"node": "a", "state": "lost"}])
        ledger.record_nodes([{"node": "c", "state": "used"}, {"node": "a", "state": "drained"}])
        assert ledger.nodes() == [{"node": "a", "state": "drained"}, {"node": "c", "state": "used"}]
        assert read_nodes(path) == ledger.nodes()
    path.write_bytes(b"no ledger")
    assert read_nodes(path) == []
    assert path.read_bytes() == b"no ledger"


@pytest.mark.parametrize("harm", ["nonsense", "other version"])
def test_what_is_no_ledger_is_set_aside(path: Path, harm: str) -> None:
    if harm == "nonsense":
        path.write_bytes(b"no database, however long it goes on " * 200)
    else:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
            db.execute("CREATE TABLE parts (other TEXT)")
        db.close()
    with Ledger(path) as ledger:
        assert ledger.parts() == {}
        record(ledger, ONE, KEPT)
        assert list(ledger.outcomes()) == [KEPT]


def test_a_ledger_with_a_former_reason_keeps_its_times(path: Path, tmp_path: Path) -> None:
    """Reasons were renamed after statuses and stages had been: a ledger of version 3 has only the reasons left."""
    nobody = RowOutcome(row_id="c", uri="c.mp4", status="rejected", stage="track", reason="no_person")
    with Ledger(path) as ledger:
        record(ledger, ONE, KEPT, nobody)
        seconds = ledger.seconds()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 3")
    db.close()
    with Ledger(path) as ledger:
        assert [outcome.reason for outcome in ledger.outcomes()] == ["", "no_person_found"]
        assert ledger.seconds() == seconds
        ledger.export(tmp_path / "ledger.parquet")
    assert pq.read_table(tmp_path / "ledger.parquet")["reason"].to_pylist() == ["", "no_person_found"]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT reason FROM rows ORDER BY position").fetchall() == [("",), ("no_person_found",)]
    db.close()


def test_the_export_is_a_table_of_rows(path: Path, tmp_path: Path) -> None:
    with Ledger(path) as ledger:
        record(ledger, ONE, KEPT, FAILED)
        ledger.export(tmp_path / "ledger.parquet")
    one, two = pq.read_table(tmp_path / "ledger.parquet").to_pylist()
    assert (one["part"], one["row_id"], one["clips_kept"], one["clips_rejected"]) == ("train/00000", "a", 1, 1)
    assert two == {
        "part": "train/00000",
        "row_id": "b",
        "uri": "b.mp4",
        "status": "failed",
        "stage": "download",
        "reason": "timeout",
        "detail": "slow",
        "retryable": True,
        "clips_kept": 0,
        "clips_rejected": 0,
        "clips_failed": 0,
    }
    assert sorted(p.name for p in tmp_path.glob("*.tmp")) == []


@pytest.mark.slow
def test_a_ledger_that_cannot_be_opened_now_is_left_alone(path: Path) -> None:
    with Ledger(path) as ledger:
        record(ledger, ONE, KEPT)
    before = path.read_bytes()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            Ledger(path)
    finally:
        other.execute("ROLLBACK")
        other.close()
    with Ledger(path) as ledger:
        assert list(ledger.outcomes()) == [KEPT]
    assert len(path.read_bytes()) == len(before)
