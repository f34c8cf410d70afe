"""Counts threads that do something at the same time."""

from __future__ import annotations

import threading
from typing import Self


class AtOnce:
    """A context manager for any number of threads; ``most`` were in its block together so far."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1
