"""Bounded reading of the files of published skeleton datasets, without executing anything in them, and conversion of
Kinect and OpenNI joints to ``ntu25``.

Of MATLAB 5 files, compressed or not, plain arrays are read (numbers, logicals, text), after MathWorks' "MAT-File
Format". Such a file is a header of 128 bytes and elements: a type, a number of bytes, and these. A variable is an
element that holds elements in turn: its class, its shape, its name and its values. Every size is compared with the
bytes that are there before it is used, and nothing is unpacked that is not asked for. scipy reads such files, too, but
one changed byte can end the process (scipy 1.17): its compiled reader runs beyond its buffers.
"""

from __future__ import annotations

import csv
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from posecap.joints import LAYOUTS
from tmor_train.data.provenance import record_bytes

MAX_FILE_BYTES = 64 << 20
"""Size above which a file is not read: our choice, well above all that the sets publish, against damaged files."""
MAX_VALUES = 16 << 20
"""Number of values above which a MATLAB array, which may be compressed, is not loaded: our choice; as float64 it has
128 MB."""
# MATLAB's classes of plain arrays.
_PLAIN = frozenset(
    ("double", "single", "char", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
)


class MissingFilesError(FileNotFoundError):
    """Files of a dataset are missing; the message names them, where to get them, and where to put them."""


class DamagedFileError(ValueError):
    """A file differs from what the dataset publishes; the message names it."""


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Where a dataset is published: its ``name``, the address of its web ``page``, and the ``archive`` to download
    there, in words."""

    name: str
    page: str
    archive: str

    def missing(self, what: Path | str) -> MissingFilesError:
        """The error for the missing file or folder ``what``; the message says where to get it."""
        return MissingFilesError(
            f"{self.name}: {what} is missing. Get {self.archive} from {self.page}, whose terms apply, and unpack it so "
            f"that {what} exists."
        )


# What Python, NumPy, SciPy and the standard library's readers raise for content that they cannot take; MemoryError
# where a few bytes claim a huge array.
_READER_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    OSError,
    EOFError,
    StopIteration,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def parsing(path: Path | str, what: str, *more: type[Exception]) -> Iterator[None]:
    """Turn any exception that parsing a malformed file raises, and those of ``more``, into an error which says that
    ``path`` is not a ``what``.

    Raises:
        DamagedFileError: instead of those exceptions; it and MissingFilesError pass through as they are.
    """
    try:
        yield
    except (DamagedFileError, MissingFilesError):
        raise
    except _READER_ERRORS + more as error:
        reason = "it is cut off" if isinstance(error, StopIteration) else f"{type(error).__name__} {error}"
        raise DamagedFileError(f"{path} is not a valid {what}: {reason}") from error


def matching(
    folder: Path, pattern: re.Pattern[str], *, source: DatasetSource, example: str
) -> list[tuple[Path, list[int]]]:
    """Files of a folder whose names match ``pattern``, each with the numbers in its groups, sorted by those numbers.

    Args:
        example: name of a file that could be there, for the error.

    Raises:
        MissingFilesError: no file matches, or there is no such folder.
    """
    files = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match:
            files.append((path, [int(number) for number in match.groups()]))
    if not files:
        raise source.missing(folder / example)
    return sorted(files, key=lambda entry: entry[1])


def _content(path: Path, source: DatasetSource) -> bytes:
    """A file's bytes, which are recorded; raises as :func:`read_text`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise source.missing(path) from None
    if len(content) > MAX_FILE_BYTES:
        raise DamagedFileError(f"{path} is larger than {MAX_FILE_BYTES} bytes, which no file of {source.name} is")
    record_bytes(path, content)
    return content


def read_text(path: Path, *, source: DatasetSource) -> str:
    """The content of a UTF-8 text file of at most 64 MiB.

    Raises:
        MissingFilesError: it is not there.
        DamagedFileError: it is larger, or not UTF-8.
    """
    try:
        return _content(path, source).decode()
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path} is not UTF-8 text: {error}") from error


def read_numbers(
    path: Path, *, columns: int, source: DatasetSource, separator: str | None = None
) -> NDArray[np.float64]:
    """The numbers of a text file, (lines, ``columns``) float64; empty lines and separators at line ends are left out.

    Args:
        separator: between the numbers of a line; None: white space.

    Raises:
        MissingFilesError: it is not there.
        DamagedFileError: a line is not ``columns`` finite numbers, or there is none.
    """
    lines = [line.strip().rstrip(separator) for line in read_text(path, source=source).splitlines() if line.strip()]
    try:
        rows = np.array([line.split(separator) for line in lines], np.float64)
    except ValueError as error:
        raise DamagedFileError(f"{path}: rows are not {columns} numbers each ({error})") from error
    if rows.ndim != 2 or rows.shape[1] != columns or not np.isfinite(rows).all():
        raise DamagedFileError(f"{path} holds rows of shape {rows.shape[1:]}, expected {columns} finite numbers each")
    return rows


