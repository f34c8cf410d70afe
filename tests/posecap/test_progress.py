import io
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from posecap.engines.pyav import PyAV
from posecap.metrics import ROWS_DONE, BuildMetrics
from posecap.outcomes import ClipOutcome, RowOutcome, RowResult
from posecap.progress import DownloadProgress, Progress
from posecap.run.execute import ItemResult
from posecap.run.pool import Finished, Load, Task
from posecap.stage import Resources
from posecap.stages.decode import Decode, Split
from posecap.stages.pack import Pack
from posecap.types import PartName

STAGES = (Split(), Decode(prober=PyAV(), decoders=(PyAV(),)), Pack())


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Shown:
    """A progress, its clock and what it wrote."""

    clock: Clock = field(default_factory=Clock)
    text: io.StringIO = field(default_factory=io.StringIO)

    def progress(self, *, terminal: bool = False, **settings: Any) -> Progress:
        console = Console(file=self.text, force_terminal=terminal, width=120, color_system=None, highlight=False)
        shape = settings.pop("shape", "auto" if terminal else "plain")
        return Progress(console=console, clock=self.clock, stages=STAGES, shape=shape, **settings)

    @property
    def lines(self) -> list[str]:
        return self.text.getvalue().splitlines()


def kept(clips: int = 1, frames: int = 50) -> RowResult:
    outcome = RowOutcome(row_id="r", uri="u", status="kept", clips=(ClipOutcome(status="kept"),) * clips)
    return RowResult(outcome, seconds={"decode": 1.0}, frames=frames, node="here")


def rejected(reason: str, stage: str = "split") -> RowResult:
    return RowResult(
        RowOutcome(row_id="r", uri="u", status="rejected", stage=stage, reason=reason),
        seconds={stage: 0.1},
        node="here",
    )


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    monkeypatch.delenv("CI", raising=False)
    return Shown()


def test_a_plain_line_comes_every_half_minute_at_most_and_one_at_the_end(shown: Shown):
    with shown.progress(rows=12) as progress:
        for _ in range(10):
            shown.clock.now += 10
            progress.row(kept(clips=2))
        assert shown.lines == [
            "3/12 rows (25 %); 0.2 clips/s, 5 frames/s; 6 clips kept; ETA 1:30",
            "6/12 rows (50 %); 0.2 clips/s, 5 frames/s; 12 clips kept; ETA 1:00",
            "9/12 rows (75 %); 0.2 clips/s, 5 frames/s; 18 clips kept; ETA 0:30",
        ]
        progress.row(rejected("too_short"))
        progress.row(rejected("not_found"))
    assert shown.lines[-1] == (
        "12/12 rows (100 %); 0.2 clips/s, 5 frames/s; 20 clips kept, 2 not: not_found 1, too_short 1; took 1:40"
    )
    assert len(shown.lines) == 4


def test_rows_of_earlier_runs_count_as_done_and_not_in_the_rates(shown: Shown):
    with shown.progress(rows=1000, rows_before=900) as progress:
        shown.clock.now += 40
        progress.row(replace(kept(), node=""))  # of an earlier run
        progress.row(kept())
        assert (progress.clips, progress.frames) == (1, 50)
    assert shown.lines[0] == "901/1,000 rows (90 %); 0.0 clips/s, 0 frames/s; 1 clip kept; ETA unknown"
    assert shown.lines[-1] == "902/1,000 rows (90 %); 0.0 clips/s, 1 frames/s; 2 clips kept; ETA 1:05:20"


