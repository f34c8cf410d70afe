"""Reads and writes checkpoints of training: files that are complete or absent, and read without unpickling code."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from posecap.files import sync_folder

FORMAT = "tmor_train.checkpoint/1"
BEST = "best.pt"
_NAME = re.compile(r"step-(\d{9})\.pt")


class CheckpointError(ValueError):
    """A file is not a checkpoint of tmor_train, or is damaged; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints in ``folder``, ``checkpoints/`` of a run: the ``keep`` of the highest steps, and the best.

    ``folder`` need not exist before the first is saved; ``keep`` is at least 1.
    """

    folder: Path
    keep: int = 2

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:09}.pt"

    def all(self) -> list[Path]:
        """The checkpoints by step, oldest first; the best, a copy under another name, is not listed."""
        paths = self.folder.glob("step-*.pt") if self.folder.is_dir() else ()
        return sorted(path for path in paths if _NAME.fullmatch(path.name))

    def save(self, step: int, content: Mapping[str, Any]) -> Path:
        """Write the checkpoint of ``step``, in place of an earlier one of that step, then delete all but the ``keep``
        of the highest steps; returns its path."""
        path = self.path(step)
        save(path, content)
        for old in self.all()[: -self.keep]:
            old.unlink()
        return path

    def mark_best(self, step: int) -> None:
        """Keep the checkpoint of ``step``, which is still there, as ``best.pt``, in place of an earlier one."""
        part = self.folder / f".{BEST}.part"
        part.unlink(missing_ok=True)
        try:
            os.link(self.path(step), part)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.path(step), part)
        part.replace(self.folder / BEST)
        sync_folder(self.folder)

    def latest(self) -> tuple[Path, dict[str, Any]]:
        """The path and content of the newest checkpoint that can be read; damaged ones are skipped.

        Raises:
            CheckpointError: there is none, or none can be read; the message is about the newest then.
        """
        first_error: CheckpointError | None = None
        for path in reversed(self.all()):
            try:
                return path, load(path)
            except CheckpointError as error:
                first_error = first_error or error
        raise first_error or CheckpointError(
            f"{self.folder} holds no checkpoint; was the run stopped before its first one?"
        )


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values to a file. It appears complete or, if the process or the machine stops before the
    end, not at all; a file that was there before stays until then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        torch.save({"format": FORMAT, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def load(path: Path, *, onto: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's content, ``format`` included, with its tensors on the device ``onto``.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or not a checkpoint of this program.
    """
    try:
        content = torch.load(path, map_location=onto, weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch's reader and unpickler raise many kinds for what is no checkpoint
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {reason}; use an earlier one") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of tmor_train ({FORMAT}); give one that a run wrote into its checkpoints/"
        )
    return content


def load_latest(path: Path) -> tuple[Path, dict[str, Any]]:
    """The path and content of the checkpoint that ``path`` names: a file, or the newest that can be read in a run's
    folder or in its folder of checkpoints; the best is taken only where its file is named.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    if path.is_file():
        return path, load(path)
    for folder in (path / "checkpoints", path):
        if Checkpoints(folder).all():
            return Checkpoints(folder).latest()
    raise CheckpointError(
        f"{path} is neither a checkpoint nor a folder with checkpoints; name a run's folder or a file step-….pt in it"
    )
