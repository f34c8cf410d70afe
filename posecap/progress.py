"""Progress of builds and downloads: redrawn in place on a terminal, at most a line each half minute elsewhere.

A line of a build is a JSON object, or words for people if that is asked for; one of a download is in words.
:meth:`Progress.as_json` says what is in it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any, Literal, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from posecap.metrics import GPU_RESERVED_SECONDS, GPU_SECONDS, VIDEO_BYTES, BuildMetrics, snapshot
from posecap.outcomes import STATUSES, LabelStats, RowOutcome, RowResult, StageOrder, StageStats, alarms, largest_first
from posecap.stage import Stage
from posecap.terminal import duration_text
from posecap.types import PartName

Shape = Literal["auto", "bar", "plain", "json", "none"]
"""How progress is shown: two lines that are redrawn, lines of words, JSON lines, or not at all. ``auto`` is ``bar`` on
a terminal where the environment does not set ``CI``, and ``json`` elsewhere."""

PLAIN_SECONDS = 30.0
"""Shortest time between two lines that stay."""
_REDRAW_SECONDS = 0.1
"""Shortest time between two pictures on a terminal."""
_BAR_WIDTH, _SHOWN_REASONS = 24, 4
"""Characters of the bar, and reasons that are named beside it: with the other words they fit a terminal of some hundred
columns. These and the seconds above are our choices."""
_MIN_SECONDS_FOR_RATE = 1.0
_MIN_SECONDS_FOR_TRANSFER_RATE = 0.5
"""Before so much time has passed a rate is shown as 0: a division by almost nothing would show any number."""


class _Display:
    """Redraws in place on a terminal, or prints lines.

    Args:
        console: for stderr by default.
        clock: monotonic seconds.
        shape: how; None redraws on a terminal, and prints lines where stderr is none or the environment sets ``CI``.
    """

    def __init__(self, console: Console | None, clock: Callable[[], float], shape: Shape | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._clock = clock
        is_live = self._console.is_terminal and not os.environ.get("CI")
        if shape in (None, "auto"):
            shape = "bar" if is_live else "plain" if shape is None else "json"
        self._shape = shape
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if shape == "bar" else None
        self._started = self._shown = clock()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def _show(self, live: Callable[[], Text], plain: Callable[[], str], *, force: bool = False) -> None:
        """Redraw or print if enough time has passed; ``force`` redraws a terminal in any case."""
        waited = self._clock() - self._shown
        if self._live and (force or waited >= _REDRAW_SECONDS):
            self._live.update(live(), refresh=True)
        elif self._shape != "none" and not self._live and waited >= PLAIN_SECONDS:
            self._line(plain())
        else:
            return
        self._shown = self._clock()

    def _line(self, text: str) -> None:
        """Print a line as it is, without colours."""
        self._console.print(Text(text), soft_wrap=True)


class Progress(_Display):
    """Counts finished rows and shows them; a context manager around the work.

    An alarm is printed once, after the part in which it first occurs, whatever the shape; one line is printed at the
    end, unless the shape is ``none``.

    Args:
        rows: planned, over the whole dataset.
        rows_before: of those, rows that earlier runs finished; they count as done but not in rates or ETA.
        stages: of the pipeline, in order.
        expected_rejections: see :func:`posecap.outcomes.alarms`.
        metrics: of the build, whose seconds, bytes, queues and nodes are in JSON lines; rows and parts are entered in
            it. None for none.
        shape: how progress is shown.
        console: for stderr by default.
        clock: monotonic seconds.

    ``clips``, ``frames`` and ``parts`` count what this run kept, decoded and committed.
    """

    def __init__(
        self,
        *,
        rows: int,
        rows_before: int = 0,
        stages: Iterable[Stage],
        expected_rejections: Mapping[str, float] | None = None,
        metrics: BuildMetrics | None = None,
        shape: Shape = "auto",
        console: Console | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(console, clock, shape)
        self._metrics = metrics or BuildMetrics(dataset="")
        self._metrics.rows_done(rows_before, rows)
        self.rows, self.rows_before = rows, rows_before
        self.stage_stats = StageStats(StageOrder.of(stages))
        self.clips = self.frames = self.parts = 0
        self._executed = 0
        self._expected = expected_rejections
        self._label_stats = LabelStats()
        self._printed_alarms: set[tuple[str, str, str | None]] = set()

    def __enter__(self) -> Self:
        super().__enter__()
        self._started = self._shown = self._clock()
        self._draw(force=True)
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._shape == "json":
            self._line(self._json("end"))
        elif self._shape != "none":
            self._line(self._plain())

    def row(self, done: RowResult) -> None:
        """Count a finished row. Rows carried over from an earlier run took no time and count in no rate."""
        self.stage_stats.add(done.outcome)
        self._metrics.row(done)
        self._metrics.rows_done(self._done, self.rows)
        if done.node:
            self._executed += 1
            self.frames += done.frames
            self.clips += sum(clip.status == "kept" for clip in done.outcome.clips)
        self._draw()

    def part(self, name: PartName, labelled: Iterable[tuple[str, RowOutcome]] = ()) -> None:
        """Count a committed part, and print alarms that are new since the last one.

        Args:
            labelled: label and outcome of the part's rows that have a label.
        """
        self.parts += 1
        self._metrics.part()
        for label, outcome in labelled:
            self._label_stats.add(label, outcome)
        of_stages = alarms(self.stage_stats.lines(), expected_rejections=self._expected)
        for alarm in (*of_stages, *self._label_stats.alarms(expected_rejections=self._expected)):
            if (alarm.stage, alarm.kind, alarm.label) not in self._printed_alarms:
                self._printed_alarms.add((alarm.stage, alarm.kind, alarm.label))
                if self._shape == "json":
                    self._line(_dumped({"event": "alarm", "time": _now(), "after": str(name), **alarm.as_json()}))
                else:
                    text = Text(f"alarm (after {name}): {alarm.sentence}", style="bold yellow")
                    self._console.print(text, soft_wrap=True)
        self._draw(force=True)

    def _draw(self, *, force: bool = False) -> None:
        line = partial(self._json, "progress") if self._shape == "json" else self._plain
        self._show(self._two_lines, line, force=force)

    def as_json(self) -> dict[str, Any]:
        """What a JSON line says beside ``event`` (``progress``, or ``end`` for the last line) and ``time`` (UTC).

        Counts are of this run, but for ``planned``, ``done`` and ``before``, which are rows of the whole dataset:
        ``done`` are those with an outcome, ``before`` of them those in parts of earlier runs.

        ``{"seconds", "rows": {"planned", "done", "before", outcome: rows}, "clips": {outcome: clips}, "reasons":
        {reason: clips, and rows without clips, that were not kept}, "frames", "parts", "rates": {"rows_per_second",
        "clips_per_second", "frames_per_second", "video_bytes_per_second"}, "eta_seconds", "gpu_share", "bytes":
        {"video", "written"}, "stage_seconds": {stage: seconds}, "engine_seconds": {"stage/engine": seconds},
        "worker_losses": {reason: workers}, "queues": {segment: items}, "nodes": {node: {"used", "rows", "clips",
        "frames", "video_bytes", "slots", "busy"}}}``

        ``seconds`` is since the workers were ready. ``eta_seconds`` is null until a row was executed, and 0 at the end.
        ``gpu_share`` is the share of the GPU time that workers reserved in which they had an item; null where the
        pipeline reserves none.
        """
        tally, seconds = self.stage_stats.tally, self._clock() - self._started
        counts = tally.as_json()
        rows = {"planned": self.rows, "done": self._done, "before": self.rows_before}
        per_second = {
            "rows": self._executed,
            "clips": self.clips,
            "frames": self.frames,
            "video_bytes": self._metrics.total(VIDEO_BYTES),
        }
        is_measured = seconds >= _MIN_SECONDS_FOR_RATE
        left = self._seconds_left()
        reserved = self._metrics.total(GPU_RESERVED_SECONDS)
        share = self._metrics.total(GPU_SECONDS) / reserved if reserved else None
        return {
            "seconds": round(seconds, 3),
            "rows": {**rows, **{status: counts["rows"][status] for status in STATUSES}},
            "clips": {status: counts["clips"][status] for status in STATUSES if status != "quarantined"},
            "reasons": counts["reasons"],
            "frames": self.frames,
            "parts": self.parts,
            "rates": {
                f"{what}_per_second": round(count / seconds, 3) if is_measured else 0.0
                for what, count in per_second.items()
            },
            "eta_seconds": None if left is None else round(left, 1),
            "gpu_share": None if share is None else round(min(share, 1.0), 4),
            **snapshot(self._metrics),
        }

    def _json(self, event: str) -> str:
        return _dumped({"event": event, "time": _now(), **self.as_json()})

    @property
    def _done(self) -> int:
        return self.rows_before + self.stage_stats.tally.rows.total()

    def _two_lines(self) -> Text:
        filled = round(_BAR_WIDTH * (self._done / self.rows if self.rows else 1.0))
        bar = Text("━" * filled, style="green") + Text("━" * (_BAR_WIDTH - filled), style="bright_black")
        first = Text.assemble(bar, f" {self._row_count()}  {self._rates()}  {self._time_left()}")
        second = Text(self._outcomes(), style="dim")
        for line in (first, second):
            line.truncate(self._console.width, overflow="ellipsis")
        return Text("\n").join((first, second))

    def _plain(self) -> str:
        return "; ".join((self._row_count(), self._rates(), self._outcomes(), self._time_left()))

    def _row_count(self) -> str:
        return f"{self._done:,}/{self.rows:,} rows ({100 * self._done / self.rows if self.rows else 100:.0f} %)"

    def _rates(self) -> str:
        seconds = self._clock() - self._started
        if seconds < _MIN_SECONDS_FOR_RATE:
            return "0.0 clips/s, 0 frames/s"
        return f"{self.clips / seconds:.1f} clips/s, {self.frames / seconds:.0f} frames/s"

    def _outcomes(self) -> str:
        """Clips kept, and reasons of those that were not, the commonest first."""
        tally = self.stage_stats.tally
        clips = tally.clips["kept"]
        kept = "1 clip kept" if clips == 1 else f"{clips:,} clips kept"
        if not tally.reasons:
            return kept
        by_count = [*largest_first(tally.reasons).items()]
        words = ", ".join(f"{reason} {count:,}" for reason, count in by_count[:_SHOWN_REASONS])
        others = sum(count for _, count in by_count[_SHOWN_REASONS:])
        return f"{kept}, {tally.reasons.total():,} not: {words}" + (f", others {others:,}" if others else "")

    def _time_left(self) -> str:
        left = self._seconds_left()
        if left == 0:
            return f"took {duration_text(self._clock() - self._started)}"
        return "ETA unknown" if left is None else f"ETA {duration_text(left)}"

    def _seconds_left(self) -> float | None:
        """Estimated from the rows executed in this run; None before the first, 0 when all are done."""
        left = self.rows - self._done
        if left <= 0:
            return 0.0
        return (self._clock() - self._started) / self._executed * left if self._executed else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _dumped(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


class DownloadProgress(_Display):
    """Shows received bytes with rate and ETA; a context manager around the work, silent while nothing arrives.

    Bytes that an earlier run downloaded count as received but not in the rate.

    Args:
        name: of what is downloaded.
        console: for stderr by default.
        clock: monotonic seconds.
    """

    def __init__(self, name: str, *, console: Console | None = None, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(console, clock)
        self._name = name
        self._first: int | None = None

    def update(self, received: int, total: int | None) -> None:
        """Show that ``received`` bytes of ``total`` have arrived; None where the total is not known."""
        if self._first is None or received < self._first:
            self._first, self._started = received, self._clock()
        line = partial(self._received, received, total)
        self._show(lambda: Text(line(), no_wrap=True, overflow="ellipsis"), line)

    def _received(self, received: int, total: int | None) -> str:
        seconds = self._clock() - self._started
        rate = (received - (self._first or 0)) / seconds if seconds >= _MIN_SECONDS_FOR_TRANSFER_RATE else 0.0
        of_total = f" of {total / 1e6:,.1f} MB ({100 * received / total:.0f} %)" if total else " MB"
        left = f"ETA {duration_text((total - received) / rate)}" if total and rate else "ETA unknown"
        return f"{self._name}  {received / 1e6:,.1f}{of_total}  {rate / 1e6:.1f} MB/s  {left}"
