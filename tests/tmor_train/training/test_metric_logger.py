"""Events of a run as lines of JSON, and the curves that are drawn from them."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from tmor_train.training.metric_logger import NAME, MetricLogger, plot, read_events


def test_lines_are_json_and_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    with MetricLogger(tmp_path / "run") as logger:
        logger.log("step", 3, {"loss": 0.5, "norm": math.nan, "clusters": 2})
    (line,) = [json.loads(text) for text in (tmp_path / "run" / NAME).read_text().splitlines()]
    assert line.pop("seconds") > 0
    assert line == {"event": "step", "step": 3, "loss": 0.5, "norm": None, "clusters": 2}


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    with MetricLogger(tmp_path) as logger:
        logger.log("step", 1, {})
    with (tmp_path / NAME).open("a") as file:
        file.write('{"event": "st')
    with MetricLogger(tmp_path) as logger:
        logger.log("resume", 1, {})
        logger.log("step", 2, {})
    assert [line["step"] for line in read_events(tmp_path, "step")] == [1, 2]
    assert [line["event"] for line in read_events(tmp_path, "step", "resume")] == ["step", "resume", "step"]


@pytest.mark.parametrize(
    "line",
    [
        b"5",
        b"[1]",
        b"null",
        b'{"step": 1}',
        b'{"event": "step"}',
        b'{"event": "step", "step": "1"}',
        b"\xff",
        pytest.param(b"9" * 5000, id="long number"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_what_is_no_line_of_a_journal_is_skipped(tmp_path: Path, line: bytes) -> None:
    with MetricLogger(tmp_path) as logger:
        logger.log("step", 1, {})
    with (tmp_path / NAME).open("ab") as file:
        file.write(line + b"\n")
    assert [line["step"] for line in read_events(tmp_path, "step")] == [1]


def test_who_does_not_lead_writes_nothing(tmp_path: Path) -> None:
    with MetricLogger(None) as logger:
        logger.log("step", 1, {})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with MetricLogger(tmp_path) as logger:
        for step in (1, 2, 3):
            logger.log("step", step, {"loss": 1.0 / step, "mm/loss": 0.5})
        logger.log("epoch", 3, {"rank": 4.0, "neighbours_agree": None})
    return tmp_path


def test_a_picture_for_what_was_logged(run: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot(run) == f"plots: {run / 'plots'}"
    pictures = sorted(path.name for path in (run / "plots").iterdir())
    assert pictures == ["embeddings.png", "loss.png"]  # no clusters were logged
    assert (run / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_line_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'posecap[train]'" in plot(run)
    assert not (run / "plots").exists()
