"""Converts samples to the members of a tar and to rows of a columns file, and back, byte for byte.

Arrays are npy version 1 in C order. They are read without pickle and without copies, and every header is checked.

Tars are reproducible USTAR archives. Every header has mode 0644, owner 0, time 0 and no user names, so equal members
give equal bytes, the same that :mod:`tarfile` writes for them. webdataset's ``TarWriter``, reproducible too, is not
used because it sorts members by name, which format 1 does not, and is slower: ``benchmarks/pack.py`` compares both.

The columns file is an Arrow IPC file that is read by mapping it into memory. Every array column is flat; the columns
``M``, ``T``, ``J`` and ``C`` give the shapes of a row's arrays: joints (M, T, J, 3), pts (T), video (D), text (C, D).
Each D follows from the number of values, so the D of text is lost, and read as 0, where C is 0. The file is not
compressed, so that a row is a view of the mapped file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posecap import legacy
from posecap.files import AtomicFile, canonical_json, parse_json
from posecap.shards.paths import ARRAYS, MAX_FACTS_BYTES, MAX_MEMBER_BYTES, MEMBERS, ShardError, checked_key
from posecap.types import Caption, Sample

if TYPE_CHECKING:
    from typing_extensions import Buffer

MEMBER_NAMES: Final = {ending: name for name, ending in MEMBERS.items()}
"""Names of the pose tar's members by the ending of their file."""
VIDEO_MEMBER_NAMES: Final = {"mp4": "mp4"}
"""Those of the video tar."""

_MAGIC = b"\x93NUMPY\x01\x00"
"""How an npy of version 1.0 begins; the header's length, two bytes, comes next."""
_GROWTH_DIGITS = 21  # numpy leaves room for the first axis to grow in place; kept, so that bytes equal np.save's
# What :func:`npy_header` writes, after the magic bytes and the length.
_WRITTEN = re.compile(rb"\{'descr': '(<f[48])', 'fortran_order': False, 'shape': \(((?:\d{1,12},? ?){0,8})\), \} *\n")


@lru_cache(maxsize=4096)
def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    """The npy header of a C-order array, equal to what ``np.save`` writes."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    if shape:
        text += " " * max(0, _GROWTH_DIGITS - len(str(shape[0])))
    padding = -(len(_MAGIC) + 2 + len(text) + 1) % 64
    written = text.encode("latin-1") + b" " * padding + b"\n"
    return _MAGIC + len(written).to_bytes(2, "little") + written


@lru_cache(maxsize=4096)
def _read_header(written: bytes) -> tuple[str, tuple[int, ...]]:
    """dtype and shape of an npy header, magic bytes and length included.

    Most headers of a dataset are among few (shapes repeat), so they are read once. Raises ShardError for one that
    :func:`npy_header` would not write.
    """
    found = _WRITTEN.fullmatch(written[len(_MAGIC) + 2 :])
    if found is None:
        raise ShardError("npy header is not one that posecap writes")
    descr, shape = found[1].decode(), tuple(int(n) for n in re.findall(rb"\d+", found[2]))
    if npy_header(descr, shape) != written:
        raise ShardError("npy header is not one that posecap writes")
    return descr, shape


def array_in(member: memoryview, *, descr: str, axes: int) -> NDArray[Any]:
    """The array of an npy member, as a view of the member's bytes, writable if these are.

    Args:
        descr: dtype that it must have, such as ``<f4``; the digit is the size of an item in bytes.
        axes: number of axes that it must have.

    Raises:
        ShardError: not such an npy, or its header promises another size than the member has.
    """
    start = len(_MAGIC) + 2 + int.from_bytes(member[8:10], "little")
    if bytes(member[:8]) != _MAGIC or start > len(member):
        raise ShardError("not an npy member of version 1")
    found, shape = _read_header(bytes(member[:start]))
    if found != descr or len(shape) != axes:
        raise ShardError(f"npy holds {found} with shape {shape}, expected {descr} with {axes} axes")
    items = prod(shape)
    if items * int(descr[2]) != len(member) - start:
        raise ShardError(f"npy header promises {items} items of {descr}, the member holds {len(member) - start} bytes")
    return np.frombuffer(member, descr, items, start).reshape(shape)


# Number of axes, and dtype, of each array.
_AXES = {"joints": 4, "pts": 1, "video": 1, "text": 2}
_DTYPES = {name: np.dtype(descr) for name, descr in ARRAYS.items()}


def arrays_of(sample: Sample) -> dict[str, NDArray[Any]]:
    """A sample's arrays by member name."""
    return {"joints": sample.joints_MTJ3, "pts": sample.pts_T, "video": sample.video_D, "text": sample.text_CD}


