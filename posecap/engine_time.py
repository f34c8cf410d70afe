"""Seconds that engines take, by name, measured around the methods by which stages call them.

:class:`posecap.stage.Engine` wraps these methods in every class that defines one. Each thread counts by itself, and
asks with :func:`take` for what it has counted since it last asked. Of an engine that calls another one the seconds of
the other do not count.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

METHODS = ("fetch", "probe", "frames", "detect", "track", "estimate", "embed_video", "embed_text", "encode", "write")
"""Methods of :mod:`posecap.interfaces` that work; the others answer at once."""
_END = object()


class _Clock(threading.local):
    """``inner`` are seconds of engines that were called within the present one's call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.inner = 0.0


_clock = _Clock()


def take() -> dict[str, float]:
    """Seconds by engine of calls in this thread that ended since the last time this was asked."""
    found = _clock.seconds
    if found:
        _clock.seconds = {}
    return found


def timed(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an engine that counts its time; of an iterator that it returns, the time of each step."""

    @functools.wraps(method)
    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = _count(self.name, functools.partial(method, self, *args, **kwargs))
        return _steps(self.name, result) if isinstance(result, Iterator) else result

    return counted


def _steps(name: str, steps: Iterator[Any]) -> Iterator[Any]:
    step = functools.partial(next, steps, _END)
    held: list[Any] = []  # a value that is handed on is not held here, so that its frames can be freed
    try:
        while (value := _count(name, step)) is not _END:
            held.append(value)
            del value
            yield held.pop()
    finally:
        close = getattr(steps, "close", None)
        if close is not None:
            close()


def _count(name: str, call: Callable[[], Any]) -> Any:
    outer, _clock.inner, since = _clock.inner, 0.0, perf_counter()
    try:
        return call()
    finally:
        took = perf_counter() - since
        _clock.seconds[name] = _clock.seconds.get(name, 0.0) + took - _clock.inner
        _clock.inner = outer + took
