"""For downloads: retries with exponential back-off, a time limit for one call, and a rate limit for the machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TypeVar

from posecap.files import locked
from posecap.stage import TransientError

T = TypeVar("T")

_CLOCK_STEP_SECONDS = 1.0
"""A rate limit's state from further in the future than this was written before the clock was set back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often to try, and how long to wait in between.

    Args:
        attempts: in all, the first included.
        base_seconds: wait after the first attempt; each further wait is twice as long. Where a server asks for a longer
            one (:class:`RetryAfter`), that is waited.
        longest_wait_seconds: waits stop doubling here, and a server that asks for a longer wait is not tried again.

    Raises:
        ValueError: ``attempts`` is below 1, or a wait below 0.
    """

    attempts: int = 4
    base_seconds: float = 1.0
    longest_wait_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"RetryPolicy: attempts is {self.attempts}, expected at least 1")
        if self.base_seconds < 0 or self.longest_wait_seconds < 0:
            raise ValueError(
                f"RetryPolicy: base_seconds is {self.base_seconds:g} and longest_wait_seconds "
                f"{self.longest_wait_seconds:g}, expected 0 or more"
            )


class RetryAfter(TransientError):  # noqa: N818 - the name of the HTTP header
    """A server asks for a wait of ``seconds`` before the next request (the HTTP header ``Retry-After``); 0 where it
    refuses the request for now without naming a time.
    """

    def __init__(self, reason: str, detail: str = "", *, seconds: float = 0.0) -> None:
        # Another machine is not to take its place.
        super().__init__(reason, detail, machine_dependent=False)
        self.seconds = seconds


def retry(attempt: Callable[[], T], *, policy: RetryPolicy, until: float, reasons: Collection[str] | None = None) -> T:
    """Call ``attempt`` until it returns, and give its result.

    Args:
        until: the deadline, as a time of :func:`time.monotonic`; no wait goes beyond it. An attempt that runs is not
            interrupted.
        reasons: of the errors that are worth another attempt (:attr:`posecap.stage.Reject.reason`); None for all.

    Raises:
        TransientError: that of the last attempt: its reason is not among ``reasons``, attempts are used up, the next
            wait would end after ``until``, or a server asks for a wait of more than ``policy.longest_wait_seconds``.
        Exception: anything else that ``attempt`` raises, at once.
    """
    for number in count(1):
        try:
            return attempt()
        except TransientError as error:
            server_wait = error.seconds if isinstance(error, RetryAfter) else 0.0
            own_wait = min(policy.base_seconds * 2.0 ** (number - 1), policy.longest_wait_seconds)
            wait = max(server_wait, own_wait)
            if reasons is not None and error.reason not in reasons:
                raise
            if number >= policy.attempts or wait > policy.longest_wait_seconds or time.monotonic() + wait >= until:
                raise
            time.sleep(wait)
    raise AssertionError("unreachable: the loop above counts without end")


def with_timeout(seconds: float, call: Callable[[], T], *, what: str) -> T:
    """The result of ``call()``, or the exception that it raises, if that comes within ``seconds``.

    For code that cannot be interrupted: ``call`` runs in a thread of its own, which goes on in the background after a
    timeout, its outcome unused, and does not keep the process from ending. ``what`` names the call in the message.

    Raises:
        TransientError: ``timeout``.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # raised again in the calling thread, whatever it is
            outcome.set_exception(error)

    Thread(target=run, name=f"posecap {what}", daemon=True).start()
    try:
        return outcome.result(timeout=seconds)
    except TimeoutError:
        if outcome.done():  # the call itself raised TimeoutError, or ended at this very moment
            return outcome.result()
        raise TransientError("timeout", f"{what}: not finished within {seconds:g} s") from None


def wait_for_rate_limit(state: Path, *, per_minute: float, until: float) -> None:
    """Sleep until this caller may send a request.

    Every call is given a turn, a moment at which to send one request. Turns are ``60 / per_minute`` seconds apart and
    given in the order of the calls.

    Args:
        state: a file that threads and processes share, created here. It holds two times of :func:`time.time`: that of
            the next turn to give, and that at which it was written.
        per_minute: turns a minute, above 0. Callers that share ``state`` pass the same.
        until: the deadline, as a time of :func:`time.monotonic`.

    Raises:
        TransientError: ``no_turn`` when the next turn comes after ``until``; the turn is then left to others.
    """
    with locked(state.with_name(f"{state.name}.lock")):
        now = time.time()
        turn = _next_turn(state, now)
        # A turn that is due at once is given even after ``until``: it costs no wait, and the request that follows
        # has a deadline of its own.
        if turn > now and time.monotonic() + (turn - now) >= until:
            raise TransientError(
                "no_turn",
                f"at {per_minute:g} requests a minute the next one may be sent in {turn - now:.0f} s, after the time "
                "limit of this download; run again later, raise the limit of seconds, or allow more requests a minute",
            )
        state.write_text(f"{turn + 60 / per_minute!r} {now!r}", encoding="ascii")
    time.sleep(turn - now)


def _next_turn(state: Path, now: float) -> float:
    """The time of the next turn, ``now`` at the earliest and where the file holds nothing usable."""
    try:
        turn, written = (float(word) for word in state.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return now
    return turn if now < turn < math.inf and written <= now + _CLOCK_STEP_SECONDS else now
