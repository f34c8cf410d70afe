"""Progress of builds and downloads: redrawn in place on a terminal, at most a plain line each half minute elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from time import monotonic
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from posecap.label_stats import LabelStats
from posecap.outcomes import RowOutcome, RowResult, StageOrder, StageStats, alarms, largest_first
from posecap.stage import Stage
from posecap.terminal import duration_text
from posecap.types import PartName

PLAIN_SECONDS = 30.0
"""Shortest time between two plain lines."""
_REDRAW_SECONDS = 0.1
"""Shortest time between two pictures on a terminal."""
_BAR_WIDTH = 24
_SHOWN_REASONS = 4
_MIN_SECONDS_FOR_RATE = 1.0
_MIN_SECONDS_FOR_TRANSFER_RATE = 0.5
"""Before so much time has passed a rate is shown as 0: a division by almost nothing would show any number."""


class _Display:
    """Redraws in place on a terminal; prints plain lines where stderr is no terminal or the environment sets ``CI``.

    Args:
        console: for stderr by default.
        clock: monotonic seconds.
    """

    def __init__(self, console: Console | None, clock: Callable[[], float]) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._clock = clock
        live = self._console.is_terminal and not os.environ.get("CI")
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if live else None
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
        elif not self._live and waited >= PLAIN_SECONDS:
            self._console.print(plain(), soft_wrap=True)
        else:
            return
        self._shown = self._clock()


class Progress(_Display):
    """Counts finished rows and shows them; a context manager around the work.

    An alarm is printed once, after the part in which it first occurs; one plain line is printed at the end.

    Args:
        rows: planned, over the whole dataset.
        rows_before: of those, rows that earlier runs finished; they count as done but not in rates or ETA.
        stages: of the pipeline, in order.
        expected_rejections: see :func:`posecap.outcomes.alarms`.
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
        console: Console | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(console, clock)
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
        self._console.print(self._plain(), soft_wrap=True)

    def row(self, done: RowResult) -> None:
        """Count a finished row. Rows carried over from an earlier run took no time and count in no rate."""
        self.stage_stats.add(done.outcome)
        self.frames += done.frames
        if done.seconds:
            self._executed += 1
            self.clips += sum(clip.status == "kept" for clip in done.outcome.clips)
        self._draw()

    def part(self, name: PartName, labelled: Iterable[tuple[str, RowOutcome]] = ()) -> None:
        """Count a committed part, and print alarms that are new since the last one.

        Args:
            labelled: label and outcome of the part's rows that have a label.
        """
        self.parts += 1
        for label, outcome in labelled:
            self._label_stats.add(label, outcome)
        of_stages = alarms(self.stage_stats.lines(), expected_rejections=self._expected)
        for alarm in (*of_stages, *self._label_stats.alarms(expected_rejections=self._expected)):
            if (alarm.stage, alarm.kind, alarm.label) not in self._printed_alarms:
                self._printed_alarms.add((alarm.stage, alarm.kind, alarm.label))
                text = Text(f"alarm (after {name}): {alarm.sentence}", style="bold yellow")
                self._console.print(text, soft_wrap=True)
        self._draw(force=True)

    def _draw(self, *, force: bool = False) -> None:
        self._show(self._two_lines, self._plain, force=force)

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
        """Estimated from the rows executed in this run; unknown before the first."""
        seconds = self._clock() - self._started
        left = self.rows - self._done
        if left <= 0:
            return f"took {duration_text(seconds)}"
        return f"ETA {duration_text(seconds / self._executed * left)}" if self._executed else "ETA unknown"


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
        line = partial(self._line, received, total)
        self._show(lambda: Text(line(), no_wrap=True, overflow="ellipsis"), line)

    def _line(self, received: int, total: int | None) -> str:
        seconds = self._clock() - self._started
        rate = (received - (self._first or 0)) / seconds if seconds >= _MIN_SECONDS_FOR_TRANSFER_RATE else 0.0
        of_total = f" of {total / 1e6:,.1f} MB ({100 * received / total:.0f} %)" if total else " MB"
        left = f"ETA {duration_text((total - received) / rate)}" if total and rate else "ETA unknown"
        return f"{self._name}  {received / 1e6:,.1f}{of_total}  {rate / 1e6:.1f} MB/s  {left}"
