"""Checks a dataset on local disk down to the last byte, part by part, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from posecap.checks.parts import PartCheck, Problem, bad, rebuild
from posecap.hashing import file_sha256
from posecap.shards.paths import (
    DATASET_LIST,
    TOMBSTONES,
    ShardError,
    committed,
    index_path,
    sidecar_path,
)
from posecap.shards.sidecar import read_document, read_sidecar
from posecap.shards.tombstones import Tombstones, read_tombstones
from posecap.types import PartName

_REWRITE_LIST = "run `posecap build` again: it is written anew"


@dataclass(frozen=True)
class VerifyResult:
    """How much was checked, and the problems found: none in a sound dataset."""

    parts: int
    samples: int
    size_bytes: int
    problems: tuple[Problem, ...]


def verify(root: Path, *, tolerance_seconds: float = 0.05, max_problems: int = 1000) -> VerifyResult:
    """Check every file, sample and count of a dataset on local disk.

    Every file has the hash given in its sidecar; tar, columns and index hold the same samples, finite, of consistent
    shapes, with times within their clips; every row has one outcome and the counts add up; no key is in two parts;
    every file under ``data`` and ``index`` is listed in a sidecar; and removed clips are gone.

    Args:
        tolerance_seconds: how far frames may lie outside their clip's span.
        max_problems: stop after this many.
    """
    verifier = _Verifier(root, tolerance_seconds)
    problems = tuple(islice(verifier.problems(), max_problems))
    return VerifyResult(verifier.parts, verifier.samples, verifier.size_bytes, problems)


@dataclass
class _Verifier:
    """One pass over a dataset; collects keys and sidecars of all parts to compare them."""

    root: Path
    tolerance_seconds: float
    parts: int = 0
    samples: int = 0
    size_bytes: int = 0
    named: set[str] = field(default_factory=set)
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: list[Any] = field(default_factory=list)
    owners: list[PartName] = field(default_factory=list)
    tombstones: Tombstones = field(default_factory=Tombstones)

    def problems(self) -> Iterator[Problem]:
        try:
            self.tombstones = read_tombstones(self.root)
        except ShardError as error:
            yield Problem(TOMBSTONES, str(error), "nothing else was checked against it")
        for part in committed(self.root):
            yield from self._part(part)
        yield from self._duplicates()
        yield from self._list()
        yield from self._orphans()

    def _part(self, part: PartName) -> Iterator[Problem]:
        self.parts += 1
        path = self.root / sidecar_path(part)
        self.named.add(sidecar_path(part))
        entry = {"sha256": file_sha256(path), "size_bytes": path.stat().st_size}
        self.listed[str(part)] = {"part": str(part), "samples": None, "sidecar": entry}
        try:
            document = read_sidecar(self.root, part)
        except ShardError as error:
            yield Problem(sidecar_path(part), str(error), rebuild(part))
            return
        self.listed[str(part)]["samples"] = document["samples"]
        self.named.update(document["files"])
        damaged = []
        for name, entry in document["files"].items():
            what = self._changed(self.root / name, entry)
            if what:
                damaged.append(name)
                yield bad(part, name, what)
        check = PartCheck(self.root, part, document, damaged, self.tolerance_seconds)
        yield from check.problems()
        self.samples += check.samples
        self.owners.append(part)
        self.keys.append(pa.array(check.keys, pa.string()))
        for key, source in zip(check.keys, check.sources, strict=True):
            if self.tombstones.covers(key, source):
                remedy = "run `posecap remove` with it again"
                yield Problem(index_path(part), "was removed, yet is still there", remedy, key)

    def _changed(self, path: Path, entry: Mapping[str, Any]) -> str:
        """How a file differs from its entry in the sidecar; empty if it does not."""
        if path.is_symlink() or not path.is_file():
            return "is missing, or is no plain file"
        size = path.stat().st_size
        self.size_bytes += size
        if size != entry["size_bytes"]:
            return f"has {size} bytes, the sidecar says {entry['size_bytes']}"
        if file_sha256(path) != entry["sha256"]:
            return "has changed since it was written: its SHA-256 is not the sidecar's"
        return ""

    def _duplicates(self) -> Iterator[Problem]:
        """Keys that occur more than once. All keys are kept in memory, as Arrow strings."""
        if not self.keys:
            return
        counted = pc.value_counts(pa.chunked_array(self.keys))
        twice = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
        for key in twice.to_pylist():
            owners = [
                part for part, keys in zip(self.owners, self.keys, strict=True) if pc.index(keys, key).as_py() >= 0
            ]
            where = ", ".join(map(str, owners))
            yield bad(owners[-1], index_path(owners[-1]), f"the key is there more than once, in {where}", key)

    def _list(self) -> Iterator[Problem]:
        if not (self.root / DATASET_LIST).exists():
            yield Problem(DATASET_LIST, "is missing: the build has not been finished", "run `posecap build` again")
            return
        try:
            document = read_document(self.root, DATASET_LIST, remedy=_REWRITE_LIST)
        except ShardError as error:
            yield Problem(DATASET_LIST, str(error), _REWRITE_LIST)
            return
        entries = document.get("parts")
        listed = {entry["part"]: entry for entry in entries} if isinstance(entries, list) else {}
        for name in sorted(listed.keys() | self.listed.keys()):
            on_disk = self.listed.get(name)
            if on_disk is not None and on_disk["samples"] is None:
                continue  # its sidecar is damaged, which is reported already
            if listed.get(name) != on_disk:
                yield Problem(DATASET_LIST, f"what it says of part {name} is not what is on disk", _REWRITE_LIST)

    def _orphans(self) -> Iterator[Problem]:
        for top in ("data", "index"):
            for folder, _, names in os.walk(self.root / top):
                for name in sorted(names):
                    relative = (Path(folder) / name).relative_to(self.root).as_posix()
                    if relative not in self.named:
                        yield Problem(relative, "no sidecar names this file", "run `posecap build` again, or delete it")
