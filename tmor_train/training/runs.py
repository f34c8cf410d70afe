"""The folder of a run, whatever its type: its ``config.json``; and how signals stop a run between two steps.

``config.json`` has every field of the configuration. A pre-training run's folder also has ``journal.jsonl``, the logged
events and metrics, ``checkpoints/``, the state of training, ``plots/``, the curves, and ``tensorboard/`` where
TensorBoard is installed.
"""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from posecap.files import write_file

CONFIG = "config.json"
READING = "reading"
"""Key of an evaluation's ``config.json``, beside the configuration: :attr:`tmor_train.benchmarks.Benchmark.reading`
when it was begun; 1 where it is missing."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RunError(ValueError):
    """A run cannot begin or be resumed; the message says why and what to do."""


def check_new(folder: Path) -> None:
    """Check that ``folder`` holds no run; it need not exist.

    Raises:
        RunError: it holds one.
    """
    if (folder / CONFIG).exists():
        raise RunError(
            f"{folder} already holds a run; resume it with `tmor_train resume {folder}`, or choose another --output"
        )


def write_config(values: Any, folder: Path) -> None:
    """Write a run's configuration, as JSON values, into its folder, which is created with its parents.

    ``config.json`` is written in full or not at all, also when the process is killed.
    """
    write_file(folder / CONFIG, (json.dumps(values, indent=2) + "\n").encode())


def read_config(folder: Path) -> Any:
    """A run's configuration as JSON values.

    Raises:
        RunError: the folder has no ``config.json``, or it is damaged.
    """
    try:
        return json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{folder} holds no run, for its {CONFIG} cannot be read: {error}") from error


class Stopped(KeyboardInterrupt):
    """Pre-training was stopped by a signal, after it saved a checkpoint of the step that it was in. It is a
    KeyboardInterrupt, so that ``except Exception`` lets it pass as it does Ctrl-C."""


class Stop:
    """A context manager in which Ctrl-C and SIGTERM (schedulers send it before they kill) only set ``asked``,
    which the training loop reads after each step. A second signal has its usual effect.

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
