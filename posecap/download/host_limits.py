"""Limits on what the threads of one process ask of one web host: connections at once, requests a second, and pauses.

A host is a name and a port. What is known of it is shared by all threads of the process, whatever engine they use, and
forgotten once nobody uses the host and nothing restrains it.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from posecap.stage import TransientError


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """The most that one worker process asks of one host. Ray has one such process on each node (:class:`Download`).

    Args:
        connections: downloads from the host at once; others wait, which does not count as time of theirs.
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
    """``waiting`` counts threads that wait for a connection; the two times are those of :func:`time.monotonic`."""

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
            free = _changed.wait_for(
                lambda: self._is_closed or known.connections < self._limits.connections,
                None if math.isinf(until) else max(0.0, until - time.monotonic()),
            )
            known.waiting -= 1
            if not free or self._is_closed:
                _forget_idle()
                detail = f"no connection to {host} was free within the time limit; run again"
                raise TransientError("no_turn", detail, machine_dependent=False)
            known.connections += 1
            self._host = host

    def wait_for_turn(self, *, until: float) -> None:
        """Sleep until a request may be sent to the host that the slot is for.

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
