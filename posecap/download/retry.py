"""Retries with exponential back-off, a time limit for one call, and a rate limit for all processes of this machine."""

from __future__ import annotations

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

_MAX_WAIT_SECONDS = 3600.0
"""A turn further away was written before the clock was set back, and is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """``attempts`` in all; waits between them start at ``base_seconds`` and double up to ``longest_wait_seconds``."""

    attempts: int = 4
    base_seconds: float = 1.0
    longest_wait_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"RetryPolicy: attempts is {self.attempts}, expected at least 1")


class RetryAfter(TransientError):  # noqa: N818 - the name of the HTTP header
    """A server answered with the ``seconds`` after which to ask again (``Retry-After``)."""

    def __init__(self, reason: str, detail: str = "", *, seconds: float = 0.0) -> None:
        super().__init__(reason, detail)
        self.seconds = seconds


def retry(attempt: Callable[[], T], *, policy: RetryPolicy, until: float, reasons: Collection[str] | None = None) -> T:
    """Call ``attempt`` until it returns or raises anything but :class:`TransientError`.

    The last :class:`TransientError` is raised when attempts are used up, when the next wait would pass ``until`` (on
    :func:`time.monotonic`), or when a server asks for more than ``longest_wait_seconds``: a later build can try
    again. With ``reasons``, errors of other reasons are raised at once.
    """
    for number in count(1):
        try:
            return attempt()
        except TransientError as error:
            asked = error.seconds if isinstance(error, RetryAfter) else 0.0
            doubled = min(policy.base_seconds * 2.0 ** (number - 1), policy.longest_wait_seconds)
            wait = max(asked, doubled)
            if reasons is not None and error.reason not in reasons:
                raise
            if number >= policy.attempts or wait > policy.longest_wait_seconds or time.monotonic() + wait >= until:
                raise
            time.sleep(wait)
    raise AssertionError("unreachable: the loop above counts without end")


def with_timeout(seconds: float, call: Callable[[], T], *, what: str) -> T:
    """The result of ``call()``, which runs in a thread of its own that is abandoned after ``seconds``.

    For code that cannot be interrupted. ``what`` names the call in the message.

    Raises:
        TransientError: ``timeout``.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # handed to the caller, whatever it is
            outcome.set_exception(error)

    Thread(target=run, name=f"posecap {what}", daemon=True).start()
    try:
        return outcome.result(timeout=seconds)
    except TimeoutError:
        if outcome.done():
            raise
        raise TransientError("timeout", f"{what}: not finished within {seconds:g} s") from None


def wait_for_rate_limit(state: Path, *, per_minute: float, until: float) -> None:
    """Sleep until this caller's turn. Turns are ``60 / per_minute`` seconds apart, in the order they are asked for.

    Args:
        state: a file that threads and processes share; it holds the time of the next free turn, and is created here.
        until: on :func:`time.monotonic`; a turn that comes later is not taken.

    Raises:
        TransientError: ``no_turn``, when so many wait that no turn comes before ``until``.
    """
    with locked(state.with_name(f"{state.name}.lock")):
        now = time.time()
        turn = max(now, _next_turn(state, now))
        # Where nobody is ahead there is a turn, even if the time is up: then the caller says so.
        if turn > now and time.monotonic() + (turn - now) >= until:
            raise TransientError(
                "no_turn", f"no turn in time at {per_minute:g} requests a minute; allow more, or more time"
            )
        state.write_text(repr(turn + 60 / per_minute), encoding="ascii")
    time.sleep(turn - now)


def _next_turn(state: Path, now: float) -> float:
    try:
        turn = float(state.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return now
    return turn if now < turn < now + _MAX_WAIT_SECONDS else now