def facts_json(sample: Sample) -> bytes:
    """The ``json`` member: the sample's facts, with its captions and where they come from.

    Raises:
        ShardError: it is larger than ``MAX_FACTS_BYTES``.
    """
    captions = [{"text": caption.text, "origin": caption.origin} for caption in sample.captions]
    written = canonical_json({**sample.facts, "captions": captions})
    if len(written) > MAX_FACTS_BYTES:
        raise ShardError(f"sample {sample.key}: facts take {len(written)} bytes, at most {MAX_FACTS_BYTES} fit")
    return written


Packed = Mapping[str, tuple[bytes, memoryview]]
"""Members by name, in tar order, each as npy header (empty for others) and content, a view where it is an array."""


def pack(sample: Sample) -> Packed:
    """The members of the pose tar.

    Raises:
        ShardError: an array has another dtype or number of axes than the schema says, something is too large, or the
            key cannot name a file.
    """
    checked_key(sample.key)
    if sample.video_mp4 is not None and len(sample.video_mp4) > MAX_MEMBER_BYTES:
        raise ShardError(
            f"sample {sample.key}: its video takes {len(sample.video_mp4)} bytes, at most {MAX_MEMBER_BYTES} fit"
        )
    packed: dict[str, tuple[bytes, memoryview]] = {}
    for name, array in arrays_of(sample).items():
        if array.dtype != _DTYPES[name] or array.ndim != _AXES[name]:
            raise ShardError(
                f"sample {sample.key}: {name} is {array.dtype.str} with {array.ndim} axes, "
                f"expected {ARRAYS[name]} with {_AXES[name]}"
            )
        if array.nbytes > MAX_MEMBER_BYTES - 4096:  # with room for the npy header
            raise ShardError(f"sample {sample.key}: {name} takes {array.nbytes} bytes, at most {MAX_MEMBER_BYTES} fit")
        packed[name] = npy_header(ARRAYS[name], array.shape), np.ascontiguousarray(array).data
    packed["txt"] = b"", memoryview(sample.captions[0].text.encode() if sample.captions else b"")
    packed["json"] = b"", memoryview(facts_json(sample))
    return packed


def read_array(name: str, member: memoryview) -> NDArray[Any]:
    """The array of the member ``name``, as a view of its bytes.

    Raises:
        ShardError: the member is not what the schema says.
    """
    return array_in(member, descr=ARRAYS[name], axes=_AXES[name])


def read_facts(member: memoryview | bytes | str) -> dict[str, Any]:
    """The facts of a ``json`` member.

    Raises:
        ShardError: not a JSON object, or it has a key twice.
    """
    try:
        facts = parse_json(member if isinstance(member, str) else bytes(member))
    except (ValueError, RecursionError) as error:
        raise ShardError(f"json member cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise ShardError("json member is not an object")
    return legacy.upgraded_facts(facts)


def read_captions(facts: Mapping[str, Any]) -> tuple[Caption, ...]:
    """The captions that facts hold.

    Raises:
        ShardError: they are not a list of texts with origins.
    """
    try:
        return tuple(Caption(str(c["text"]), str(c["origin"])) for c in facts["captions"])
    except (KeyError, TypeError, RecursionError) as error:
        raise ShardError(f"captions cannot be read: {error!r}") from error


def sample_of(
    key: str, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any], *, video_mp4: bytes | None = None
) -> Sample:
    """The sample that has these arrays (by member name), facts, which hold its captions too, and mp4, if any."""
    return Sample(
        key=key,
        joints_MTJ3=arrays["joints"],
        pts_T=arrays["pts"],
        video_D=arrays["video"],
        text_CD=arrays["text"],
        captions=read_captions(facts),
        facts=facts,
        video_mp4=video_mp4,
    )


def unpack(key: str, members: Mapping[str, memoryview], *, video_mp4: bytes | None = None) -> Sample:
    """The sample behind the members of one key, and its mp4, if any; its arrays are views of their bytes.

    Raises:
        ShardError: a member is missing or is not what the schema says; the message names the key.
    """
    try:
        arrays = {name: read_array(name, members[name]) for name in ARRAYS}
        return sample_of(key, arrays, read_facts(members["json"]), video_mp4=video_mp4)
    except KeyError as error:
        raise ShardError(f"sample {key}: member {error} is missing") from error
    except ValueError as error:
        raise ShardError(f"sample {key}: {error}") from error


