"""The folder of a run, whatever its type: its ``config.json``; and how signals stop a run between two steps.

``config.json`` has every field of the configuration. A pre-training run's folder also has ``journal.jsonl``, the logged
events and metrics, ``checkpoints/``, the state of training, ``plots/``, the curves, :data:`CARD`, for people, and
``tensorboard/`` where TensorBoard is installed. While a process works on a run, the folder has ``.lock``
(:func:`run_lock`).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from posecap.files import file_sha256, write_file
from tmor_train.data.provenance import LICENSES, Inputs

CONFIG = "config.json"
READING = "reading"
"""Key of an evaluation's ``config.json``, beside the configuration: :attr:`tmor_train.benchmarks.Benchmark.reading`
when it was begun; 1 where it is missing."""
LOCK = ".lock"
INPUTS = "inputs.json"
"""What an evaluation read when it was begun: :class:`tmor_train.data.provenance.Inputs` as JSON, with a ``format``.
Runs of former versions have none."""
CARD = "MODEL_CARD.md"
"""What a pre-training run's encoder is and was made from, for whoever gets it: :func:`write_card`."""
_log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RunError(ValueError):
    """A run cannot begin or be resumed; the message says why and what to do."""


def check_new(folder: Path) -> None:
    """Check that ``folder`` holds no run; it need not exist.

    Raises:
        RunError: it holds one, or checkpoints of steps that a run without its ``config.json`` took. A checkpoint of
            step 0 alone is of a run that was stopped while it began, and may be replaced.
    """
    if (folder / CONFIG).exists():
        raise RunError(
            f"{folder} already holds a run; resume it with `tmor_train resume {folder}`, or choose another --output"
        )
    if left := sorted(path for path in folder.glob("checkpoints/step-*.pt") if path.stem != "step-000000000"):
        raise RunError(
            f"{folder} holds checkpoints, {left[-1].name} among them, of a run whose {CONFIG} is gone; choose another "
            f"--output, or delete {left[-1].parent}"
        )


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run in ``folder``, which is created, for this process; a second process is refused.

    The lock is the kernel's, on the file ``.lock``, which is removed at the end, as are folders that were created here
    and are still empty. It ends with the process, however that ends: a file that a killed process left blocks nobody.
    On one machine this is certain. On a network file system it holds between machines where that passes locks on: NFS
    of Linux and Lustre with ``flock`` do. Where a file system or system has no locks, a warning is logged and the block
    runs without one.

    Raises:
        RunError: another process, or another block in this one, holds it.
        OSError: the folder cannot be written to.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        _log.warning("warning: this system has no file locks; start no second process on %s", folder)
        yield
        return
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    descriptor = -1
    try:
        while True:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # The holder writes one line, of far fewer bytes.
                holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
                raise RunError(
                    f"{folder} is being worked on by {holder}; wait until it ends, stop it, or choose another --output"
                ) from None
            except OSError as error:
                _log.warning("warning: %s takes no locks (%s); start no second process on it", folder, error)
                break
            # Between opening and locking, the holder before may have removed the file: then this lock is of no name.
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(descriptor)):
                    os.truncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                    break
            os.close(descriptor)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # before the lock ends, so that nobody's later file is removed
    finally:
        with suppress(OSError):
            os.close(descriptor)
        with suppress(OSError):  # one is not empty
            for place in created:
                place.rmdir()


def write_config(values: Any, folder: Path) -> None:
    """Write a run's configuration, as JSON values, into its folder, which is created with its parents.

    ``config.json`` is written in full or not at all, also when the process is killed. Raises OSError where the disk is
    full or fails.
    """
    write_file(folder / CONFIG, (json.dumps(values, indent=2) + "\n").encode())


def write_card(
    folder: Path,
    *,
    config: Mapping[str, Any],
    inputs: Inputs,
    clips: int,
    checkpoint: Path,
    figures: Mapping[str, Any],
    version: str,
) -> None:
    """Write a run's model card, in place of an earlier one.

    Args:
        config: the run's configuration as JSON values.
        inputs: what it read.
        clips: how many clips it is trained on.
        checkpoint: its newest one, whose file is hashed.
        figures: of the last epoch, by name; empty before the first. Those that are None are left out.
        version: of tmor_train.

    Raises:
        OSError: the disk is full or fails, or ``checkpoint`` is gone.
    """
    data = config["data"]
    licenses = {name.removesuffix(LICENSES): words for name, words in inputs.about.items() if name.endswith(LICENSES)}
    about = {name: words for name, words in inputs.about.items() if not name.endswith(LICENSES)}
    sets = [f"- the published set {name}, under the terms of its publisher" for name in data["sets"]]
    start = config["loop"].get("start_from")
    measured = [
        f"- {name}: {value:.4g}" if isinstance(value, float) else f"- {name}: {value}"
        for name, value in figures.items()
        if value is not None
    ]
    lines = [
        f"# {folder.name}",
        "",
        f"An encoder of skeletons, trained by tmor_train {version} with the recipe `{config['recipe']}`: "
        f"{config['about']}.",
        "",
        f"- checkpoint `{checkpoint.name}`, SHA-256 `{file_sha256(checkpoint)}`",
        f"- began with the weights of {start}, whose own data and terms count as well" if start else "- new weights",
        f"- the whole configuration: `{CONFIG}`",
        "",
        "## Data",
        "",
        f"{clips:,} clips of:",
        "",
        *[f"- {place}; licenses of its clips: {words}" for place, words in sorted(licenses.items())],
        *sets,
        "",
        "Read from, with SHA-256:",
        "",
        *[f"- {name}: `{sha256}`" for name, sha256 in sorted(inputs.files.items())],
        "",
        "Made with, with SHA-256:",
        "",
        *[f"- {name}: `{sha256}`" for name, sha256 in sorted(about.items())],
        *([] if about else ["- not recorded"]),
        "",
        "## Figures",
        "",
        *(measured or ["None yet: no epoch has ended."]),
        "",
        "They are of the training data. What the encoder is good for, an evaluation says (`tmor_train run probe`).",
        "",
        "## Use",
        "",
        "No more than the licenses and terms above allow, of the data as of the models that made it; where none is "
        "stated, ask. It sees how joints move, and was measured on no question of who somebody is: it is not made to "
        "tell people apart, nor for decisions about them.",
    ]
    write_file(folder / CARD, ("\n".join(lines) + "\n").encode())


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
    """Training was stopped by a signal, after it saved a checkpoint of the step that it was in. It is a
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
        """On the first signal."""
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        """Give the signals back to whom they belonged before; a second call does nothing."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