def read_matlab(path: Path, names: tuple[str, ...], *, source: DatasetSource) -> Mapping[str, NDArray[Any]]:
    """The variables ``names`` of a MATLAB 5 file by name: arrays of numbers, shaped as MATLAB has them, or the rows of
    a text, (rows,) str.

    The list of variables is checked first: objects, functions, cells and arrays of more than 16 Mi values are not
    loaded.

    Raises:
        MissingFilesError: it is not there.
        DamagedFileError: it is not such a file, or a variable is missing, too large, or of another kind.
    """
    content = _content(path, source)
    with parsing(path, "MATLAB 5 file"):
        known = variables(content)
        for name in names:
            kind, shape = (known[name].kind, known[name].shape) if name in known else ("missing", ())
            if kind not in _PLAIN or prod(shape) > MAX_VALUES:
                raise DamagedFileError(f"{path}: variable {name!r} is {kind} {shape}, expected a plain array")
        return {name: known[name].load() for name in names}


KINECT_LIMBS = tuple(
    f"{side}_{joint}"
    for joints in (("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot"))
    for side in ("left", "right")
    for joint in joints
)
"""Joints of the limbs in the order of Kinect for Windows, as ``ntu25`` names them."""


MAX_METRES = 10_000.0
"""Largest coordinate of a joint; a Kinect sees 8 metres, so only damaged files exceed it."""


def as_ntu25(
    metres_MTJ3: NDArray[np.float64],
    names: tuple[str, ...],
    score_MTJ: NDArray[np.float64] | None = None,
    *,
    path: Path,
) -> NDArray[np.float32]:
    """Joints in the layout ``ntu25``, (M, T, 25, 4) float32: x, y, z in metres and score, 0 to 1; all four are 0 where
    the sensor has no such joint.

    A joint at (0, 0, 0), the position of the sensor itself, was not found and gets the score 0. OpenNI measures its
    "hand" and "foot" at the wrist and the ankle, so ``names`` calls them that.

    Args:
        metres_MTJ3: x to the right, y down, z away from the camera.
        names: of the J joints, as ``ntu25`` has them.
        score_MTJ: None: every joint that was found has the score 1.
        path: the file they were read from, for the message.

    Raises:
        DamagedFileError: there is no frame, or a coordinate is NaN or beyond :data:`MAX_METRES`.
    """
    if not metres_MTJ3.size or not (np.abs(metres_MTJ3) <= MAX_METRES).all():
        raise DamagedFileError(
            f"{path}: joints {metres_MTJ3.shape} in metres, expected at least one frame, and coordinates of at most "
            f"{MAX_METRES:,.0f} m"
        )
    layout = LAYOUTS["ntu25"].names
    index = [layout.index(name) for name in names]
    joints = np.zeros((*metres_MTJ3.shape[:2], len(layout), 4), np.float32)
    joints[:, :, index, :3] = metres_MTJ3
    joints[:, :, index, 3] = (metres_MTJ3 != 0).any(-1) * (1.0 if score_MTJ is None else score_MTJ)
    return joints


