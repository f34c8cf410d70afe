"""Counts the rows that are done in parts under way, for ``posecap status`` while a build runs.

Their outcomes are known to the driver alone until their part is committed, so it enters the counts in the ledger, at
most once a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic, time

from posecap.ledger import Ledger
from posecap.outcomes import RowOutcome, Tally

_SECONDS = 1.0
"""Shortest time between two entries."""


class OpenRows:
    """The counts of one run.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, ledger: Ledger, *, clock: Callable[[], float] = monotonic) -> None:
        self._ledger, self._clock = ledger, clock
        self._tally = Tally()
        self._entered = clock()
        ledger.record_open_rows(None)

    def done(self, outcome: RowOutcome) -> None:
        """Count a row that is done."""
        self._tally.add(outcome)
        if self._clock() - self._entered >= _SECONDS:
            self._enter()

    def committed(self, outcomes: Iterable[RowOutcome]) -> None:
        """Count the rows of a committed part no longer."""
        for outcome in outcomes:
            self._tally.remove(outcome)
        self._enter()

    def end(self) -> None:
        """Enter that nothing is under way."""
        self._ledger.record_open_rows(None)

    def _enter(self) -> None:
        self._entered = self._clock()
        self._ledger.record_open_rows({"entered": time(), **self._tally.as_json()})
