"""How a build is getting on: two lines on a terminal, a plain line every half minute elsewhere."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from posecap.stage import Stage
from posecap.status.outcome import RowOutcome
from posecap.status.stage_stats import Alarm, StageOrder, StageStats, alarms
from posecap.types import PartName

PLAIN_SECONDS = 30.0
"""Least time between two plain lines."""
_BAR = 24
_REASONS = 4
_LEAST_SHOWN_SECONDS = 1.0


class DoneRow(Protocol):
    """What is needed of a finished row."""

    @property
    def outcome(self) -> RowOutcome: ...

    @property
    def frames(self) -> int: ...

    @property
    def seconds(self) -> Mapping[str, float]: ...


class Progress:
    """Counts finished rows and shows them; a context manager around the work.

    On a terminal the display is redrawn in place. Where stderr is no terminal, or the environment sets ``CI``, a plain
    line is printed as rows finish, at most every :data:`PLAIN_SECONDS`, and one at the end. An alarm is printed once,
    when it first rings.

    Args:
        rows: planned, over the whole dataset.
        rows_before: of those, rows that earlier runs finished; they count as done and not in rates or ETA.
        stages: the pipeline's, in order.
        expected_refusals: see :func:`posecap.status.stage_stats.alarms`.
        console: for stderr by default.
        clock: seconds, ever rising.

    ``clips``, ``frames`` and ``parts`` are what this run kept, decoded and committed.
    """

    def __init__(
        self,
        *,
        rows: int,
        rows_before: int = 0,
        stages: Iterable[Stage],
        expected_refusals: Mapping[str, float] | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.rows, self.rows_before = rows, rows_before
        self.stage_stats = StageStats(StageOrder.of(stages))
        self.clips = self.frames = self.parts = 0
        self._walked = 0
        self._expected = expected_refusals
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._clock = clock
        self._started = self._spoken = clock()
        self._rung: set[tuple[str, str]] = set()
        live = self._console.is_terminal and not os.environ.get("CI")
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if live else None

    def __enter__(self) -> Self:
        self._started = self._spoken = self._clock()
        if self._live:
            self._live.start()
            self._draw(force=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        self._console.print(self._plain(), soft_wrap=True)

    def row(self, done: DoneRow) -> None:
        """A row has its fate. Rows carried over from an earlier run cost no time and count in no rate."""
        self.stage_stats.add(done.outcome)
        self.frames += done.frames
        if done.seconds:
            self._walked += 1
            self.clips += sum(clip.status == "kept" for clip in done.outcome.clips)
        self._draw()

    def part(self, name: PartName) -> None:
        """A part is committed: a good moment to look for alarms."""
        self.parts += 1
        for alarm in alarms(self.stage_stats.lines(), expected_refusals=self._expected):
            self._ring(alarm, name)
        self._draw(force=True)

    def _ring(self, alarm: Alarm, name: PartName) -> None:
        if (alarm.stage, alarm.kind) not in self._rung:
            self._rung.add((alarm.stage, alarm.kind))
            self._console.print(Text(f"alarm (after {name}): {alarm.sentence}", style="bold yellow"), soft_wrap=True)

    def _draw(self, *, force: bool = False) -> None:
        now = self._clock()
        if self._live:
            if force or now - self._spoken >= 0.1:
                self._spoken = now
                self._live.update(self._two_lines(), refresh=True)
        elif now - self._spoken >= PLAIN_SECONDS:
            self._spoken = now
            self._console.print(self._plain(), soft_wrap=True)

    @property
    def _done(self) -> int:
        return self.rows_before + self.stage_stats.tally.rows.total()

    def _two_lines(self) -> Text:
        share = self._done / self.rows if self.rows else 1.0
        filled = round(_BAR * share)
        bar = Text("━" * filled, style="green") + Text("━" * (_BAR - filled), style="bright_black")
        first = Text.assemble(bar, f" {self._rows()}  {self._rates()}  {self._left()}")
        second = Text(f"{self._fates()}", style="dim")
        for line in (first, second):
            line.truncate(self._console.width, overflow="ellipsis")
        return Text("\n").join((first, second))

    def _plain(self) -> str:
        return "; ".join((self._rows(), self._rates(), self._fates(), self._left()))

    def _rows(self) -> str:
        return f"{self._done:,}/{self.rows:,} rows ({100 * self._done / self.rows if self.rows else 100:.0f} %)"

    def _rates(self) -> str:
        seconds = self._clock() - self._started
        if seconds < _LEAST_SHOWN_SECONDS:
            return "0.0 clips/s, 0 frames/s"
        return f"{self.clips / seconds:.1f} clips/s, {self.frames / seconds:.0f} frames/s"

    def _fates(self) -> str:
        tally = self.stage_stats.tally
        clips = tally.clips["kept"]
        kept = "1 clip kept" if clips == 1 else f"{clips:,} clips kept"
        reasons: Counter[str] = Counter(tally.reasons)
        if not reasons:
            return kept
        shown = sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0]))
        words = ", ".join(f"{reason} {count:,}" for reason, count in shown[:_REASONS])
        others = sum(count for _, count in shown[_REASONS:])
        return f"{kept}, {reasons.total():,} not: {words}" + (f", others {others:,}" if others else "")

    def _left(self) -> str:
        """Time left by the rows that were worked on in this run; unknown before the first."""
        seconds = self._clock() - self._started
        left = self.rows - self._done
        if left <= 0:
            return f"took {clock_words(seconds)}"
        if not self._walked:
            return "ETA unknown"
        return f"ETA {clock_words(seconds / self._walked * left)}"


def clock_words(seconds: float) -> str:
    """A stretch of time as a person reads it: ``0:07``, ``1:02:03``, ``2 d 5 h``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


