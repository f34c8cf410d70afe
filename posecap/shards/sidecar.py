"""JSON documents with a checksum: a part's sidecar, the list of a dataset's parts, and the tombstones.

A document's key ``seal`` is the SHA-256 of its other content, so that damage is detected. The bytes are canonical:
reading a document and writing it again gives the same file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

from posecap import legacy
from posecap.files import canonical_json, parse_json
from posecap.outcomes import ClipOutcome, RowOutcome
from posecap.shards import paths
from posecap.shards.paths import ShardError
from posecap.storage import Location, Storage, open_storage
from posecap.types import PartName

# The checksum's own member in a document's bytes, with the commas around it.
_SEAL = re.compile(rb'(,?)"seal":"([0-9a-f]{64})"(,?)')
_TIME_TYPES = frozenset({float, int, type(None)})
"""Of the start and end of a clip, which are None for what is no span."""
_REBUILD = "delete it and run `posecap build` again: only this part is rebuilt"
"""The remedy for a damaged sidecar."""


def encode_document(document: Mapping[str, Any]) -> bytes:
    """The document's bytes, with its checksum."""
    # A part's rows are many, so that they are encoded once, for the checksum and for the file.
    before = canonical_json({key: value for key, value in document.items() if key < "seal"})[1:-1]
    after = canonical_json({key: value for key, value in document.items() if key > "seal"})[1:-1]
    without = b",".join(members for members in (before, after) if members)
    seal = b'"seal":"%b"' % hashlib.sha256(b"{%b}" % without).hexdigest().encode()
    return b"{%b}\n" % b",".join(members for members in (before, seal, after) if members)


def decode_document(content: bytes, *, name: str, remedy: str = _REBUILD) -> dict[str, Any]:
    """The document without its checksum.

    Args:
        name: of the file, with which messages begin.
        remedy: what to do about a damaged one, with which messages end.

    Raises:
        ShardError: larger than 256 MiB, not a document of this format, or its checksum does not match.
    """
    if len(content) > paths.MAX_DOCUMENT_BYTES:
        raise ShardError(f"{name} is larger than {paths.MAX_DOCUMENT_BYTES} bytes, which no such file is; {remedy}")
    document = _sound_document(content)
    if document is None:
        raise ShardError(f"{name} is damaged: its checksum (seal) does not match its content; {remedy}")
    if document.get("format") != paths.FORMAT:
        raise ShardError(
            f"{name} has format {document.get('format')!r}, this posecap reads {paths.FORMAT}; update posecap"
        )
    return dict(document)


