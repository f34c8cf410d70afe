"""Extra members of samples: vectors of further models and captions of further captioners, beside those of the samples.

A member is called by its kind and a name, as ``text.minilm``: a vector of each caption. ``video.NAME`` is a vector of
each clip's frames, ``captions.NAME`` are sentences of one captioner. A sample's own files do not change when a member
is added or removed, so a reader that knows of none, as posecap 0.1, reads the dataset as it was::

    extra/{member}/{split}-00042.arrow   the member of the samples of a part, an Arrow IPC file, uncompressed
    extra/{member}/{split}-00042.json    its sidecar, written last: what it was made with, and where a sample has none
    extra.json                           the members that are there, by part; what is not in it, no reader sees

The Arrow file has a row for each sample of the part that is not removed, in the order of its tar: ``key``, and

* ``video``: ``vector``, D float32 of length 1, none where it could not be made; ``start_seconds`` and ``end_seconds``
  (exclusive) of the frames that it is made from, 0 and 0 for none;
* ``text``: ``vector``, C x D float32, and ``counts``, whose sum is C: how many of the C captions are the sample's own,
  which come first, and how many are those of each of the members of captions that its sidecar names, in that order;
* ``captions``: the sentences, none where the captioner had nothing to say or could not be asked.

A batch holds 1,024 samples; equal content gives equal bytes, with the same version of pyarrow.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posecap.files import digest
from posecap.shards import paths
from posecap.shards.paths import ShardError
from posecap.shards.serialization import mapped_values
from posecap.shards.sidecar import decode_document, encode_document
from posecap.storage import Location, Storage, StorageFile, open_storage
from posecap.types import PartName, Span

Kind = Literal["video", "text", "captions"]
"""What a member is."""
_REMEDY = "delete it and run `posecap add` again: only this part of the member is made again"
_LIST_REMEDY = "run `posecap add` again, or `posecap verify --repair`, which write it anew"
_BATCH_ROWS = 1024
"""Samples of a batch, our choice: of 384 numbers for each of five captions it takes 8 MB."""
_KEY = pa.field("key", pa.string(), nullable=False)
_VECTOR = pa.field("vector", pa.large_list(pa.field("item", pa.float32(), nullable=False)), nullable=False)
_SECONDS = tuple(pa.field(f"{end}_seconds", pa.float64(), nullable=False) for end in ("start", "end"))
_WORDS = pa.list_(pa.field("item", pa.string(), nullable=False))
_NUMBERS = pa.list_(pa.field("item", pa.int32(), nullable=False))
_COLUMNS: Mapping[str, Sequence[Any]] = {
    "video": (_VECTOR, *_SECONDS),
    "text": (pa.field("counts", _NUMBERS, nullable=False), _VECTOR),
    "captions": (pa.field("captions", _WORDS, nullable=False),),
}
EXTRA_SCHEMAS: Final = {
    kind: pa.schema([_KEY, *columns], metadata={"posecap.format": "1", "posecap.extra": kind})
    for kind, columns in _COLUMNS.items()
}
"""The columns of a member's file, by kind."""
_NAME = re.compile(rf"({'|'.join(get_args(Kind))})\.([a-z0-9][a-z0-9_-]{{0,47}})")
_FILE = re.compile(r"extra/([a-z]+\.[a-z0-9_-]+)/([A-Za-z0-9_-]{1,64})-(\d{5,9})\.(?:json|arrow)")


@dataclass(frozen=True, slots=True, order=True)
class MemberName:
    """A kind and a name of 1 to 48 lower-case letters, digits, ``_`` or ``-``; ``str`` gives ``text.minilm``.

    Raises:
        ShardError: the kind is none, or the name has other characters.
    """

    kind: Kind
    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(str(self)):
            raise ShardError(
                f"{self}: an extra member is called video.NAME, text.NAME or captions.NAME; NAME has 1 to 48 "
                "lower-case letters, digits, '_' or '-'"
            )

    @classmethod
    def of(cls, text: str) -> MemberName:
        """The member that ``text.minilm`` names; ShardError for other text."""
        kind, _, name = text.partition(".")
        return cls(kind, name)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}"