# How a download is getting on: a line with rate and ETA on a terminal, a plain line every half minute elsewhere.


_REDRAW_SECONDS = 0.1
_LEAST_MEASURED_SECONDS = 0.5


class Meter:
    """Shows bytes as they come; a context manager around the work, silent while nothing comes.

    The rate is that of this run: bytes that an earlier run left count as here, and in no rate.

    Args:
        name: of what comes.
        console: for stderr by default.
        clock: seconds, ever rising.
    """

    def __init__(self, name: str, *, console: Console | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._name, self._clock = name, clock
        self._console = console or Console(file=sys.stderr, highlight=False)
        live = self._console.is_terminal and not os.environ.get("CI")
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if live else None
        self._started = self._spoken = clock()
        self._first: int | None = None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def told(self, here: int, whole: int | None) -> None:
        """``here`` bytes have come, of ``whole`` where that is known."""
        now = self._clock()
        if self._first is None or here < self._first:
            self._first, self._started = here, now
        if self._live and now - self._spoken >= _REDRAW_SECONDS:
            self._spoken = now
            self._live.update(Text(self._line(here, whole), no_wrap=True, overflow="ellipsis"), refresh=True)
        elif not self._live and now - self._spoken >= PLAIN_SECONDS:
            self._spoken = now
            self._console.print(self._line(here, whole), soft_wrap=True)

    def _line(self, here: int, whole: int | None) -> str:
        seconds = self._clock() - self._started
        rate = (here - (self._first or 0)) / seconds if seconds >= _LEAST_MEASURED_SECONDS else 0.0
        of_all = f" of {whole / 1e6:,.1f} MB ({100 * here / whole:.0f} %)" if whole else " MB"
        left = f"ETA {clock_words((whole - here) / rate)}" if whole and rate else "ETA unknown"
        return f"{self._name}  {here / 1e6:,.1f}{of_all}  {rate / 1e6:.1f} MB/s  {left}"


__all__ = ["PLAIN_SECONDS", "DoneRow", "Meter", "Progress", "clock_words"]
