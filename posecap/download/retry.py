"""When downloads may ask, and how often: retries with exponential back-off, a time limit for one call, a rate limit for
the machine, and limits on what the threads of one process ask of one web host (connections, requests a second, pauses).

A host is a name and a port. What is known of it is shared by all threads of the process, whatever engine they use, and
forgotten once nobody uses the host and nothing restrains it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import urlsplit

from posecap.files import locked
from posecap.stage import TransientError

T = TypeVar("T")

_CLOCK_STEP_SECONDS = 1.0
"""A rate limit's state from further in the future was written before the clock was set back. Our choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often to try, and how long to wait in between.

    Args:
        attempts: in all, the first included.
        base_seconds: wait after the first attempt; each further wait is twice as long. Where a server asks for a longer
            one (:class:`RetryAfter`), that is waited.
        longest_wait_seconds: waits stop doubling here, and a server that asks for a longer wait is not tried again.

    The defaults are our choices: three waits of 1, 2 and 4 seconds bridge a lost connection; a server that wants more
    than a minute is left to a later run.

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

    threading.Thread(target=run, name=f"posecap {what}", daemon=True).start()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """The most that one worker process asks of one host. Ray has one such process on each node
    (:class:`posecap.stages.download.Download`).

    Args:
        connections: downloads from the host at once; others wait, which does not count as time of theirs. 4 is our
            choice.
        requests_per_second: requests to the host, retries and resumed transfers included; None for no limit.

    Raises:
        ValueError: one of them is too small.
    """

    connections: int = 4
    requests_per_second: float | None = None

    def __post_init__(self) -> None:
        if self.connections < 1 or (self.requests_per_second is not None and not self.requests_per_second > 0):
            raise ValueError(
                f"HostLimits(connections={self.connections}, requests_per_second={self.requests_per_second}): needs "
                "connections >= 1, and requests_per_second above 0 or None"
            )


@dataclass
class _Host:
    """``connections`` are those in use, ``waiting`` threads that wait for one; no request is sent before the two times
    (:func:`time.monotonic`)."""

    connections: int = 0
    waiting: int = 0
    next_request: float = 0.0
    paused_until: float = 0.0

    def is_idle(self, now: float) -> bool:
        return not self.connections and not self.waiting and max(self.next_request, self.paused_until) <= now


_hosts: dict[str, _Host] = {}
_changed = threading.Condition()
"""Held while ``_hosts`` is read or changed, and notified when a connection is free."""


def _forget_idle() -> None:
    now = time.monotonic()
    for name in [name for name, known in _hosts.items() if known.is_idle(now)]:
        del _hosts[name]


def host_of(url: str) -> str:
    """Name and port of a URL's host, as ``example.org:443``; an empty string where it has none."""
    try:
        split = urlsplit(url)
        port = split.port or {"http": 80, "https": 443}.get(split.scheme.lower(), 0)
    except ValueError:
        return ""
    return f"{split.hostname}:{port}" if split.hostname else ""


class HostSlot:
    """The place of one download among the connections to a host. A context manager, which gives it back at its end.

    Args:
        longest_pause_seconds: a host that has asked for a longer pause is not waited for.
    """

    def __init__(self, limits: HostLimits, *, longest_pause_seconds: float) -> None:
        self._limits, self._longest_pause_seconds = limits, longest_pause_seconds
        self._host: str | None = None
        self._is_closed = False

    def take(self, host: str, *, until: float = math.inf) -> None:
        """Wait for a connection to ``host``, and give back the one to another host first.

        Args:
            until: the deadline, as a time of :func:`time.monotonic`.

        Raises:
            TransientError: ``no_turn``: none was free in time, or the download is over.
        """
        if host == self._host:
            return
        self._give_back()
        with _changed:
            known = _hosts.setdefault(host, _Host())
            known.waiting += 1
            try:
                free = _changed.wait_for(
                    lambda: self._is_closed or known.connections < self._limits.connections,
                    None if math.isinf(until) else max(0.0, until - time.monotonic()),
                )
            finally:  # also of a thread that is interrupted while it waits
                known.waiting -= 1
            if not free or self._is_closed:
                _forget_idle()
                detail = f"no connection to {host} was free within the time limit; run again"
                raise TransientError("no_turn", detail, machine_dependent=False)
            known.connections += 1
            self._host = host

    def wait_for_turn(self, *, until: float) -> None:
        """Sleep until a request may be sent to the host that the slot is for. A turn after ``until`` is left to others.

        Raises:
            TransientError: ``no_turn`` when that is after ``until``; ``host_paused`` when the host has asked for a
                pause of more than ``longest_pause_seconds``, of which more than that is left.
        """
        rate = self._limits.requests_per_second
        with _changed:
            known = _hosts.get(self._host or "")
            if known is None:
                return
            turn = max(time.monotonic(), known.next_request)
            if rate is not None and turn < until:
                known.next_request = turn + 1 / rate
        while True:
            # The host may ask for a pause, or for a longer one, while this thread sleeps.
            wait, pause = turn - time.monotonic(), known.paused_until - time.monotonic()
            if pause > self._longest_pause_seconds:
                detail = f"{self._host} has asked for a long pause between requests; run again later"
                raise TransientError("host_paused", detail, machine_dependent=False)
            if max(wait, pause) <= 0:
                return
            if time.monotonic() + max(wait, pause) > until:
                detail = f"no request to {self._host} may be sent in time; run again later"
                raise TransientError("no_turn", detail, machine_dependent=False)
            time.sleep(max(wait, pause))

    def pause(self, seconds: float) -> None:
        """Let no thread of this process send a request to the slot's host for so long."""
        with _changed:
            if self._host in _hosts:
                known = _hosts[self._host]
                known.paused_until = max(known.paused_until, time.monotonic() + seconds)

    def _give_back(self) -> None:
        with _changed:
            if self._host is None:
                return
            _hosts[self._host].connections -= 1
            self._host = None
            _forget_idle()
            _changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A transfer that went on in the background after a timeout must not take another.
        self._is_closed = True
        self._give_back()
