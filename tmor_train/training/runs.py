"""What runs of every kind share: a folder with the configuration, and how they are asked to stop.

``config.json`` has every field, ``journal.jsonl`` what happened, ``checkpoints/`` the state and ``plots/`` the curves.
"""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

CONFIG = "config.json"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RunError(ValueError):
    """A run cannot begin or go on; the message says why and what to do."""


def check_new(folder: Path) -> None:
    """Sees that ``folder`` holds no run.

    Raises:
        RunError: it does.
    """
    if (folder / CONFIG).exists():
        raise RunError(f"{folder} holds a run; go on with `tmor_train resume {folder}`, or choose another --output")


def write_config(values: Any, folder: Path) -> None:
    """Writes a run's configuration, as JSON values, into its folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n")


def read_config(folder: Path) -> Any:
    """A run's configuration as JSON values.

    Raises:
        RunError: no run is there.
    """
    try:
        return json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{folder} holds no run ({CONFIG}): {error}") from error


class Stopped(KeyboardInterrupt):
    """Training was asked to stop and has saved what it had."""


class Stop:
    """A context manager in which Ctrl-C and SIGTERM (schedulers send it before they kill) only set ``asked``.

    Signals reach Python's main thread alone; in another one this does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
