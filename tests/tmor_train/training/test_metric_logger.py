"""Events of a run as lines of JSON, the curves that are drawn from them, and the line of progress."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from pathlib import Path

import pytest

from tmor_train.training.metric_logger import JOURNAL, MetricLogger, Progress, plot, read_events


def test_lines_are_json_and_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    with MetricLogger(tmp_path / "run") as logger:
        logger.log("step", 3, {"loss": 0.5, "norm": math.nan, "clusters": 2})
    (line,) = [json.loads(text) for text in (tmp_path / "run" / JOURNAL).read_text().splitlines()]
    assert line.pop("seconds") > 0
    assert line == {"event": "step", "step": 3, "loss": 0.5, "norm": None, "clusters": 2}


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    with MetricLogger(tmp_path) as logger:
        logger.log("step", 1, {})
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"event": "st')
    with MetricLogger(tmp_path) as logger:
        logger.log("resume", 1, {})
        logger.log("step", 2, {})
    assert [line["step"] for line in read_events(tmp_path, "step")] == [1, 2]
    assert [line["event"] for line in read_events(tmp_path, "step", "resume")] == ["step", "resume", "step"]


def test_of_a_journal_that_goes_on_only_the_last_byte_is_read(tmp_path: Path) -> None:
    with (tmp_path / JOURNAL).open("w") as file:
        file.truncate(1 << 33)  # 8 GiB that take no room on disk
        file.seek(0, os.SEEK_END)
        file.write("\n")
    with MetricLogger(tmp_path) as logger:
        logger.log("resume", 1, {})
    assert (tmp_path / JOURNAL).stat().st_size < (1 << 33) + 200


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
    with (tmp_path / JOURNAL).open("ab") as file:
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


def test_a_line_says_rate_waiting_and_time_left() -> None:
    now, out = [100.0], io.StringIO()
    progress = Progress(steps=110, done=10, out=out, clock=lambda: now[0])
    now[0] += 40
    progress.step(clips=800, waited=2.0, words="epoch 1/2  loss 0.5000")
    assert out.getvalue() == "epoch 1/2  loss 0.5000  step 11/110  20 samples/s  data 5.0 %  ETA 1:06:00\n"
    now[0] += 10
    progress.step(clips=200, waited=0.0, words="quiet")  # no terminal: a line each half minute
    assert "quiet" not in out.getvalue()


def test_a_low_rate_has_a_decimal() -> None:
    now, out = [0.0], io.StringIO()
    progress = Progress(steps=10, out=out, clock=lambda: now[0])
    now[0] += 40
    progress.step(clips=30, waited=0.0, words="")
    assert "  0.8 samples/s  " in out.getvalue()


def test_time_aside_counts_in_no_rate() -> None:
    now = [0.0]
    progress = Progress(steps=2, out=io.StringIO(), clock=lambda: now[0])
    now[0] = 10.0
    progress.step(clips=100, waited=5.0, words="")
    progress.aside(6.0)
    assert progress.metrics() == {"samples_per_second": 25.0, "data_wait": 1.0}