TAR_BLOCK: Final = 512
_TAR_RECORD = 20 * TAR_BLOCK
"""What tar programs, and :mod:`tarfile`, fill the end of an archive up to."""
_LARGEST_MEMBER = 8**11 - 1
"""Eleven octal digits."""
# What follows a header's checksum: an ordinary file, no link, USTAR's mark, no names, no device, no prefix.
_HEADER_TAIL: Final = b"0" + bytes(100) + b"ustar\x0000" + bytes(TAR_BLOCK - 265)


@dataclass(frozen=True, slots=True)
class TarMember:
    """One file of a tar: its data are ``size`` bytes from the position ``offset`` on, after the header."""

    name: str
    offset: int
    size: int


@lru_cache(maxsize=1024)
def _after_key(key_length: int, ending: str, size: int) -> tuple[bytes, int]:
    """A header's bytes from the key's end to the checksum, and the sum of all its bytes but the key's.

    Most samples have keys of one length and members of the same few sizes, so this is computed once for many.

    Args:
        ending: of the member's name, with the dot behind the key.
        size: bytes of its data.

    Raises:
        ShardError: the name is longer than 100 bytes or the size too large for USTAR.
    """
    written = ending.encode("ascii")
    if key_length + len(written) > 100 or not 0 <= size <= _LARGEST_MEMBER:
        raise ShardError(
            f"a member of {size} bytes, named by {key_length} bytes and {ending!r}, does not fit a USTAR header"
        )
    numbers = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    fields = written.ljust(100 - key_length, b"\0") + numbers
    return fields, sum(fields) + sum(_HEADER_TAIL) + 8 * ord(" ")


def _header(key: bytes, key_sum: int, ending: str, size: int) -> bytes:
    """As :func:`tar_header`, given the key of the name and the sum of its bytes."""
    fields, others = _after_key(len(key), ending, size)
    return b"%b%b%06o\0 %b" % (key, fields, key_sum + others, _HEADER_TAIL)


def tar_header(name: str, size: int) -> bytes:
    """The 512 bytes before a member's data.

    Raises:
        ShardError: the name is longer than 100 bytes or the size too large for USTAR.
    """
    key, dot, ending = name.partition(".")
    written = key.encode("ascii")
    return _header(written, sum(written), dot + ending, size)


def tar_padding(size: int) -> bytes:
    """Zeros from a member's end to the next block."""
    return bytes(-size % TAR_BLOCK)


def tar_end(size: int) -> bytes:
    """The end of an archive of ``size`` bytes: two empty blocks, then zeros up to a full record."""
    return bytes(2 * TAR_BLOCK + -(size + 2 * TAR_BLOCK) % _TAR_RECORD)


def tar_pieces(key: str, packed: Packed) -> tuple[list[Buffer], dict[str, tuple[int, int]], int]:
    """A sample's members as the pieces of a tar: headers, data and padding in order.

    Returns:
        The pieces, the position of the first byte and the number of bytes of each member's data from the first piece
        on, and the number of bytes of all pieces.

    Raises:
        ShardError: a member's name, with the key, is longer than 100 bytes, or its data are too large for USTAR.
    """
    pieces: list[Buffer] = []
    ranges: dict[str, tuple[int, int]] = {}
    written = key.encode("ascii")
    key_sum, size = sum(written), 0
    for name, (head, body) in packed.items():
        length = len(head) + body.nbytes
        header, padding = _header(written, key_sum, f".{MEMBERS.get(name, name)}", length), tar_padding(length)
        pieces += (header, head, body, padding)
        ranges[name] = (size + TAR_BLOCK, length)
        size += TAR_BLOCK + length + len(padding)
    return pieces, ranges, size


def members_of(key: str, block: memoryview) -> dict[str, memoryview]:
    """The members of the pose tar in the bytes of one sample of it, by name, as views.

    Raises:
        ShardError: the bytes are not whole members of ``key``, or hold one twice.
    """
    members: dict[str, memoryview] = {}
    position = 0
    while position < len(block):
        member = _tar_member(bytes(block[position : position + TAR_BLOCK]), position)
        owner, _, ending = member.name.partition(".")
        name = MEMBER_NAMES.get(ending)
        after = member.offset + member.size + -member.size % TAR_BLOCK
        if owner != key or name is None or name in members or after > len(block):
            raise ShardError(f"tar member {member.name!r} is not a member of sample {key}, is there twice or cut short")
        members[name] = block[member.offset : member.offset + member.size]
        position = after
    return members


