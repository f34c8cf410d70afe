"""Reads and writes checkpoints of training: files that are complete or absent, that show their own damage, and that
are read without unpickling code.

A checkpoint is torch's zip archive. Its archive comment, at the end of the file, is ``tmor_train sha256 `` and 64 hex
digits: the SHA-256 of all bytes before them, computed while they are written. So the hash is part of the file, appears
with it, and goes where it is copied; any other reader of zip archives, torch among them, opens the file as before.
Checkpoints of former versions (:data:`FORMER`) have no such comment and are read without the check. The hash shows
damage, not forgery: whoever can write the file can write the hash.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import torch

from posecap.files import link_or_copy, sync_folder

if TYPE_CHECKING:
    from typing_extensions import Buffer

FORMAT = "tmor_train.checkpoint/2"
FORMER = "tmor_train.checkpoint/1"
"""The format before this one: without a hash, otherwise the same."""
BEST = "best.pt"
"""The file of the best checkpoint, beside the newest ones."""
_NAME = re.compile(r"step-(\d{9})\.pt")
_MARK = b"tmor_train sha256 "
_COMMENT_BYTES = len(_MARK) + hashlib.sha256().digest_size * 2
# Of the zip format (APPNOTE 4.3.16): an archive ends with a record of 22 bytes, the last two of which are the length of
# the comment after it; torch writes none, so they are 0.
_END_BYTES, _END_MARK = 22, b"PK\x05\x06"
_BLOCK_BYTES = 1 << 20  # read at once; our choice
_log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A file is not a checkpoint of tmor_train, or is damaged; the message says which and what to do."""


class DamagedCheckpointError(CheckpointError):
    """The bytes of a checkpoint are not those that were written; the message says which file and what to do."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written, such as on a full disk; the message says what is left and what to do."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints in ``folder``, ``checkpoints/`` of a run: the ``keep`` of the highest steps, and the best.

    ``folder`` need not exist before the first is saved; ``keep`` is at least 1. One process at a time writes there
    (:func:`tmor_train.training.runs.run_lock`).
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
        of the highest steps, and what killed processes left half-written; returns its path.

        Raises:
            CheckpointWriteError: the disk is full or fails; the checkpoints that were there are as they were.
        """
        path, before = self.path(step), self.all()
        for left in self.folder.glob(".*.pt.part"):
            left.unlink()
        try:
            save(path, content)
        except CheckpointWriteError as error:
            run = self.folder.parent
            kept = (
                f"{before[-1].name} before it is as it was; make room, then `tmor_train resume {run}`"
                if before
                else "it would have been the run's first; make room, then start the run again"
            )
            raise CheckpointWriteError(f"{error}; {kept}") from error
        for old in self.all()[: -self.keep]:
            old.unlink()
        return path

    def mark_best(self, step: int) -> None:
        """Keep the checkpoint of ``step``, which is still there, as ``best.pt``, in place of an earlier one.

        Raises:
            CheckpointWriteError: the disk is full or fails; an earlier ``best.pt`` is as it was.
        """
        part = self.folder / f".{BEST}.part"
        try:
            part.unlink(missing_ok=True)
            link_or_copy(self.path(step), part)
            part.replace(self.folder / BEST)
            sync_folder(self.folder)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CheckpointWriteError(
                f"{self.folder / BEST} cannot be written: {error}; {self.path(step).name}, which it would be a copy "
                f"of, is there: make room, then `tmor_train resume {self.folder.parent}`"
            ) from error

    def latest(self) -> tuple[Path, dict[str, Any]]:
        """The path and content of the newest checkpoint that can be read. A damaged one is skipped with a warning in
        the log, which without further settings Python prints.

        Raises:
            CheckpointError: there is none, or none can be read; the message is about the newest then.
        """
        errors: list[CheckpointError] = []
        for path in reversed(self.all()):
            try:
                content = load(path)
            except CheckpointError as error:
                errors.append(error)
                continue
            for damage in errors:
                _log.warning("warning: %s. %s is taken instead", damage, path.name)
            return path, content
        if errors:
            raise CheckpointError(
                f"none of the {len(errors)} checkpoints in {self.folder} can be read; restore one from a copy, or "
                f"begin a new run. The newest: {errors[0]}"
            )
        raise CheckpointError(f"{self.folder} holds no checkpoint")


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values to a file. It appears complete or, if the process or the machine stops before the
    end, not at all; a file that was there before stays until then.

    Raises:
        CheckpointWriteError: the disk is full or fails; the file that was there before is as it was.
    """
    part = path.with_name(f".{path.name}.part")
    writer: _HashingWriter | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            writer = _HashingWriter(file)
            torch.save({**content, "format": FORMAT}, cast("IO[bytes]", writer))  # torch calls no more than it has
            writer.finish()
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        part.unlink(missing_ok=True)
        # torch turns an error of the file into one of its own, of another kind.
        cause = error if writer is None or writer.error is None else writer.error
        if not isinstance(cause, OSError):
            raise
        mebibytes = _tensor_bytes(content) / 2**20
        raise CheckpointWriteError(f"{path}, about {mebibytes:,.1f} MiB, cannot be written: {cause}") from cause


class _HashingWriter:
    """The file that torch writes an archive to, front to back: passes bytes on and hashes them.

    The end of the archive is held back, for its record gets the length of the comment. ``error`` is the first error of
    the file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self._held = file, hashlib.sha256(), b""
        self.error: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        if len(view) < _END_BYTES:
            joined = self._held + bytes(view)
            self._pass_on(joined[:-_END_BYTES])
            self._held = joined[-_END_BYTES:]
        else:
            self._pass_on(self._held)
            self._pass_on(view[:-_END_BYTES])
            self._held = bytes(view[-_END_BYTES:])
        return len(view)

    def finish(self) -> None:
        """Write the end of the archive and the comment with the hash.

        Raises:
            CheckpointError: what was written does not end as an archive without a comment.
        """
        if not (self._held.startswith(_END_MARK) and self._held.endswith(b"\0\0")):
            raise CheckpointError(f"torch {torch.__version__} wrote no plain zip archive; use a version that does")
        self._pass_on(self._held[:-2] + _COMMENT_BYTES.to_bytes(2, "little"))
        self._pass_on(_MARK + self._hash.hexdigest().encode())

    def flush(self) -> None:
        """Nothing: what is held back is written by :meth:`finish` alone."""

    def _pass_on(self, data: bytes | memoryview) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise
        self._hash.update(data)