def extra_path(member: MemberName, part: PartName) -> str:
    """The file of a member of the samples of a part, relative to the dataset's folder, as the path below."""
    return f"{paths.EXTRA_FOLDER}/{member}/{part.split}-{part.number:05d}.arrow"


def extra_sidecar_path(member: MemberName, part: PartName) -> str:
    return f"{paths.EXTRA_FOLDER}/{member}/{part.split}-{part.number:05d}.json"


def extra_file(name: str) -> tuple[MemberName, PartName] | None:
    """Member and part of a file by its name; None for a file of something else."""
    found = _FILE.fullmatch(name)
    if found is None or not _NAME.fullmatch(found[1]):
        return None
    member, part = MemberName.of(found[1]), PartName(found[2], int(found[3]))
    return (member, part) if name in (extra_path(member, part), extra_sidecar_path(member, part)) else None


@dataclass(frozen=True, slots=True)
class Added:
    """What a member has for one sample.

    Args:
        vector: (D) float32 for ``video``, (C, D) for ``text``; None for ``captions``, and where there is none.
        counts: of ``text``, as the file has them.
        span: of the frames that a vector of ``video`` is made from.
        captions: the sentences of ``captions``.
    """

    vector: NDArray[np.float32] | None = None
    counts: tuple[int, ...] = ()
    span: Span | None = None
    captions: tuple[str, ...] = ()


def write_extra(file: StorageFile, kind: Kind, rows: Iterable[tuple[str, Added]]) -> int:
    """Write a member of the samples of a part, in order; returns the number of those that have a vector or a sentence.

    Raises:
        ShardError: a vector holds NaN or infinity, or has another number of axes than its kind.
    """
    count, waiting = 0, list[tuple[str, Added]]()
    with pa.ipc.new_file(file, EXTRA_SCHEMAS[kind]) as writer:
        for row in rows:
            waiting.append(row)
            count += row[1].vector is not None or bool(row[1].captions)
            if len(waiting) == _BATCH_ROWS:
                writer.write_batch(_batch(kind, waiting))
                waiting = []
        if waiting:
            writer.write_batch(_batch(kind, waiting))
    return count


def _batch(kind: Kind, rows: Sequence[tuple[str, Added]]) -> Any:
    columns: list[Any] = [pa.array([key for key, _ in rows], pa.string())]
    if kind == "captions":
        columns.append(pa.array([list(one.captions) for _, one in rows], _WORDS))
        return pa.record_batch(columns, schema=EXTRA_SCHEMAS[kind])
    axes = 1 if kind == "video" else 2
    for key, one in rows:
        if one.vector is not None and (one.vector.ndim != axes or not np.isfinite(one.vector).all()):
            raise ShardError(f"sample {key}: a vector of {kind} must have {axes} axes and no NaN or infinity")
    none = np.zeros((0,) * axes, np.float32)
    vectors = [none if one.vector is None else one.vector for _, one in rows]
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([vector.size for vector in vectors], out=offsets[1:])
    flat = np.concatenate([vector.reshape(-1) for vector in vectors]).astype(np.float32, copy=False)
    column = pa.LargeListArray.from_arrays(offsets, pa.array(flat), type=_VECTOR.type)
    if kind == "text":
        for (key, one), vector in zip(rows, vectors, strict=True):
            if len(vector) != sum(one.counts):
                raise ShardError(f"sample {key}: {len(vector)} vectors of {sum(one.counts)} captions")
        columns += [pa.array([list(one.counts) for _, one in rows], _NUMBERS), column]
    else:
        spans = [(0.0, 0.0) if one.span is None else (one.span.start_seconds, one.span.end_seconds) for _, one in rows]
        columns += [column, *(pa.array([span[end] for span in spans], pa.float64()) for end in (0, 1))]
    return pa.record_batch(columns, schema=EXTRA_SCHEMAS[kind])