def tar_members(file: BinaryIO) -> Iterator[TarMember]:
    """Members of an archive that posecap wrote, in order; the caller may read and seek between them.

    Raises:
        ShardError: any byte outside the members' data is not as :func:`tar_header` and :func:`tar_end` write it.
    """
    size = file.seek(0, 2)
    position = 0
    while position + TAR_BLOCK <= size:
        file.seek(position)
        found = file.read(TAR_BLOCK)
        if not any(found):
            break
        member = _tar_member(found, position)
        after = member.offset + member.size
        if after + len(tar_padding(member.size)) > size:
            raise ShardError(f"member {member.name!r} at byte {position} is cut short")
        yield member
        file.seek(after)
        if any(file.read(len(tar_padding(member.size)))):
            raise ShardError(f"padding after member {member.name!r} is not zero")
        position = after + len(tar_padding(member.size))
    file.seek(position)
    closing = tar_end(position)
    if size - position != len(closing) or file.read(len(closing) + 1) != closing:
        raise ShardError(f"archive has no proper end at byte {position}")


def _tar_member(found: bytes, position: int) -> TarMember:
    """The member whose header was found at a position of the tar; ShardError unless it is as :func:`tar_header` writes
    it."""
    try:
        name = found[:100].rstrip(b"\0").decode("ascii")
        size = int(found[124:135], 8)
        sound = tar_header(name, size) == found
    except (ValueError, UnicodeDecodeError):
        sound = False
    if not sound:
        raise ShardError(f"tar header at byte {position} is damaged")
    return TarMember(name, position + TAR_BLOCK, size)


_ARROW_TYPES = {"<f4": pa.float32(), "<f8": pa.float64()}
_AXIS_COLUMNS = ("M", "T", "J", "C")
"""Numbers of people, frames, joints and captions."""
_COLUMNS_BATCH_BYTES = 4 << 20
"""After so many a batch is written: readers check whole batches, and map one at a time."""

COLUMNS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        *(pa.field(axis, pa.int32(), nullable=False) for axis in _AXIS_COLUMNS),
        *(
            pa.field(name, pa.large_list(pa.field("item", _ARROW_TYPES[descr], nullable=False)), nullable=False)
            for name, descr in ARRAYS.items()
        ),
        pa.field("facts", pa.string(), nullable=False),
    ],
    metadata={"posecap.format": "1"},
)


class ColumnsWriter:
    """Writes samples batch by batch, holding at most one batch (4 MiB and a sample) in memory.

    :meth:`close` writes the last batch and the Arrow footer; the caller finishes and publishes ``file``.

    Raises:
        ShardError: an array holds NaN or infinity.
    """

    def __init__(self, file: AtomicFile) -> None:
        self._file = pa.ipc.new_file(file, COLUMNS_SCHEMA)
        self._waiting: list[ColumnsRow] = []
        self._bytes = 0

    def add(self, sample: Sample, facts: bytes) -> None:
        """Add a sample, with its ``json`` member as ``facts``."""
        arrays = arrays_of(sample)
        # Not the sample itself, whose video is much larger than its arrays.
        self._waiting.append(ColumnsRow(sample.key, arrays, facts.decode()))
        self._bytes += len(facts) + sum(array.nbytes for array in arrays.values())
        if self._bytes >= _COLUMNS_BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the last batch and the footer; raises as the class does."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_batch(columns_record_batch(self._waiting))
            self._waiting, self._bytes = [], 0


class ColumnsRow(NamedTuple):
    """A sample's key, its arrays by member name, and its facts as JSON text."""

    key: str
    arrays: Mapping[str, NDArray[Any]]
    facts: str


def columns_record_batch(waiting: Sequence[ColumnsRow]) -> Any:
    """One or more samples as a :class:`pyarrow.RecordBatch` with :data:`COLUMNS_SCHEMA`.

    Raises:
        ShardError: an array holds NaN or infinity.
    """
    shapes = np.array([(*one.arrays["joints"].shape[:3], len(one.arrays["text"])) for one in waiting], np.int32)
    columns = [pa.array([one.key for one in waiting], pa.string())]
    columns += [pa.array(np.ascontiguousarray(shapes[:, axis])) for axis in range(len(_AXIS_COLUMNS))]
    for name in ARRAYS:
        flat = [one.arrays[name].reshape(-1) for one in waiting]
        values = np.concatenate(flat)
        with np.errstate(all="ignore"):
            maybe_infinite = not np.isfinite(values.sum())  # fast, but a sum of large finite values may overflow
        if maybe_infinite:
            for one, found in zip(waiting, flat, strict=True):
                if not np.isfinite(found).all():
                    raise ShardError(f"sample {one.key}: {name} holds NaN or infinity")
        offsets = np.zeros(len(flat) + 1, np.int64)
        np.cumsum([len(f) for f in flat], out=offsets[1:])
        kind = COLUMNS_SCHEMA.field(name).type
        columns.append(pa.LargeListArray.from_arrays(offsets, pa.array(values), type=kind))
    columns.append(pa.array([one.facts for one in waiting], pa.string()))
    return pa.record_batch(columns, schema=COLUMNS_SCHEMA)