def test_ci_gets_json_lines_even_on_a_terminal(shown: Shown, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CI", "true")
    with shown.progress(rows=2, terminal=True) as progress:
        progress.row(kept())
        progress.row(kept())
    (line,) = shown.lines
    assert json.loads(line)["rows"]["kept"] == 2


def test_json_lines_say_counts_rates_and_what_is_left(shown: Shown):
    segments = [("download", Resources(cpus=0)), ("decode", Resources(gpus=0.5))]
    metrics = BuildMetrics(dataset="d", segments=segments, clock=shown.clock)
    with shown.progress(rows=1000, rows_before=900, shape="json", metrics=metrics) as progress:
        shown.clock.now += 40
        done = ItemResult(seconds={"decode": 3.0}, engine_seconds={("decode", "pyav"): 2.5})
        finished = Finished(Task(PartName("train", 0), 0, (0, 0), 1, None), "a/1", done)
        metrics.finished(finished, lambda: [0, 3], lambda: [Load("a/1", 1, 2, 2, 3, 2)])
        progress.row(replace(kept(clips=2, frames=80), bytes_read=4000, node="a/1"))
        progress.row(rejected("too_short"))
        progress.part(PartName("train", 0))
    first, last = map(json.loads, shown.lines)
    assert (first.pop("event"), last["event"]) == ("progress", "end")
    assert datetime.fromisoformat(first.pop("time")).tzinfo is UTC
    assert first == {
        "seconds": 40.0,
        "rows": {"planned": 1000, "done": 901, "before": 900, "kept": 1, "rejected": 0, "failed": 0, "quarantined": 0},
        "clips": {"kept": 2, "rejected": 0, "failed": 0},
        "reasons": {},
        "frames": 80,
        "parts": 0,
        "rates": {
            "rows_per_second": 0.025,
            "clips_per_second": 0.05,
            "frames_per_second": 2.0,
            "video_bytes_per_second": 100.0,
        },
        "eta_seconds": 3960.0,
        "gpu_share": 0.0375,
        "bytes": {"video": 4000, "written": 0},
        "stage_seconds": {"decode": 3.0},
        "engine_seconds": {"decode/pyav": 2.5},
        "worker_losses": {},
        "queues": {"download": 0, "decode": 3},
        "nodes": {"a/1": {"used": 1, "rows": 1, "clips": 2, "frames": 80, "video_bytes": 4000, "slots": 2, "busy": 2}},
    }
    assert (last["rows"]["done"], last["reasons"], last["parts"]) == (902, {"too_short": 1}, 1)
    assert metrics.by(ROWS_DONE) == {"": 902.0}


def test_an_alarm_is_a_json_line_of_its_own(shown: Shown):
    with shown.progress(rows=60, expected_rejections={"split": 0.5}, shape="json") as progress:
        for _ in range(20):
            progress.row(rejected("bad_span"))
        progress.part(PartName("train", 3))
    alarm, end = map(json.loads, shown.lines)
    assert (alarm["event"], alarm["after"], alarm["stage"], alarm["share"]) == ("alarm", "train/00003", "split", 1.0)
    assert end["event"] == "end"


def test_without_progress_only_alarms_are_printed(shown: Shown):
    with shown.progress(rows=20, shape="none") as progress:
        for _ in range(20):
            shown.clock.now += 60
            progress.row(rejected("bad_span"))
        progress.part(PartName("train", 0))
    (alarm,) = shown.lines
    assert alarm.startswith("alarm (after train/00000): split rejected 100 %")


def test_no_color_has_no_colours(shown: Shown, monkeypatch: pytest.MonkeyPatch):
    def drawn() -> str:
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, width=120)
        with Progress(rows=2, stages=STAGES, shape="bar", console=console) as progress:
            progress.row(kept())
        return out.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    grey = "\x1b[90m"
    assert grey in drawn()
    monkeypatch.setenv("NO_COLOR", "1")
    assert grey not in drawn()


def test_a_terminal_has_two_lines_redrawn_in_place(shown: Shown):
    with shown.progress(rows=4, terminal=True) as progress:
        shown.clock.now += 5
        progress.row(kept())
        progress.row(rejected("too_short"))
        shown.clock.now += 5
        progress.row(kept())
        written = shown.text.getvalue()
    assert "\x1b[1A" in written, "the cursor goes up, so that lines are drawn over"
    assert "━" * 24 + " 3/4 rows (75 %)  0.2 clips/s, 10 frames/s  ETA 0:03" in written
    assert "2 clips kept, 1 not: too_short 1" in written


