"""What a run tells: a line of JSON for each event, and TensorBoard's files where that is installed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAME = "journal.jsonl"


class Journal:
    """Appends events to ``folder/journal.jsonl``; a context manager.

    Each line has ``event``, ``step``, ``seconds`` since 1970 and the event's figures. A resumed run goes on in the same
    file and says so; of lines with the same step, the later ones hold.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._boards = folder / "tensorboard"

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._path.exists() and self._path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = self._path.open("a", encoding="utf-8")
        if torn:  # the process before this one was killed while it wrote
            self._file.write("\n")
        self._board = _board(self._boards)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def tell(self, event: str, step: int, figures: Mapping[str, Any]) -> None:
        """One line. Numbers that are not finite become null, which JSON has a word for."""
        line = {"event": event, "step": step, "seconds": round(time.time(), 3)}
        line |= {name: _finite(value) for name, value in figures.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in figures.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._board.add_scalar(f"{event}/{name}", value, step)


class Silent:
    """The journal of the processes that do not lead."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was opened."""

    def tell(self, event: str, step: int, figures: Mapping[str, Any]) -> None:
        """Nothing is told twice."""


def read(folder: Path, *events: str) -> Iterator[dict[str, Any]]:
    """The lines of some events of a run, in order; a torn line is left out."""
    with (folder / NAME).open(encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if line["event"] in events:
                yield line


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


__all__ = ["NAME", "Journal", "Silent", "read"]