class ColumnsBatch:
    """Consecutive rows of a columns file, numbered from 0. Arrays are copy-on-write views of the mapped file.

    Args:
        batch: the :class:`pyarrow.RecordBatch`.
        base: the bytes of the file, in which the batch's buffers lie.

    Raises:
        ShardError: shapes and values disagree, a value is null, or the file is compressed.
        pyarrow.ArrowInvalid: the batch is damaged.
    """

    def __init__(self, batch: Any, base: NDArray[np.uint8]) -> None:
        batch.validate(full=True)
        for name, column in zip(COLUMNS_SCHEMA.names, batch.columns, strict=True):  # which does not look for nulls
            if column.null_count:
                raise ShardError(f"columns: {name} holds nulls")
        self.rows: int = batch.num_rows
        self.keys: list[str] = batch.column("key").to_pylist()
        self._facts = batch.column("facts")
        m, t, j, c = (batch.column(axis).to_pylist() for axis in _AXIS_COLUMNS)
        self._values: dict[str, NDArray[Any]] = {}
        self._bounds: dict[str, list[int]] = {}
        for name, descr in ARRAYS.items():
            column = batch.column(name)
            self._bounds[name] = column.offsets.to_pylist()
            self._values[name] = mapped_values(column.values, descr, base)
        self._shapes: dict[str, list[tuple[int, ...]]] = {
            "joints": [(*shape, 3) for shape in zip(m, t, j, strict=True)],
            "pts": [(frames,) for frames in t],
            "video": [(length,) for length in self._lengths("video")],
            "text": [(n, length // n if n else 0) for n, length in zip(c, self._lengths("text"), strict=True)],
        }
        for name, shapes in self._shapes.items():
            if min(map(min, shapes)) < 0 or [prod(s) for s in shapes] != self._lengths(name):
                raise ShardError(f"columns: {name} has rows whose length is not what their shape says")

    def array(self, name: str, row: int) -> NDArray[Any]:
        """The array ``joints``, ``pts``, ``video`` or ``text`` of one row, in its own shape."""
        bounds = self._bounds[name]
        return self._values[name][bounds[row] : bounds[row + 1]].reshape(self._shapes[name][row])

    def facts(self, row: int) -> str:
        """One row's facts, as JSON text."""
        return str(self._facts[row].as_py())

    def sample(self, row: int) -> Sample:
        """The sample of one row."""
        arrays = {name: self.array(name, row) for name in ARRAYS}
        return sample_of(self.keys[row], arrays, read_facts(self.facts(row)))

    def _lengths(self, name: str) -> list[int]:
        """How many values each row's array has."""
        return np.diff(self._bounds[name]).tolist()


def read_columns(base: NDArray[np.uint8], *, first: int = 0) -> Iterator[tuple[int, ColumnsBatch]]:
    """Batches of a columns file, from the one that holds row ``first`` on, each with its first row's number.

    Args:
        first: number of a row in the file; with one beyond the last row there are no batches.
        base: the file's bytes, writable, so that views of it may become tensors.

    Raises:
        ShardError: not a columns file of this format.
    """
    try:
        reader = pa.ipc.open_file(pa.py_buffer(base))
        if not reader.schema.equals(COLUMNS_SCHEMA, check_metadata=True):
            raise ShardError("columns file has another schema than this version of posecap writes")
        start = 0
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            if batch.num_rows and start + batch.num_rows > first:
                yield start, ColumnsBatch(batch, base)
            start += batch.num_rows
    except (pa.ArrowException, UnicodeError, OSError) as error:
        raise ShardError(f"columns file cannot be read: {error}") from error


def mapped_values(values: Any, descr: str, base: NDArray[np.uint8]) -> NDArray[Any]:
    """A flat Arrow array as a writable view of ``base``, in which its buffer lies."""
    if len(values) == 0:
        return np.zeros(0, descr)
    start = values.buffers()[1].address - base.ctypes.data + values.offset * int(descr[2])
    stop = start + len(values) * int(descr[2])
    if start < 0 or stop > base.nbytes:
        raise ShardError("columns file is compressed; posecap writes it uncompressed")
    return base[start:stop].view(descr)
