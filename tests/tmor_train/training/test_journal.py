"""The journal outlives a process that is killed while it writes."""

import json
import math
from pathlib import Path

from tmor_train.training.journal import NAME, Journal, Silent, read


def test_lines_are_json_and_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    with Journal(tmp_path / "run") as journal:
        journal.tell("step", 3, {"loss": 0.5, "norm": math.nan, "clusters": 2})
    (line,) = [json.loads(text) for text in (tmp_path / "run" / NAME).read_text().splitlines()]
    assert line.pop("seconds") > 0
    assert line == {"event": "step", "step": 3, "loss": 0.5, "norm": None, "clusters": 2}


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.tell("step", 1, {})
    with (tmp_path / NAME).open("a") as file:
        file.write('{"event": "st')
    with Journal(tmp_path) as journal:
        journal.tell("resume", 1, {})
        journal.tell("step", 2, {})
    assert [line["step"] for line in read(tmp_path, "step")] == [1, 2]
    assert [line["event"] for line in read(tmp_path, "step", "resume")] == ["step", "resume", "step"]


def test_who_does_not_lead_writes_nothing(tmp_path: Path) -> None:
    with Silent() as journal:
        journal.tell("step", 1, {})
    assert not list(tmp_path.iterdir())
