"""Progress of training: a line that is redrawn on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TextIO

from posecap.terminal import duration_text

PLAIN_SECONDS = 30.0
"""Least time between two lines where the output is no terminal, so that a line cannot be redrawn."""
_REDRAW_SECONDS = 0.2  # least time between two drawings of the line on a terminal


class Progress:
    """Counts steps, clips and time of this process. ``done`` of all ``steps`` of the run were done before it was
    resumed, and do not count in the rates. ``clock`` gives seconds from any zero; lines go to ``out``, standard error
    by default."""

    def __init__(
        self,
        *,
        steps: int,
        done: int = 0,
        out: TextIO | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._steps, self._done, self._first = steps, done, done
        self._out, self._clock = out or sys.stderr, clock
        self._began = self._spoken = clock()
        self._clips, self._waited, self._aside = 0, 0.0, 0.0

    def step(self, *, clips: int, waited: float, words: str) -> None:
        """Count a step of ``clips`` clips (in pre-training those of all processes), ``waited`` seconds of which went
        into waiting for data; ``words`` begin the line."""
        self._done += 1
        self._clips += clips
        self._waited += waited
        now = self._clock()
        if self._out.isatty():
            if now - self._spoken >= _REDRAW_SECONDS:
                self._spoken = now
                self._out.write(f"\r\x1b[2K{self._line(words)}")
                self._out.flush()
        elif now - self._spoken >= PLAIN_SECONDS:
            self._spoken = now
            self.log(self._line(words))

    def aside(self, seconds: float) -> None:
        """Leave ``seconds`` that went into something else than steps, such as clustering, out of the rates."""
        self._aside += seconds

    def log(self, line: str) -> None:
        """Write a line that is not redrawn."""
        self._out.write(f"\r\x1b[2K{line}\n" if self._out.isatty() else f"{line}\n")
        self._out.flush()

    def metrics(self) -> dict[str, float]:
        """Clips a second and the share of time that this process spent waiting for data, since it began."""
        seconds = max(self._clock() - self._began - self._aside, 1e-9)  # at first none may have passed
        return {"samples_per_second": self._clips / seconds, "data_wait": min(self._waited / seconds, 1.0)}

    def _line(self, words: str) -> str:
        seconds = self._clock() - self._began  # with the time aside: the steps left will be interrupted as well
        metrics = self.metrics()
        rate = metrics["samples_per_second"]
        left = (self._steps - self._done) * seconds / max(self._done - self._first, 1)
        return (
            f"{words}  step {self._done:,}/{self._steps:,}  {rate:.{0 if rate >= 10 else 1}f} samples/s  "
            f"data {100 * metrics['data_wait']:.1f} %  ETA {duration_text(left)}"
        )