def _tensor_bytes(value: object) -> int:
    """The bytes of all tensors in nested mappings and sequences, which are nearly all of a checkpoint's."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(_tensor_bytes, value.values()))
    return sum(map(_tensor_bytes, value)) if isinstance(value, list | tuple) else 0


def load(path: Path, *, onto: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's content, ``format`` included, with its tensors on the device ``onto``; its hash is checked first.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedCheckpointError: its bytes do not have the hash that it carries.
        CheckpointError: it is not a checkpoint of this program, or one of a former version that is damaged.
    """
    try:
        with path.open("rb") as file:
            hashed = _check_hash(file, path)
            file.seek(0)
            content = torch.load(file, map_location=onto, weights_only=True)
    except (FileNotFoundError, CheckpointError):
        raise
    except Exception as error:  # torch's reader and unpickler raise many kinds for what is no checkpoint
        # torch's own words advise to load the file without protection, so neither they nor their traceback are shown.
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {_reason(error)}") from None
    written = content.get("format") if isinstance(content, dict) else None
    if written not in (FORMAT, FORMER):
        raise CheckpointError(
            f"{path} is not a checkpoint of tmor_train ({FORMAT}); give one that a run wrote into its checkpoints/"
        )
    if written == FORMAT and not hashed:
        raise DamagedCheckpointError(
            f"{path} is damaged: the SHA-256 at its end is missing or changed; use an earlier one"
        )
    return dict(content)


def _check_hash(file: IO[bytes], path: Path) -> bool:
    """Whether the file ends with a hash, which then is that of its other bytes.

    Raises:
        DamagedCheckpointError: it is another one.
    """
    left = file.seek(0, os.SEEK_END) - _COMMENT_BYTES
    if left < _END_BYTES:
        return False
    file.seek(left)
    comment = file.read(_COMMENT_BYTES)
    if not comment.startswith(_MARK):
        return False
    file.seek(0)
    found = hashlib.sha256()
    while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
        found.update(block)
        left -= len(block)
    if found.hexdigest().encode() != comment[len(_MARK) :]:
        raise DamagedCheckpointError(
            f"{path} is damaged: the SHA-256 of its bytes is not the one it was written with; use an earlier one"
        )
    return True


def _reason(error: Exception) -> str:
    """Why torch did not read a file, without its advice, and what to do."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if named:
        return (
            f"it refers to {named[1]}, which no checkpoint does and which may run code; do not use it, but one from "
            "a source that you know"
        )
    if isinstance(error, pickle.UnpicklingError):
        return "it is no file of tensors and plain values, or is damaged; use an earlier one"
    return f"{next(iter(str(error).splitlines()), '') or type(error).__name__}; use an earlier one"


def load_latest(path: Path) -> tuple[Path, dict[str, Any]]:
    """The path and content of the checkpoint that ``path`` names: a file, or the newest that can be read in a run's
    folder or in its folder of checkpoints; the best is taken only where its file is named.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    if path.is_file():
        return path, load(path)
    for folder in _folders(path):
        if Checkpoints(folder).all():
            return Checkpoints(folder).latest()
    raise CheckpointError(
        f"{path} is neither a checkpoint nor a folder with checkpoints; name a run's folder or a file step-….pt in it"
    )


def newest_of(path: Path) -> Path | None:
    """The newest checkpoint, readable or not, in a run's folder or in its folder of checkpoints; None without one."""
    return next((Checkpoints(folder).all()[-1] for folder in _folders(path) if Checkpoints(folder).all()), None)


def _folders(path: Path) -> tuple[Path, Path]:
    """Where the checkpoints are that the name of a folder means."""
    return path / "checkpoints", path