def _sound_document(content: bytes) -> dict[str, Any] | None:
    """The document without its checksum; None where it is none, or its checksum does not match its bytes.

    The checksum is that of the bytes without the checksum's own member. Hashing those takes a fraction of the time of
    writing the document again, and large datasets have thousands of them.
    """
    found = _SEAL.search(content, max(0, content.rfind(b'"seal":"') - 1))
    try:
        document = parse_json(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(seal := document.pop("seal", None), str) or found is None:
        return None
    without = content[: found.start()] + (b"," if found[1] and found[3] else b"") + content[found.end() : -1]
    if found[2].decode() == seal == hashlib.sha256(without).hexdigest() and content.endswith(b"\n"):
        return document
    # A key or a reason of a tombstone may look like the checksum.
    try:
        return document if encode_document(document) == content else None
    except (ValueError, RecursionError):
        return None


def read_document(location: Location, relative: str, *, remedy: str = _REBUILD) -> dict[str, Any]:
    """A document with a checksum.

    Raises:
        ShardError: missing, larger than 256 MiB, or damaged.
    """
    ((_, content),) = _contents(open_storage(location), [relative], remedy)
    return decode_document(content, name=relative, remedy=remedy)


def _contents(storage: Storage, names: Iterable[str], remedy: str = _REBUILD) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each document, in order.

    Raises:
        ShardError: one of them is missing or too large.
    """
    try:
        yield from storage.read_each(names, limit=paths.MAX_DOCUMENT_BYTES)
    except FileNotFoundError as error:
        relative = str(error.filename).removeprefix(storage.location).lstrip("/")
        raise ShardError(f"{relative} does not exist under {storage.location}") from None
    except ShardError as error:
        raise ShardError(f"{error}; {remedy}") from None


def _sidecar_contents(storage: Storage) -> Iterator[tuple[PartName, bytes]]:
    """Every committed part, in order, with the bytes of its sidecar."""
    parts = paths.committed(storage)
    contents = _contents(storage, map(paths.sidecar_path, parts))
    yield from ((part, content) for part, (_, content) in zip(parts, contents, strict=True))


def read_sidecar(
    location: Location, part: PartName, *, names: Literal["present", "stored"] = "present"
) -> dict[str, Any]:
    """The sidecar of a committed part.

    Args:
        names: ``present`` replaces names that have changed since posecap 0.1 (:mod:`posecap.legacy`), except in
            ``rows``, which :meth:`posecap.outcomes.RowOutcome.from_json` reads; ``stored`` leaves all as they are
            written, which is faster where neither ``counts`` nor ``pipeline`` is used.

    Raises:
        ShardError: there is none, it is damaged, or it names files that are not the part's own.
    """
    ((_, content),) = _contents(open_storage(location), [paths.sidecar_path(part)])
    document = _checked(part, content)
    if names == "stored":
        return document
    try:
        return document | {
            key: upgrade(document[key])
            for key, upgrade in (("counts", legacy.upgraded_record), ("pipeline", legacy.upgraded))
            if key in document
        }
    except RecursionError:
        raise ShardError(f"{paths.sidecar_path(part)} is nested too deeply; {_REBUILD}") from None


def _checked(part: PartName, content: bytes) -> dict[str, Any]:
    """The sidecar of a part from its bytes, in its stored names.

    Raises:
        ShardError: it is damaged, or another part's.
    """
    relative = paths.sidecar_path(part)
    document = decode_document(content, name=relative)
    if odd := [name for name, fits in _fits(part, document).items() if not fits]:
        raise ShardError(f"{relative}: by its {', '.join(odd)} it is not the sidecar of part {part}; {_REBUILD}")
    return document


def _fits(part: PartName, document: Mapping[str, Any]) -> dict[str, bool]:
    """Whether each of a sidecar's fields is the part's and has its type, so that later code need not check.

    Not ``rows``, ``counts`` and ``pipeline``: checking those takes as long as reading them, and few readers do
    (:func:`outcomes_of`).
    """
    files, lineage = document.get("files"), document.get("lineage", {})
    return {
        "part": document.get("part") == str(part),
        "split": document.get("split") == part.split,
        "number": document.get("number") == part.number,
        "samples": type(document.get("samples")) is int,
        "files": isinstance(files, dict)
        and files.keys() <= set(paths.file_paths(part))
        and all(map(_is_entry, files.values())),
        "results": _is_entry(document.get("results", {"sha256": "", "size_bytes": 0})),
        "fingerprint": isinstance(document.get("fingerprint", ""), str),
        "lineage": isinstance(lineage, dict) and all(_is_of_words(words) for words in lineage.values()),
    }


def _is_entry(value: Any) -> bool:
    """Whether it is the hash and size of a file."""
    if not isinstance(value, dict) or value.keys() != {"sha256", "size_bytes"}:
        return False
    return type(value["size_bytes"]) is int and isinstance(value["sha256"], str)


def _is_of_words(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(word, str) for word in value.values())


def outcomes_of(part: PartName, rows: Any) -> list[RowOutcome]:
    """The outcomes that a sidecar's ``rows``, or some of them, give.

    Raises:
        ShardError: they are something else, or words or times of theirs are none.
    """
    try:
        outcomes = [RowOutcome.from_json(row) for row in rows]
    except (KeyError, TypeError, RecursionError):
        raise odd_rows(part) from None
    every: list[RowOutcome | ClipOutcome] = [*outcomes, *(clip for row in outcomes for clip in row.clips)]
    words = chain(
        (word for one in every for word in (one.status, one.stage, one.reason, one.detail)),
        (word for row in outcomes for word in (row.row_id, row.uri)),
        (clip.clip_id or "" for row in outcomes for clip in row.clips),
    )
    seconds = (value for row in outcomes for clip in row.clips for value in (clip.start_seconds, clip.end_seconds))
    if not all(isinstance(word, str) for word in words) or not all(type(v) in _TIME_TYPES for v in seconds):
        raise odd_rows(part)
    return outcomes


def odd_rows(part: PartName) -> ShardError:
    """The error of a sidecar whose ``rows`` are something else than :func:`outcomes_of` reads."""
    return ShardError(f"{paths.sidecar_path(part)}: its rows are not the outcomes of rows; {_REBUILD}")


def sidecars(location: Location) -> Iterator[tuple[PartName, dict[str, Any]]]:
    """Every committed part of a dataset, in order, with its sidecar in its stored names.

    Raises:
        ShardError: one of them is damaged.
    """
    for part, content in _sidecar_contents(open_storage(location)):
        yield part, _checked(part, content)


def each_sidecar(location: Location) -> Iterator[tuple[PartName, dict[str, Any] | ShardError]]:
    """As :func:`sidecars`, with the error in place of a damaged sidecar."""
    for part, content in _sidecar_contents(open_storage(location)):
        try:
            yield part, _checked(part, content)
        except ShardError as error:
            yield part, error


def sidecar_hashes(location: Location, parts: Sequence[PartName]) -> Iterator[tuple[PartName, str]]:
    """SHA-256 of the sidecars of committed parts.

    Raises:
        ShardError: one of them is missing.
    """
    contents = _contents(open_storage(location), map(paths.sidecar_path, parts))
    for part, (_, content) in zip(parts, contents, strict=True):
        yield part, hashlib.sha256(content).hexdigest()


def damaged_files(
    location: Location, document: Mapping[str, Any], *, sizes: Mapping[str, int] | None = None
) -> list[str]:
    """Files that a sidecar names and that are missing or have another size; their content is not read.

    Args:
        sizes: of the files that are there, by name; None asks for that of each.
    """
    size = open_storage(location).size if sizes is None else sizes.get
    return [name for name, entry in document["files"].items() if size(name) != entry["size_bytes"]]


def dataset_list(location: Location) -> dict[str, Any]:
    """The content of ``dataset.json``: every committed part with its number of samples, its sidecar's hash and size.

    Raises:
        ShardError: a sidecar is damaged.
    """
    storage = open_storage(location)
    return list_of((part, _checked(part, content)["samples"], content) for part, content in _sidecar_contents(storage))


def list_of(parts: Iterable[tuple[PartName, int, bytes]]) -> dict[str, Any]:
    """The content of a ``dataset.json`` that lists these parts, each with its samples and the bytes of its sidecar."""
    listed = [{"part": str(part), "samples": samples, "sidecar": _written(content)} for part, samples, content in parts]
    return {"format": paths.FORMAT, "parts": listed}


def is_listed(location: Location) -> bool:
    """Whether ``dataset.json`` lists the parts that are committed, with their sidecars as they are.

    A list that is missing or damaged lists none. Sidecars are hashed and not parsed, so that this takes a tenth of a
    second for a thousand parts.
    """
    try:
        listed = {entry["part"]: entry["sidecar"] for entry in read_document(location, paths.DATASET_LIST)["parts"]}
    except (ShardError, KeyError, TypeError):
        return False
    storage = open_storage(location)
    if len(paths.committed(storage)) != len(listed):
        return False
    return all(listed.get(str(part)) == _written(content) for part, content in _sidecar_contents(storage))


def _written(content: bytes) -> dict[str, str | int]:
    """Hash and size of a file with this content, as ``dataset.json`` has them."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def write_dataset_list(location: Location) -> dict[str, Any]:
    """Write ``dataset.json``, from which readers that cannot list directories get the parts.

    Raises:
        ShardError: a sidecar is damaged.
    """
    document = dataset_list(location)
    open_storage(location).write(paths.DATASET_LIST, encode_document(document))
    return document
