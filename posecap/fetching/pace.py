"""A pace that everything on this machine keeps together: so many turns a minute, whoever takes them."""

from __future__ import annotations

import time
from pathlib import Path

from posecap.fetching.landing import locked
from posecap.stage import Retry

_PLAUSIBLE_SECONDS = 3600.0
"""A booking further away comes from a clock that has been set, and counts for nothing."""


def wait_for_turn(book: Path, *, per_minute: float, until: float) -> None:
    """Sleep until this caller's turn. Turns are ``60 / per_minute`` seconds apart, in the order they are asked for.

    Args:
        book: a file that threads and processes share; it holds the time of the next free turn, and is made here.
        until: on :func:`time.monotonic`; a turn that comes later is not taken.

    Raises:
        Retry: ``no_turn``, when so many wait that no turn comes before ``until``.
    """
    with locked(book.with_name(f"{book.name}.lock")):
        now = time.time()
        turn = max(now, _next_turn(book, now))
        if time.monotonic() + (turn - now) >= until:
            raise Retry("no_turn", f"no turn in time at {per_minute:g} requests a minute; allow more, or more time")
        book.write_text(repr(turn + 60 / per_minute), encoding="ascii")
    time.sleep(turn - now)


def _next_turn(book: Path, now: float) -> float:
    try:
        turn = float(book.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return now
    return turn if now < turn < now + _PLAUSIBLE_SECONDS else now
