"""What benchmarks/hostile.py generates, and what it takes for a fault."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from posecap.outcomes import ClipOutcome, RowOutcome
from tests import ROOT
from tests.programs import program

hostile = program(ROOT / "benchmarks" / "hostile.py")

KEPT = RowOutcome(row_id="0", uri="a.mp4", status="kept")


def media(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "media").iterdir()}


def test_equal_seeds_give_equal_files_of_every_video_and_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostile, "VIDEOS", {name: hostile.VIDEOS[name] for name in ("h264.mp4", "mpeg4.avi")})
    count = 2 * len(hostile.DAMAGE)
    made = hostile.write_input(tmp_path / "one", count, seed=3)
    assert Counter((one.video, one.damage) for one in made).total() == len({(o.video, o.damage) for o in made}) == count
    assert media(tmp_path / "one").keys() == {one.name for one in made}
    hostile.write_input(tmp_path / "again", count, seed=3)
    assert media(tmp_path / "again") == media(tmp_path / "one")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "one" / "whole").iterdir()}
    damaged = [one for one in made if media(tmp_path / "one")[one.name] != whole[one.video]]
    assert len(damaged) >= count - 2  # a false size may find nothing to replace


def faults(*outcomes: RowOutcome, statuses: tuple[int | None, ...] = (0,), peak_bytes: int = 1) -> list[str]:
    record = hostile.BuildRecord(Path("local"), list(statuses), peak_bytes)
    made = [hostile.Hostile(f"{number}.mp4", "h264.mp4", "cut") for number in range(len(outcomes))]
    return list(hostile.faults(record, "local", list(outcomes), made))


def test_typed_outcomes_are_no_fault() -> None:
    rejected = replace(KEPT, row_id="1", status="rejected", stage="decode", reason="undecodable")
    assert faults(KEPT, rejected, statuses=(3,)) == []


@pytest.mark.parametrize("reason", ["error", "timeout", "decode_timeout", "out_of_memory"])
def test_untyped_outcomes_are_faults_also_of_clips(reason: str) -> None:
    failed = ClipOutcome(status="failed", stage="decode", reason=reason, detail="why")
    (found,) = faults(replace(KEPT, clips=(failed,)))
    assert found == f"local: a.mp4: failed decode {reason}: why"


def test_crashes_sizes_and_missing_rows_are_faults() -> None:
    assert faults(KEPT, statuses=(-11, 0))[0].startswith("local: ended with [-11, 0]")
    assert faults(KEPT, statuses=(None,))[0].startswith("local: ended with [None]")
    assert faults(KEPT, peak_bytes=3 << 30) == ["local: a process took 3,221 MB"]
    assert faults(KEPT, KEPT) == ["local: 2 outcomes, not exactly one for each of 2 rows"]
    assert "quarantined" in faults(replace(KEPT, status="quarantined", reason="worker_died"))[0]
