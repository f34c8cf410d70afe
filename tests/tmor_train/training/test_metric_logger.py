"""Events of a run as lines of JSON, the curves that are drawn from them, and the line of progress; metrics of
embeddings, worked out by hand."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from pathlib import Path

import pytest
import torch

from tmor_train.training.metric_logger import (
    JOURNAL,
    MetricLogger,
    Progress,
    alignment,
    effective_rank,
    neighbours_agree,
    plot,
    read_events,
    step_metrics,
    uniformity,
)


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


def test_effective_rank_counts_directions() -> None:
    square = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert effective_rank(square) == pytest.approx(2.0)
    assert effective_rank(square * torch.tensor([1.0, 0, 0])) == pytest.approx(1.0)
    # Singular values 3 and 1: exp(-(0.75 log 0.75 + 0.25 log 0.25)).
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert effective_rank(square * torch.tensor([3.0, 1, 1])) == pytest.approx(expected)


def test_embeddings_that_are_all_the_same_have_no_direction() -> None:
    assert effective_rank(torch.full((8, 4), 0.3)) == 0.0
    assert effective_rank(torch.full((8, 4), 0.3) + 1e-8 * torch.randn(8, 4)) == 0.0


def test_alignment_is_the_squared_distance_on_the_sphere() -> None:
    one = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert alignment(one, 5 * one) == 0.0
    assert alignment(one, -one) == pytest.approx(4.0)
    assert alignment(one, one.flip(1)) == pytest.approx(2.0)


def test_uniformity_is_low_where_embeddings_spread() -> None:
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0.0, abs=1e-5)
    # A pair of opposites is 2 apart: log exp(-2 * 4).
    assert uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8.0)
    assert uniformity(torch.ones(1, 3)) == 0.0


def test_neighbours_with_the_same_label() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [1.0, 0.2]])
    assert neighbours_agree(embeddings, torch.tensor([0, 0, 1, 1, -1])) == 1.0
    # The second and the fifth are each other's nearest, and their labels differ.
    assert neighbours_agree(embeddings, torch.tensor([0, 0, 1, 1, 1])) == pytest.approx(0.6)
    assert neighbours_agree(embeddings, torch.tensor([-1, -1, -1, -1, 3])) is None


def test_a_step_is_watched_without_its_graph() -> None:
    features = torch.randn(6, 4, requires_grad=True)
    figures = step_metrics(features, features.detach())
    assert figures["alignment"] == pytest.approx(0.0, abs=1e-6)
    assert 1 <= figures["rank"] <= 4
    assert figures["uniformity"] < 0