class ExtraRows:
    """A member of the samples of one part, by key.

    Args:
        kind: of the member.
        base: bytes of the file, of which vectors are views; writable, so that they may become tensors.

    Raises:
        ShardError: it is no such file, or damaged, as far as reading it tells; its hash is not compared.
    """

    def __init__(self, kind: Kind, base: NDArray[np.uint8]) -> None:
        self.kind, self.base = kind, base
        self.keys: list[str] = []
        self._at: dict[str, tuple[_ExtraBatch, int]] = {}
        try:
            reader = pa.ipc.open_file(pa.py_buffer(base))
            if not reader.schema.equals(EXTRA_SCHEMAS[kind], check_metadata=True):
                raise ShardError(f"its columns are not those of an extra member of {kind}")
            for number in range(reader.num_record_batches):
                batch = _ExtraBatch(kind, reader.get_batch(number), base)
                self.keys += batch.keys
                self._at.update((key, (batch, row)) for row, key in enumerate(batch.keys))
        except (pa.ArrowException, UnicodeError, OSError) as error:
            raise ShardError(f"cannot be read: {error}") from error
        if len(self._at) != len(self.keys):
            raise ShardError("it has a sample twice")

    def has(self, key: str) -> bool:
        """Whether it has a row for a sample."""
        return key in self._at

    def vector(self, key: str) -> NDArray[np.float32]:
        """(D) of ``video``, D 0 where there is none; (C, D) of ``text``, D 0 where there are no captions.

        Raises:
            ShardError: there is no such sample.
        """
        batch, row = self._row(key)
        flat = batch.values[batch.bounds[row] : batch.bounds[row + 1]]
        if self.kind == "video":
            return flat
        captions = sum(batch.counts[row])
        return flat.reshape(captions, len(flat) // captions if captions else 0)

    def counts(self, key: str) -> list[int]:
        """Of ``text``, how many of the vectors are of the sample's own captions and of each member of captions; raises
        as :meth:`vector`."""
        batch, row = self._row(key)
        return list(batch.counts[row])

    def captions(self, key: str) -> list[str]:
        """The sentences of ``captions``; raises as :meth:`vector`."""
        batch, row = self._row(key)
        return list(batch.words[row])

    def span(self, key: str) -> tuple[float, float]:
        """Start and end of the frames of a vector of ``video``; raises as :meth:`vector`."""
        batch, row = self._row(key)
        return batch.spans[0][row], batch.spans[1][row]

    def added(self, key: str) -> Added:
        """All that there is of a sample, as :func:`write_extra` takes it; raises as :meth:`vector`."""
        if self.kind == "captions":
            return Added(captions=tuple(self.captions(key)))
        vector = self.vector(key)
        if self.kind == "text":
            return Added(vector, tuple(self.counts(key)))
        start, end = self.span(key)
        if vector.size and not 0 <= start < end:
            raise ShardError(f"the frames of sample {key} are from {start} to {end} s")
        return Added(vector, span=Span(start, end)) if vector.size else Added()

    def _row(self, key: str) -> tuple[_ExtraBatch, int]:
        found = self._at.get(key)
        if found is None:
            raise ShardError(f"it has no row for sample {key}: run `posecap add` again")
        return found


class _ExtraBatch:
    """A batch of a member's file; ShardError where its columns disagree."""

    def __init__(self, kind: Kind, batch: Any, base: NDArray[np.uint8]) -> None:
        batch.validate(full=True)
        if any(column.null_count for column in batch.columns):
            raise ShardError("it holds nulls")
        self.keys: list[str] = batch.column("key").to_pylist()
        if kind == "captions":
            self.words: list[list[str]] = batch.column("captions").to_pylist()
            return
        column = batch.column("vector")
        self.bounds: list[int] = column.offsets.to_pylist()
        self.values: NDArray[np.float32] = mapped_values(column.values, "<f4", base)
        if kind == "video":
            self.spans = tuple(batch.column(f"{end}_seconds").to_pylist() for end in ("start", "end"))
            return
        self.counts: list[list[int]] = batch.column("counts").to_pylist()
        for counts, start, end in zip(self.counts, self.bounds, self.bounds[1:], strict=False):
            if min(counts, default=0) < 0 or (end - start) % max(sum(counts), 1) or (end > start and not sum(counts)):
                raise ShardError("it has vectors whose number is not that of their captions")


@dataclass(frozen=True)
class ExtraPart:
    """The sidecar of a member of the samples of one part.

    Args:
        fingerprint: SHA-256 of all that shapes the member beside the samples: what made it, versions and weights.
        inputs: SHA-256 of what it was made for (:func:`inputs_of`).
        pipeline, lineage: what made it, as in the sidecar of a part.
        file: SHA-256 and size of its file.
        samples: rows of the file; ``dimension``: D, 0 for captions.
        captions: names of the members of captions that a member of texts covers, in order.
        missing: stage, reason and detail by the key of each sample that has none since it could not be made.
    """

    member: MemberName
    part: PartName
    fingerprint: str
    inputs: str
    pipeline: Sequence[Any]
    lineage: Mapping[str, Mapping[str, str]]
    file: Mapping[str, Any]
    samples: int
    dimension: int
    captions: tuple[str, ...] = ()
    missing: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The bytes of the sidecar."""
        document = {
            "format": paths.FORMAT,
            "member": str(self.member),
            "part": str(self.part),
            "fingerprint": self.fingerprint,
            "inputs": self.inputs,
            "pipeline": list(self.pipeline),
            "lineage": {name: dict(words) for name, words in self.lineage.items()},
            "file": dict(self.file),
            "samples": self.samples,
            "dimension": self.dimension,
            "captions": list(self.captions),
            "missing": {key: list(why) for key, why in self.missing.items()},
        }
        return encode_document(document)

    @classmethod
    def decode(cls, content: bytes, member: MemberName, part: PartName) -> ExtraPart:
        """From the bytes of a sidecar.

        Raises:
            ShardError: they are damaged, or another's.
        """
        name = extra_sidecar_path(member, part)
        document = decode_document(content, name=name, remedy=_REMEDY)
        try:
            if (document["member"], document["part"]) != (str(member), str(part)):
                raise ShardError(f"{name} is that of {document['member']} of part {document['part']}; {_REMEDY}")
            file = {"sha256": str(document["file"]["sha256"]), "size_bytes": int(document["file"]["size_bytes"])}
            missing = {str(key): _why(why) for key, why in document["missing"].items()}
            return cls(
                member=member,
                part=part,
                fingerprint=str(document["fingerprint"]),
                inputs=str(document["inputs"]),
                pipeline=list(document["pipeline"]),
                lineage={str(n): {str(k): str(v) for k, v in w.items()} for n, w in document["lineage"].items()},
                file=file,
                samples=int(document["samples"]),
                dimension=int(document["dimension"]),
                captions=tuple(map(str, document["captions"])),
                missing=missing,
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, ShardError):
                raise
            raise ShardError(f"{name} is not the sidecar of an extra member ({error!r}); {_REMEDY}") from error


def _why(why: Sequence[str]) -> tuple[str, str, str]:
    stage, reason, detail = map(str, why)
    return stage, reason, detail


def read_extra_part(location: Location, member: MemberName, part: PartName) -> ExtraPart | None:
    """The sidecar of a member of a part's samples; None where there is none.

    Raises:
        ShardError: it is damaged.
    """
    try:
        content = open_storage(location).read(extra_sidecar_path(member, part), limit=paths.MAX_DOCUMENT_BYTES)
    except FileNotFoundError:
        return None
    return ExtraPart.decode(content, member, part)


def inputs_of(kind: Kind, table: Any, more: Sequence[Sequence[Sequence[str]]] = ()) -> str:
    """SHA-256 of what a member is made for: keys of samples and, for ``text``, their captions.

    Args:
        table: columns ``key`` and ``captions`` of the index of the part, without removed samples.
        more: of members of captions, in the order in which a member of texts covers them: sentences by sample.
    """
    keys = table["key"].to_pylist()
    return digest([keys] if kind != "text" else [keys, table["captions"].to_pylist(), list(more)])


def stored_members(location: Location) -> dict[MemberName, list[PartName]]:
    """Members with the parts of which they have a sidecar, whatever :data:`posecap.shards.paths.EXTRA_LIST` says; the
    store lists its files."""
    found: dict[MemberName, list[PartName]] = {}
    for file in open_storage(location).list(paths.EXTRA_FOLDER):
        of = extra_file(file.name)
        if of is not None and file.name == extra_sidecar_path(*of):
            found.setdefault(of[0], []).append(of[1])
    return {member: sorted(found[member]) for member in sorted(found)}


@dataclass(frozen=True)
class ListedMember:
    """A member as ``extra.json`` lists it: the name of its ``engine``, SHA-256 of its ``weights`` by name, D, the
    members of captions that it covers, and its ``parts``, each with the number of samples that have none."""

    engine: str
    weights: Mapping[str, str]
    dimension: int
    captions: tuple[str, ...]
    parts: Mapping[PartName, int]


def write_extra_list(location: Location, *, leave: MemberName | None = None) -> None:
    """Write ``extra.json`` from the sidecars of members; without any it is deleted.

    Args:
        leave: a member to leave out, as it is about to be replaced.

    Raises:
        ShardError: a sidecar is damaged.
    """
    storage = open_storage(location)
    members: dict[str, Any] = {}
    for member, parts in stored_members(storage).items():
        if member == leave:
            continue
        found = [one for part in parts if (one := read_extra_part(storage, member, part)) is not None]
        last = found[-1]
        members[str(member)] = {
            "engine": _engine_name(last),
            "weights": dict(last.lineage.get("weights", {})),
            "dimension": max(one.dimension for one in found),
            "captions": list(last.captions),
            "parts": {str(one.part): _entry(one) for one in found},
        }
    if not members:
        storage.remove(paths.EXTRA_LIST)
        return
    content = encode_document({"format": paths.FORMAT, "members": members})
    try:
        if storage.read(paths.EXTRA_LIST, limit=paths.MAX_DOCUMENT_BYTES) == content:
            return
    except FileNotFoundError:
        pass
    storage.write(paths.EXTRA_LIST, content)


def _entry(part: ExtraPart) -> dict[str, Any]:
    """A part of a member in the list, with hash and size of its sidecar."""
    content = part.encode()
    sidecar = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    return {"missing": len(part.missing), "sidecar": sidecar}


def _engine_name(part: ExtraPart) -> str:
    """The name of the engine that made a member: that of the only engine of its last stage."""
    last = part.pipeline[-1] if part.pipeline else {}
    engines = [value for value in last.values() if isinstance(value, dict)] if isinstance(last, dict) else []
    return str(engines[0].get("name", "")) if engines else ""


def read_extra_list(location: Location) -> dict[MemberName, ListedMember]:
    """The members of a dataset that readers see; none where there is no list.

    Raises:
        ShardError: the list is damaged.
    """
    try:
        content = open_storage(location).read(paths.EXTRA_LIST, limit=paths.MAX_DOCUMENT_BYTES)
    except FileNotFoundError:
        return {}
    document = decode_document(content, name=paths.EXTRA_LIST, remedy=_LIST_REMEDY)
    try:
        return {
            MemberName.of(name): ListedMember(
                engine=str(one["engine"]),
                weights={str(name): str(sha256) for name, sha256 in one["weights"].items()},
                dimension=int(one["dimension"]),
                captions=tuple(map(str, one["captions"])),
                parts={paths.part_named(part): int(entry["missing"]) for part, entry in one["parts"].items()},
            )
            for name, one in document["members"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ShardError):
            raise
        raise ShardError(f"{paths.EXTRA_LIST} does not list members: {error!r}; {_LIST_REMEDY}") from error


def list_without(content: bytes, keep: Callable[[MemberName, PartName], bool]) -> bytes | None:
    """The bytes of an ``extra.json`` with only those parts of members that are to be kept; None without any.

    Raises:
        ShardError: it is damaged.
    """
    document = decode_document(content, name=paths.EXTRA_LIST, remedy=_LIST_REMEDY)
    members = {
        name: {**one, "parts": kept}
        for name, one in document["members"].items()
        if (kept := {p: e for p, e in one["parts"].items() if keep(MemberName.of(name), paths.part_named(p))})
    }
    return encode_document({**document, "members": members}) if members else None


def read_extra(storage: Storage, member: MemberName, part: PartName) -> ExtraRows:
    """A member of the samples of a part; a remote file is downloaded, a local one mapped.

    Raises:
        ShardError: it is missing or damaged; the message names the file.
    """
    name = extra_path(member, part)
    try:
        return ExtraRows(member.kind, storage.map(name))
    except FileNotFoundError:
        raise ShardError(f"{name} is missing: run `posecap add` again, which makes it") from None
    except ShardError as error:
        raise ShardError(f"{name}: {error}") from error


def more_captions(
    storage: Storage, part: PartName, keys: Sequence[str], covers: Sequence[MemberName]
) -> list[list[list[str]]]:
    """Sentences of members of captions, by sample, as :func:`inputs_of` takes them.

    Raises:
        ShardError: a file of a member is missing or damaged.
    """
    read = [read_extra(storage, member, part) for member in covers]
    return [[rows.captions(key) if rows.has(key) else [] for key in keys] for rows in read]


def remove_from_extra(location: Location, table_of: Mapping[PartName, Any]) -> list[str]:
    """Write members anew without samples that their part does not hold any more, and list them; returns the files. What
    cannot be read is deleted, as it may hold them, and so are parts of members of which no sample is left.

    Args:
        table_of: columns ``key`` and ``captions`` of the index of each part that holds samples.
    """
    storage, changed = open_storage(location), list[str]()
    for member, parts in stored_members(storage).items():  # captions before texts, which cover them
        for part in parts:
            name, table = extra_path(member, part), table_of.get(part)
            try:
                sidecar, rows = read_extra_part(storage, member, part), read_extra(storage, member, part)
                keys = set() if table is None else set(table["key"].to_pylist())
                left = [key for key in rows.keys if key in keys]
                if sidecar is None or not left:
                    raise ShardError("no sample of it is left")
                covers = [MemberName("captions", one) for one in sidecar.captions]
                more = [] if table is None else more_captions(storage, part, table["key"].to_pylist(), covers)
            except ShardError:
                storage.remove(extra_sidecar_path(member, part), name)
                changed.append(name)
                continue
            if len(left) == len(rows.keys):
                continue
            storage.remove_attempts(name)
            with storage.writer(name) as file:
                write_extra(file, member.kind, ((key, rows.added(key)) for key in left))
                written = file.finish()
                storage.remove(extra_sidecar_path(member, part))
                file.publish()
            new = replace(
                sidecar,
                inputs=inputs_of(member.kind, table, more),
                file={"sha256": written.sha256, "size_bytes": written.size_bytes},
                samples=len(left),
                missing={key: why for key, why in sidecar.missing.items() if key in keys},
            )
            storage.write(extra_sidecar_path(member, part), new.encode())
            changed.append(name)
    if changed:
        write_extra_list(storage)
    return changed


def check_extra(storage: Storage, sidecar: ExtraPart, rows: ExtraRows, table: Any) -> Iterator[str]:
    """What is wrong with a member of a part's samples, a sentence for each problem.

    Args:
        table: columns ``key`` and ``captions`` of the index of the part, without removed samples.
    """
    keys = table["key"].to_pylist()
    if rows.keys != keys:
        gone = set(rows.keys) - set(keys)
        yield f"holds {len(gone)} samples that the part does not hold" if gone else "lacks samples of the part"
        return
    if sidecar.samples != len(keys):
        yield f"has {len(keys)} samples, its sidecar says {sidecar.samples}"
    covers = [MemberName("captions", one) for one in sidecar.captions]
    try:
        if sidecar.inputs != inputs_of(rows.kind, table, more_captions(storage, sidecar.part, keys, covers)):
            yield "was made of other captions" if rows.kind == "text" else "was made of other samples"
    except ShardError as error:
        yield f"covers captions that cannot be read ({error})"
    if set(sidecar.missing) - set(keys):
        yield "its sidecar says why samples have none that the part does not hold"
    for key in keys if rows.kind != "captions" else ():
        vector = rows.vector(key)
        if rows.kind == "video" and (not vector.size) != (key in sidecar.missing):
            yield f"sample {key} has {'no' if not vector.size else 'a'} vector, its sidecar says otherwise"
        elif vector.size and (vector.shape[-1] != sidecar.dimension or not np.isfinite(vector).all()):
            yield f"sample {key} has a vector of another length than {sidecar.dimension}, or NaN or infinity"
