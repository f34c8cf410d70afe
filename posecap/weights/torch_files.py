"""The files that ``torch.save`` writes, read without ``torch.load``: zip archives, and the older plain pickles.

Storages count against the size of the file, so no file can ask for more memory than it has bytes.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from posecap.weights.pickled import read_pickle
from posecap.weights.pickled_values import BadPickle, Builder, Constant, Inert
from posecap.weights.torch_names import Storage, StorageKind, known_names

if TYPE_CHECKING:
    import torch

Strangers = Literal["refuse", "inert"]
Names = Mapping[tuple[str, str], Builder | Constant]

ZIP_MAGIC, PICKLE_MAGIC = b"PK\x03\x04", b"\x80"
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MOST_PICKLE_BYTES = 1 << 28
_LONGEST_KEY = 64
_TORCHSCRIPT = (
    "it is a TorchScript archive, a program rather than weights, and is not run; "
    "use the same model's safetensors file or state dict"
)


def read_zip(path: Path, *, strangers: Strangers) -> Any:
    """The content of an archive of ``torch.save`` (torch 1.6 and later).

    Raises:
        BadPickle: broken, compressed, big-endian, a program (TorchScript), or as :func:`read_pickle`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive)
            order = _member(archive, f"{root}/byteorder", most=16)
            if order not in (None, b"little"):
                raise BadPickle("its numbers are big-endian")
            pickled = _member(archive, f"{root}/data.pkl", most=_MOST_PICKLE_BYTES)
            blocks = _Blocks(path.stat().st_size, lambda key, block: _unzip(archive, f"{root}/data/{key}", block))
            return read_pickle(
                BytesIO(pickled or b""), known=known_names(), persistent=blocks.persistent, strangers=strangers
            )
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
        if isinstance(error, BadPickle):
            raise
        raise BadPickle(f"it is cut off or damaged ({error})") from error


def _root(archive: zipfile.ZipFile) -> str:
    """The one folder in the archive that everything lies in."""
    names = set(archive.namelist())
    roots = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise BadPickle("it is a zip, but not one that torch.save wrote")
    if f"{roots[0]}/constants.pkl" in names:
        raise BadPickle(_TORCHSCRIPT)
    return roots[0]


def _member(archive: zipfile.ZipFile, name: str, *, most: int) -> bytes | None:
    info = archive.NameToInfo.get(name)
    if info is None:
        return None
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > most:
        raise BadPickle(f"{name} in it is compressed or too large")
    return archive.read(info)


def _unzip(archive: zipfile.ZipFile, name: str, block: memoryview) -> None:
    info = archive.NameToInfo.get(name)
    if info is None:
        raise BadPickle(f"it has no {name}")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size < len(block):
        raise BadPickle(f"{name} in it is compressed or cut off")
    with archive.open(info) as member:
        done = 0
        while done < len(block):
            piece = member.read(min(len(block) - done, 1 << 24))
            if not piece:
                raise BadPickle(f"{name} in it is cut off")
            block[done : done + len(piece)] = piece
            done += len(piece)
        if member.read(1) and info.file_size == len(block):
            raise BadPickle(f"{name} in it is longer than it says")


def read_legacy(path: Path, *, strangers: Strangers) -> Any:
    """The content of a file of ``torch.save`` before 1.6: five pickles, then the storages' bytes.

    Raises:
        BadPickle: broken, not of ``torch.save``, big-endian, or as :func:`read_pickle`.
    """
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        # A map's read() never sets aside more than the file has, whatever length a hostile pickle names.
        file = cast(BinaryIO, mapped)
        for expected in (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
            if _plain(file) != expected:
                raise BadPickle("it is a pickle, but not one that torch.save wrote")
        system = _plain(file)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise BadPickle("its numbers are big-endian")
        waiting: dict[str, memoryview] = {}
        blocks = _Blocks(len(mapped), waiting.__setitem__)
        content = read_pickle(file, known=known_names(), persistent=blocks.persistent, strangers=strangers)
        keys = _plain(file)
        if (
            not isinstance(keys, list)
            or not all(isinstance(key, str) for key in keys)
            or sorted(keys) != sorted(waiting)
        ):
            raise BadPickle("it is malformed: its list of storages is not the one that its tensors name")
        for key in keys:
            _receive(file, waiting[key], elements_of=blocks.item_bytes[key])
        return content


def _plain(file: BinaryIO) -> Any:
    def none(_key: Any) -> Any:
        raise BadPickle("it is malformed: a storage where none belongs")

    return read_pickle(file, known={}, persistent=none, strangers="refuse")


def _receive(file: BinaryIO, block: memoryview, *, elements_of: int) -> None:
    count = int.from_bytes(file.read(8), "little", signed=True)
    if count * elements_of != len(block):
        raise BadPickle("it is malformed: a storage has another length than its tensors say")
    raw = file.read(len(block))
    if len(raw) != len(block):
        raise BadPickle("it is cut off")
    block[:] = raw


class _Blocks:
    """Storages by key, each made once. ``bring`` fills the bytes of one, now or later."""

    def __init__(self, most_bytes: int, bring: Callable[[str, memoryview], None]) -> None:
        self._left, self._bring = most_bytes, bring
        self._made: dict[str, torch.Tensor] = {}
        self.item_bytes: dict[str, int] = {}

    def persistent(self, written: Any) -> Any:
        """What a persistent id stands for: a storage, or the class of a module (whose source code follows it)."""
        if isinstance(written, tuple) and written[:1] == ("module",) and isinstance(written[1], Inert):
            return written[1]
        return self._storage(written)

    def _storage(self, written: Any) -> Storage:
        """``("storage", class, key, device, count[, view])``."""
        import torch

        if not isinstance(written, tuple) or len(written) < 5 or written[0] != "storage" or any(written[5:]):
            raise BadPickle("it is malformed: a storage is described in an unknown way")
        _, kind, key, _, count = written[:5]
        named = isinstance(key, str) and len(key) <= _LONGEST_KEY and key.isprintable()
        if not isinstance(kind, StorageKind) or not named or type(count) is not int or count < 0:
            raise BadPickle("it is malformed: a storage is described in an unknown way")
        size = count * kind.dtype.itemsize
        if key not in self._made:
            self._left -= size
            if self._left < 0:
                raise BadPickle("its tensors need more bytes than it has")
            block = torch.zeros(size, dtype=torch.uint8)
            self._made[key], self.item_bytes[key] = block, kind.dtype.itemsize
            self._bring(key, block.numpy().data)
        if self._made[key].numel() != size:
            raise BadPickle("it is malformed: a storage has two lengths")
        return Storage(self._made[key], kind.dtype)
