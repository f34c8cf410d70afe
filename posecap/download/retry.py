"""How long to try: attempts with back-off, and a bound on the time of one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TypeVar

from posecap.download.atomic_file import locked
from posecap.stage import TransientError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """``attempts`` in all; waits between them start at ``base_seconds`` and double up to ``longest_wait_seconds``."""

    attempts: int = 4
    base_seconds: float = 1.0
    longest_wait_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"Patience: attempts is {self.attempts}, expected at least 1")


class AskedToWait(TransientError):
    """A server named the seconds after which it may be asked again."""

    def __init__(self, reason: str, detail: str = "", *, seconds: float = 0.0) -> None:
        super().__init__(reason, detail)
        self.seconds = seconds


def persist(attempt: Callable[[], T], *, patience: Patience, until: float) -> T:
    """Call ``attempt`` until it returns or raises anything but :class:`TransientError`.

    Gives up, raising the last TransientError, when attempts are used up, when the next wait would pass ``until``
    (on :func:`time.monotonic`), or when a server asks for more than ``longest_wait_seconds``: coming
    back sooner than asked would not be welcome, and waiting longer is the next build's job.
    """
    for number in count(1):
        try:
            return attempt()
        except TransientError as trouble:
            asked = trouble.seconds if isinstance(trouble, AskedToWait) else 0.0
            doubled = min(patience.base_seconds * 2.0 ** (number - 1), patience.longest_wait_seconds)
            wait = max(asked, doubled)
            if number >= patience.attempts or wait > patience.longest_wait_seconds or time.monotonic() + wait >= until:
                raise
            time.sleep(wait)
    raise AssertionError("unreachable: the loop above counts without end")


def within(seconds: float, work: Callable[[], T], *, what: str) -> T:
    """The result of ``work()``, which runs in a thread of its own and is left behind when ``seconds`` have passed.

    For calls into code that cannot be told to stop. ``what`` names the work in the message.

    Raises:
        TransientError: ``timeout``.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # handed to the caller, whatever it is
            outcome.set_exception(error)

    Thread(target=run, name=f"posecap {what}", daemon=True).start()
    try:
        return outcome.result(timeout=seconds)
    except TimeoutError:
        if outcome.done():
            raise
        raise TransientError("timeout", f"{what}: not finished within {seconds:g} s") from None


# A pace that everything on this machine keeps together: so many turns a minute, whoever takes them.


_PLAUSIBLE_SECONDS = 3600.0
"""A booking further away comes from a clock that has been set, and counts for nothing."""


def wait_for_turn(book: Path, *, per_minute: float, until: float) -> None:
    """Sleep until this caller's turn. Turns are ``60 / per_minute`` seconds apart, in the order they are asked for.

    Args:
        book: a file that threads and processes share; it holds the time of the next free turn, and is made here.
        until: on :func:`time.monotonic`; a turn that comes later is not taken.

    Raises:
        TransientError: ``no_turn``, when so many wait that no turn comes before ``until``.
    """
    with locked(book.with_name(f"{book.name}.lock")):
        now = time.time()
        turn = max(now, _next_turn(book, now))
        if time.monotonic() + (turn - now) >= until:
            raise TransientError(
                "no_turn", f"no turn in time at {per_minute:g} requests a minute; allow more, or more time"
            )
        book.write_text(repr(turn + 60 / per_minute), encoding="ascii")
    time.sleep(turn - now)


def _next_turn(book: Path, now: float) -> float:
    try:
        turn = float(book.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return now
    return turn if now < turn < now + _PLAUSIBLE_SECONDS else now