def test_an_alarm_is_printed_once(shown: Shown):
    with shown.progress(rows=60, expected_rejections={"split": 0.5}) as progress:
        for part in range(3):
            for _ in range(20):
                progress.row(rejected("bad_span"))
            progress.part(PartName("train", part))
    alarms = [line for line in shown.lines if line.startswith("alarm")]
    assert alarms == [
        "alarm (after train/00000): split rejected 100 % of 20 rows (expected at most 50 %): most often bad_span; "
        "is the threshold right?"
    ]
    assert progress.parts == 3


def test_an_alarm_on_a_label_is_printed_once_as_well(shown: Shown):
    lost = ClipOutcome(status="rejected", stage="track", reason="no_person_found")
    jump = RowOutcome(row_id="r", uri="u", status="rejected", stage="track", reason="no_person_found", clips=(lost,))
    labelled = [("jump", jump)] * 10 + [("run", kept().outcome)] * 90
    with shown.progress(rows=200) as progress:
        progress.part(PartName("train", 0), labelled)
        progress.part(PartName("train", 1), labelled)
    (alarm,) = (line for line in shown.lines if line.startswith("alarm"))
    assert alarm.startswith("alarm (after train/00000): label 'jump': 100 % of 10 rows were rejected after decoding")


def test_only_the_commonest_reasons_are_spelled_out(shown: Shown):
    with shown.progress(rows=7) as progress:
        for reason in ("a", "b", "c", "d", "e", "e", "f"):
            progress.row(rejected(reason))
    assert "0 clips kept, 7 not: e 2, a 1, b 1, c 1, others 2" in shown.lines[-1]


def test_an_error_ends_the_display_and_goes_on_up(shown: Shown):
    def work() -> None:
        with shown.progress(rows=3, terminal=True) as progress:
            progress.row(kept())
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        work()
    assert "1/3 rows (33 %)" in shown.lines[-1]


def test_nothing_planned_is_no_division_by_zero(shown: Shown):
    with shown.progress(rows=0):
        pass
    assert shown.lines == ["0/0 rows (100 %); 0.0 clips/s, 0 frames/s; 0 clips kept; took 0:00"]


@pytest.fixture
def clock() -> Clock:
    return Clock(now=0.0)


def plain(clock: Clock) -> tuple[io.StringIO, DownloadProgress]:
    out = io.StringIO()
    return out, DownloadProgress("net", console=Console(file=out), clock=clock)


def test_a_plain_line_every_half_minute(clock: Clock) -> None:
    out, progress = plain(clock)
    with progress:
        for second in range(0, 61, 10):
            clock.now = second
            progress.update(second * 1_000_000, 120_000_000)
    assert out.getvalue().splitlines() == [
        "net  30.0 of 120.0 MB (25 %)  1.0 MB/s  ETA 1:30",
        "net  60.0 of 120.0 MB (50 %)  1.0 MB/s  ETA 1:00",
    ]


def test_bytes_of_an_earlier_run_are_in_no_rate(clock: Clock) -> None:
    out, progress = plain(clock)
    progress.update(90_000_000, 120_000_000)
    clock.now = 30
    progress.update(105_000_000, 120_000_000)
    assert out.getvalue() == "net  105.0 of 120.0 MB (88 %)  0.5 MB/s  ETA 0:30\n"


def test_a_start_over_starts_the_rate_over(clock: Clock) -> None:
    out, progress = plain(clock)
    progress.update(90_000_000, None)
    clock.now = 20
    progress.update(0, None)
    clock.now = 40
    progress.update(20_000_000, None)
    assert out.getvalue() == "net  20.0 MB  1.0 MB/s  ETA unknown\n"


def test_a_terminal_shows_one_line_and_clears_it(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    with DownloadProgress("net", console=console, clock=clock) as progress:
        progress.update(0, 10_000_000)
        clock.now = 2
        progress.update(5_000_000, 10_000_000)
    assert "net  5.0 of 10.0 MB (50 %)  2.5 MB/s  ETA 0:02" in out.getvalue()