def from_kinect(metres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (…, 3) of a Kinect (x to the sensor's own left, y up, z away) in a camera's axes (x right, y down, z
    away), in the same unit."""
    return np.asarray(metres * np.array([-1.0, -1.0, 1.0]), np.float64)


# MATLAB 5 files.

_HEADER = 128  # bytes; the last four say the version and the byte order
# By the numbers of MathWorks' format: types of elements, then classes of variables and a flag of theirs.
_MATRIX, _COMPRESSED = 14, 15
_OPAQUE, _COMPLEX = 17, 0x800  # a class without a shape, and the flag of an array with an imaginary part
_CLASSES = (  # from 1 on
    *("cell", "struct", "object", "char", "sparse", "double", "single", "int8", "uint8", "int16", "uint16"),
    *("int32", "uint32", "int64", "uint64", "function"),
)
# Types of elements that hold numbers or text, with NumPy's name of the former and the encoding of the latter.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_NAMED_WITHIN = 4096
"""Bytes of a compressed variable in which its name must end; a name of MATLAB has up to 63 characters."""
_MOST_VARIABLES = 1000  # our choice: the sets' files have up to ten

Order = Literal["<", ">"]


class Variable(NamedTuple):
    """A variable before its values are read: its class, such as ``double``, ``char`` or ``cell``, its shape as MATLAB
    has it, and ``load``, which reads it.

    ``load()`` gives numbers as they are stored (MATLAB stores doubles that are small whole numbers as such), or the
    rows of a text as an array (rows,) of str. It raises ValueError, LookupError or zlib.error where the file is damaged
    or the variable is of another kind.
    """

    kind: str
    shape: tuple[int, ...]
    load: Callable[[], NDArray[Any]]


def variables(content: bytes) -> dict[str, Variable]:
    """The variables of a file by name.

    Raises:
        ValueError, zlib.error: it is not a MATLAB 5 file, or damaged.
    """
    orders: dict[bytes, Order] = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
    if (order := orders.get(content[124:_HEADER])) is None:
        raise ValueError("its header is not that of MATLAB 5")
    found: dict[str, Variable] = {}
    at = _HEADER
    while at < len(content):
        kind, values, at = _element(memoryview(content), at, order)
        if kind == _COMPRESSED:
            at -= -values.nbytes % 8  # these are not padded to eight bytes
            kind, head, _ = _element(memoryview(_unpacked(values, _NAMED_WITHIN)), 0, order, whole=False)
        else:
            head = values
        if kind != _MATRIX or len(found) == _MOST_VARIABLES:
            raise ValueError(f"an element of type {kind} is no variable, or the {_MOST_VARIABLES + 1}st")
        name, class_name, shape, _ = _described(head, order)
        if name in found:
            raise ValueError(f"it has the variable {name!r} twice")
        packed = head is not values
        load = partial(_unpacked_array, values, shape, order) if packed else partial(_array, values, order)
        found[name] = Variable(class_name, shape, load)
    return found


def _element(buffer: memoryview, at: int, order: Order, *, whole: bool = True) -> tuple[int, memoryview, int]:
    """Type and bytes of the element at ``at``, and where the next begins. Without ``whole``, its end may be lacking;
    otherwise that is a ValueError."""
    if at + 8 > len(buffer):
        raise ValueError("it is cut off")
    kind, size = np.frombuffer(buffer, f"{order}u4", 2, at).tolist()
    if kind >> 16:  # up to four bytes stand in the place of the size, whose two bytes stand beside the type
        kind, size, begin, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if size > 4:
            raise ValueError(f"a short element has {size} bytes")
    else:
        begin = at + 8
        after = begin + size + -size % 8
    if whole and begin + size > len(buffer):
        raise ValueError("it is cut off")
    return kind, buffer[begin : begin + size], after


def _described(matrix: memoryview, order: Order) -> tuple[str, str, tuple[int, ...], int]:
    """The name, class and shape of a variable, and where its values begin; ValueError where it is damaged."""
    _, flags, at = _element(matrix, 0, order)
    if flags.nbytes != 8:
        raise ValueError("a variable's flags are not eight bytes")
    word = int(np.frombuffer(flags, f"{order}u4", 1)[0])
    number, shape = word & 0xFF, ()
    class_name = _CLASSES[number - 1] if 0 < number <= len(_CLASSES) else "of an unknown class"
    if word & _COMPLEX:
        class_name = f"complex {class_name}"
    if number != _OPAQUE:
        _, sides, at = _element(matrix, at, order)
        shape = tuple(np.frombuffer(sides, f"{order}i4").tolist())
    _, name, at = _element(matrix, at, order)
    return bytes(name).decode("latin-1"), class_name, shape, at


def _array(matrix: memoryview, order: Order) -> NDArray[Any]:
    """The values of a variable; raises as :class:`Variable` says."""
    name, class_name, shape, at = _described(matrix, order)
    kind, values, _ = _element(matrix, at, order)
    if class_name == "char":
        encoding = _TEXTS.get(kind, "no text")  # LookupError, which codecs raise for an unknown one
        endian = {"<": "-le", ">": "-be"}[order] if encoding in ("utf-16", "utf-32") else ""
        letters = np.array(list(bytes(values).decode(encoding + endian)), np.str_)
        if letters.size != prod(shape) or len(shape) != 2:
            raise ValueError(f"{name!r} has {letters.size} characters for the shape {shape}")
        return np.array(["".join(row) for row in letters.reshape(shape, order="F")], np.str_)
    if kind not in _NUMBERS:
        raise ValueError(f"{name!r} is {class_name}, stored as type {kind}: no plain numbers")
    stored = np.frombuffer(values, f"{order}{_NUMBERS[kind]}")
    if min(shape, default=-1) < 0 or stored.size != prod(shape):
        raise ValueError(f"{name!r} has {stored.size} numbers for the shape {shape}")
    return stored.reshape(shape, order="F")


def _unpacked(values: memoryview, most: int) -> bytes:
    """The first ``most`` bytes of a compressed element, or all where there are fewer."""
    return zlib.decompressobj().decompress(values, most)


def _unpacked_array(values: memoryview, shape: tuple[int, ...], order: Order) -> NDArray[Any]:
    # Numbers take up to eight bytes each: no more is unpacked than an array of this shape needs.
    _, matrix, _ = _element(memoryview(_unpacked(values, _NAMED_WITHIN + 8 * prod(shape))), 0, order)
    return _array(matrix, order)
