"""Which files a run's data came from, by their SHA-256: recorded as the files are read, and compared on resume.

Readers call ``record_…`` for each file whose content they use; outside of :func:`recording` that does nothing. Hashes
of a posecap dataset are those in its parts' sidecars, so its files are not read for them (``posecap verify`` compares
them with the files); those of other files are computed from the bytes that are read anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from posecap.files import digest, file_sha256
from posecap.shards import Dataset, read_sidecar
from posecap.storage import open_storage
from posecap.uris import public_uri

MOST_FILES = 4096
"""Files of one folder that are recorded by name, a free choice; of more (NTU has 56,880) one hash of all their names
and hashes is recorded, for records are part of every checkpoint."""
_NAMED = 4  # changes that a message names
_SHOWN = 12  # hex digits of a hash in messages


@dataclass(frozen=True)
class Inputs:
    """``files``: SHA-256 (64 hex digits) by path or URL, of what was read. ``about``: what made them, words by name
    (the model files and the pipeline of a posecap dataset); it explains a change of files, and alone is none."""

    files: Mapping[str, str]
    about: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Its fields, sorted by name, as JSON values."""
        return {"files": dict(sorted(self.files.items())), "about": dict(sorted(self.about.items()))}

    @classmethod
    def from_json(cls, values: object) -> Inputs:
        """From what :meth:`as_json` gave.

        Raises:
            ValueError: it is something else.
        """
        known = values if isinstance(values, dict) else {}
        files, about = known.get("files"), known.get("about")
        if not isinstance(files, dict) or not isinstance(about, dict):
            raise ValueError("the record of the data's files is damaged")
        if not all(map(_is_text, (*files.items(), *about.items()))):
            raise ValueError("the record of the data's files is damaged")
        return cls(files, about)

    def with_files(self, files: Mapping[str, str]) -> Inputs:
        """The same with more files."""
        return Inputs({**self.files, **files}, self.about)

    def differences(self, now: Inputs) -> str:
        """What differs in ``now``, in words with old and new hashes, the models first; empty where all files are the
        same, be it in another place."""
        if sorted(self.files.values()) == sorted(now.files.values()):
            return ""
        files = _differences(self.files, now.files)
        found = [*_differences(self.about, now.about), *files]
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return "; ".join(found[:_NAMED]) + more


def _is_text(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], str)


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if new is None and old is not None:
            found.append(f"{name} ({old[:_SHOWN]}) is not there now")
        elif old is None and new is not None:
            found.append(f"{name} ({new[:_SHOWN]}) is new")
        elif old is not None and new is not None and old != new:
            found.append(f"{name} was {old[:_SHOWN]} and is {new[:_SHOWN]}")
    return found


class Recorder:
    """What was recorded so far, in the block of :func:`recording`."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._about: dict[str, set[str]] = {}

    @property
    def inputs(self) -> Inputs:
        """All of it; folders of more than :data:`MOST_FILES` files as one entry each."""
        files: dict[str, str] = {}
        for folder, group in groupby(sorted(self._files), key=lambda name: name.rpartition("/")[0]):
            names = list(group)
            if len(names) > MOST_FILES:
                files[f"{folder}/ ({len(names):,} files)"] = digest({name: self._files[name] for name in names})
            else:
                files |= {name: self._files[name] for name in names}
        return Inputs(files, {name: ", ".join(sorted(words)) for name, words in self._about.items()})

    def add(self, name: str, sha256: str) -> None:
        self._files[name] = sha256

    def add_about(self, name: str, words: str) -> None:
        self._about.setdefault(name, set()).add(words)


_recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def recording() -> Iterator[Recorder]:
    """Records what readers read in the block, in this thread; of nested blocks the innermost records."""
    recorder = Recorder()
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        _recorder.reset(token)


def record_bytes(path: Path, content: bytes) -> None:
    """A file whose whole content is ``content``."""
    if (recorder := _recorder.get()) is not None:
        recorder.add(path.as_posix(), hashlib.sha256(content).hexdigest())


def record_file(path: Path) -> None:
    """A file that is read in pieces; it is read once more, for its hash."""
    if (recorder := _recorder.get()) is not None:
        recorder.add(path.as_posix(), file_sha256(path))


def record_parts(location: str, split: str | None, *, read: Literal["columns", "tar"]) -> None:
    """The parts of a split (None: of all) of a posecap dataset, by their sidecars: their indexes, the files ``read``,
    and the models and the pipeline that made them.

    Raises:
        posecap.shards.ShardError: a sidecar is missing or damaged.
    """
    recorder = _recorder.get()
    if recorder is None:
        return
    storage, place = open_storage(location), public_uri(location.rstrip("/"))
    for part, _ in Dataset(storage).parts(split):
        document = read_sidecar(storage, part, names="stored")
        for name, entry in document["files"].items():
            # Tars of videos, which training does not read, are named video-….tar.
            if name.endswith((f".{read}", ".parquet")) and "/video-" not in name:
                recorder.add(f"{place}/{name}", entry["sha256"])
        lineage = document.get("lineage")
        weights = lineage.get("weights") if isinstance(lineage, dict) else None
        for model, sha256 in weights.items() if isinstance(weights, dict) else ():
            recorder.add_about(f"{place}: model {model}", str(sha256))
        recorder.add_about(f"{place}: pipeline", digest(document.get("pipeline")))
