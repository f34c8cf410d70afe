"""How a download is getting on: a line with rate and ETA on a terminal, a plain line every half minute elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from posecap.progress import PLAIN_SECONDS, clock_words

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


__all__ = ["Meter"]
