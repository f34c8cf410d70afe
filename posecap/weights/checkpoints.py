"""Reads checkpoints of networks safely from untrusted files, and loads them into networks.

``.pt``, ``.pth``, ``.ckpt`` and ``.bin`` files hold pickles, and to unpickle them with Python runs whatever they name.
Here nothing of a file is run (:mod:`posecap.weights.unpickle`). The format is recognised by the first bytes, not by the
file's name.

Files of ``torch.save`` are zip archives, or the older plain pickles. All storages of one together may have as many
bytes as the file, so no file can make this allocate more. Tensors become those of torch, or arrays of NumPy (``into``),
for which torch is not imported.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, cast

import numpy as np
from numpy.lib.stride_tricks import as_strided

from posecap.download.file_type import HEAD_BYTES, sniff
from posecap.weights.unpickle import (
    ARRAY_NAMES,
    PLAIN_NAMES,
    Inert,
    Names,
    UnknownClasses,
    UnsafePickleError,
    lengths,
    unpickle,
)

if TYPE_CHECKING:
    import torch


ZIP_MAGIC, PICKLE_MAGIC = b"PK\x03\x04", b"\x80"
"""How a zip archive begins, and a pickle of protocol 2 or later."""
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""What torch writes first into its older files."""
_MAX_PICKLE_BYTES = 1 << 28
"""Of a pickle in an archive, which names tensors and holds none; our bound, far above any
checkpoint's."""
_MAX_KEY = 64
"""Characters of a storage's key; torch writes numbers of up to 20 digits."""
_CHUNK_BYTES = 1 << 24
"""Read at once, since the standard library's readinto holds each in memory twice."""
# Names of devices of torch.
_DEVICE = re.compile(r"[a-z]{1,16}(:[0-9]{1,3})?")
_STORAGES = {
    **{name: name.lower() for name in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Bool")},
    "Char": "int8",
    "Byte": "uint8",
    "Untyped": "uint8",
    "ComplexFloat": "cfloat",
    "ComplexDouble": "cdouble",
}
"""Dtypes of torch by the names of its storages."""
_ARRAY_STORAGES = {
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "ComplexFloat": "c8",
    "ComplexDouble": "c16",
}
"""Dtypes of NumPy, where it has the same, by the names of torch's storages."""

Into: TypeAlias = Literal["torch", "numpy"]
"""What tensors become. Arrays are only made of plain tensors of dtypes that NumPy has: other tensors, and parameters,
are refused as names that are not known."""


def read_zip(path: Path, *, unknown_classes: UnknownClasses, into: Into = "torch") -> Any:
    """The content of an archive of ``torch.save`` (torch 1.6 and later).

    Raises:
        UnsafePickleError: damaged, compressed, big-endian, a program (TorchScript), or as :func:`unpickle`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive)
            order = _read_member(archive, f"{root}/byteorder", max_bytes=16)
            if order not in (None, b"little"):
                raise UnsafePickleError("its numbers are big-endian")
            pickled = _read_member(archive, f"{root}/data.pkl", max_bytes=_MAX_PICKLE_BYTES)
            storages = _STORAGES_INTO[into](
                path.stat().st_size, fill=lambda key, block: _read_into(archive, f"{root}/data/{key}", block)
            )
            return unpickle(
                BytesIO(pickled or b""),
                names=_NAMES_INTO[into](),
                persistent_load=storages.get,
                unknown_classes=unknown_classes,
            )
    except UnsafePickleError:
        raise
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, struct.error) as error:
        # RuntimeError: it is encrypted, or written by a newer version of zip.
        raise UnsafePickleError(f"it is cut off or damaged ({error})") from error


def _root(archive: zipfile.ZipFile) -> str:
    """The name of the archive's one top-level folder."""
    names = set(archive.namelist())
    roots = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise UnsafePickleError("it is a zip, but not one that torch.save wrote")
    if f"{roots[0]}/constants.pkl" in names:
        raise UnsafePickleError(
            "it is a TorchScript archive, a program rather than weights, and is not run; "
            "use the same model's safetensors file or state dict"
        )
    return roots[0]


def _read_member(archive: zipfile.ZipFile, name: str, *, max_bytes: int) -> bytes | None:
    """A member of an archive; None where there is none of that name."""
    if (info := archive.NameToInfo.get(name)) is None:
        return None
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > max_bytes:
        raise UnsafePickleError(f"{name} in it is compressed or too large")
    return archive.read(info)


def _read_into(archive: zipfile.ZipFile, name: str, block: memoryview) -> None:
    """Fill ``block`` with the beginning of a member."""
    if (info := archive.NameToInfo.get(name)) is None:
        raise UnsafePickleError(f"it has no {name}")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size < len(block):
        raise UnsafePickleError(f"{name} in it is compressed or cut off")
    with archive.open(info) as member:
        for start in range(0, len(block), _CHUNK_BYTES):
            chunk = block[start : start + _CHUNK_BYTES]
            if member.readinto(chunk) != len(chunk):  # type: ignore[attr-defined]  # stubs: a plain IO
                raise UnsafePickleError(f"{name} in it is cut off")


def read_legacy(path: Path, *, unknown_classes: UnknownClasses, into: Into = "torch") -> Any:
    """The content of a file of ``torch.save`` before torch 1.6: five pickles, then the storages' bytes.

    The pickles are a magic number, a protocol number, the system's properties, the content, and the storages' keys.

    Raises:
        UnsafePickleError: damaged, not of ``torch.save``, big-endian, or as :func:`unpickle`.
    """
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        # read() of a memory map never allocates more than the file has, whatever length a hostile pickle states.
        file = cast(BinaryIO, mapped)
        for expected in (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
            if unpickle(file, names={}) != expected:
                raise UnsafePickleError("it is a pickle, but not one that torch.save wrote")
        system = unpickle(file, names={})
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise UnsafePickleError("its numbers are big-endian")
        empty: dict[str, memoryview] = {}
        storages = _STORAGES_INTO[into](len(mapped), fill=empty.__setitem__)
        names = _NAMES_INTO[into]()
        content = unpickle(file, names=names, persistent_load=storages.get, unknown_classes=unknown_classes)
        keys = unpickle(file, names={})
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(empty):
            raise UnsafePickleError("it is malformed: its list of storages is not the one that its tensors name")
        with memoryview(mapped) as raw:
            for key in keys:
                block, count = empty[key], int.from_bytes(file.read(8), "little", signed=True)
                if count * storages.flat[key].itemsize != len(block):
                    raise UnsafePickleError("it is malformed: a storage has another length than its tensors say")
                start, end = file.tell(), file.tell() + len(block)
                if end > len(raw):
                    raise UnsafePickleError("it is cut off")
                block[:] = raw[start:end]
                file.seek(end)
        return content


class Storages:
    """The storages of a file, each created once as a flat tensor of torch.

    Attributes:
        flat: by key, in the dtype of its first mention.
    """

    def __init__(self, max_bytes: int, *, fill: Callable[[str, memoryview], None]) -> None:
        """``fill`` writes the bytes of one storage, at once or later; all together have at most ``max_bytes``."""
        self._bytes_left, self._fill = max_bytes, fill
        self.flat: dict[str, Any] = {}

    def get(self, pid: Any) -> Any:
        """What a persistent id stands for: ``("storage", dtype, key, device, count[, view])``, or the class of a module
        (whose source code follows it).

        Raises:
            UnsafePickleError: it is described in another way, or takes more bytes than are left.
        """
        if isinstance(pid, tuple) and pid[:1] == ("module",) and isinstance(pid[1], Inert):
            return pid[1]
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or any(pid[5:]):
            raise UnsafePickleError("it is malformed: a storage is described in an unknown way")
        _, dtype, key, _, count = pid[:5]
        is_key = isinstance(key, str) and len(key) <= _MAX_KEY and key.isprintable()
        if not self._is_dtype(dtype) or not is_key or type(count) is not int or count < 0:
            raise UnsafePickleError("it is malformed: a storage is described in an unknown way")
        size = count * dtype.itemsize
        if key not in self.flat:
            self._bytes_left -= size
            if self._bytes_left < 0:
                raise UnsafePickleError("its tensors need more bytes than it has")
            flat, block = self._empty(size)
            self.flat[key] = flat.view(dtype)
            self._fill(key, block)
        if self.flat[key].nbytes != size:
            raise UnsafePickleError("it is malformed: a storage has two lengths")
        return self.flat[key].view(dtype)

    def _is_dtype(self, value: Any) -> bool:
        import torch

        return isinstance(value, torch.dtype)

    def _empty(self, size: int) -> tuple[Any, memoryview]:
        """``size`` bytes, flat, and their memory."""
        import torch

        block = torch.empty(size, dtype=torch.uint8)
        return block, block.numpy().data


class ArrayStorages(Storages):
    """The storages of a file, each created once as a flat array of NumPy."""

    def _is_dtype(self, value: Any) -> bool:
        return isinstance(value, np.dtype)

    def _empty(self, size: int) -> tuple[Any, memoryview]:
        block = np.empty(size, np.uint8)
        return block, block.data


@functools.cache
def _names() -> Names:
    """What pickles of torch may name: values of NumPy and Python, and tensors, which become those of torch."""
    import torch

    dtypes = {("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
    storages = {f"{name}Storage": getattr(torch, dtype) for name, dtype in _STORAGES.items()}
    return {
        **ARRAY_NAMES,
        **PLAIN_NAMES,
        **dtypes,
        **{(module, name): dtype for module in ("torch", "torch.storage") for name, dtype in storages.items()},
        ("torch", "Tensor"): "torch.Tensor",
        ("torch.nn.parameter", "Parameter"): "torch.nn.Parameter",
        **{("torch._utils", name): function for name, function in _REBUILD.items()},
        ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
        ("torch", "Size"): lengths,
        ("torch", "device"): _device,
    }


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> torch.Tensor:
    """A view of a storage, in numbers of its dtype; requires_grad and hooks, which follow, are not kept."""
    import torch

    if not isinstance(storage, torch.Tensor):
        raise UnsafePickleError("a tensor has no storage")
    offset, size, stride = _extent(storage.numel(), offset, size, stride)
    return storage.as_strided(size, stride, offset)


def _array(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> np.ndarray[Any, Any]:
    """As :func:`_tensor`, of NumPy."""
    if not isinstance(storage, np.ndarray) or storage.ndim != 1:
        raise UnsafePickleError("a tensor has no storage")
    offset, size, stride = _extent(storage.size, offset, size, stride)
    return as_strided(storage[offset:], size, [step * storage.itemsize for step in stride])


def _extent(elements: int, offset: Any, size: Any, stride: Any) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Offset (0 for an empty tensor), size and stride of a tensor, checked to lie in a storage of ``elements``."""
    try:
        (offset,), size, stride = lengths((offset,)), lengths(size), lengths(stride)
    except UnsafePickleError:
        raise UnsafePickleError("a tensor's size, stride or offset is malformed") from None
    if len(size) != len(stride):
        raise UnsafePickleError("a tensor's size, stride or offset is malformed")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > elements or (count and last >= elements):
        raise UnsafePickleError(f"a tensor of size {size} reaches beyond its storage of {elements} numbers")
    return offset if count else 0, size, stride


def _tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    """A tensor of a storage without a dtype: after the stride come requires_grad, hooks, dtype, and more."""
    import torch

    if not isinstance(storage, torch.Tensor) or len(rest) < 3 or not isinstance(rest[2], torch.dtype):
        raise UnsafePickleError("a tensor has no storage or no dtype")
    elements = storage.nbytes // rest[2].itemsize
    return _tensor(storage.view(torch.uint8)[: elements * rest[2].itemsize].view(rest[2]), offset, size, stride)


def _parameter(data: Any, *_rest: Any) -> torch.Tensor:
    import torch

    if not isinstance(data, torch.Tensor):
        raise UnsafePickleError("a parameter holds no tensor")
    return data


# Functions of torch._utils by which pickles make tensors.
_REBUILD: dict[str, Callable[..., torch.Tensor]] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _tensor_v3,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
}


def _subclass(rebuild: Any, _kind: Any, args: Any, _state: Any = None) -> torch.Tensor:
    """A tensor that had a class or attributes of its own, which are not kept."""
    if rebuild not in _REBUILD.values() or not isinstance(args, tuple):
        raise UnsafePickleError("a tensor is made in an unknown way")
    tensor: torch.Tensor = rebuild(*args)
    return tensor


def _device(kind: Any, index: Any = None) -> torch.device:
    import torch

    if not isinstance(kind, str) or not _DEVICE.fullmatch(kind) or type(index) not in (int, type(None)):
        raise UnsafePickleError("a device is malformed")
    return torch.device(kind) if index is None else torch.device(kind, index)


@functools.cache
def _array_names() -> Names:
    """What pickles of torch may name where tensors become arrays."""
    # Without those of arrays of NumPy: a pickle could otherwise set the content of an array made here.
    dtypes = {f"{name}Storage": np.dtype(code) for name, code in _ARRAY_STORAGES.items()}
    return {
        **PLAIN_NAMES,
        **{(module, name): dtype for module in ("torch", "torch.storage") for name, dtype in dtypes.items()},
        **{("torch._utils", name): _array for name in ("_rebuild_tensor", "_rebuild_tensor_v2")},
        ("torch", "Size"): lengths,
    }


# What makes tensors of one kind or the other.
_STORAGES_INTO: dict[Into, type[Storages]] = {"torch": Storages, "numpy": ArrayStorages}
_NAMES_INTO: dict[Into, Callable[[], Names]] = {"torch": _names, "numpy": _array_names}


MARK = "posecap_random_weights"
"""A key of files with random weights, made for tests: at the top level, or in the metadata if the format has some."""
_ALLOW = "POSECAP_RANDOM_WEIGHTS"
"""Environment variable that lets such files through where it is ``allow``."""
_PARALLEL = "module."
"""What torch's wrappers for several GPUs put before every name."""
_LARGEST_HEADER = 100_000_000
"""Of a safetensors file, in bytes: the library's own limit."""
_SHOWN, _LONGEST_SHOWN = 3, 120
"""Names in a message, and characters of each: our choices of what is read on a line or two."""
_DEEPEST_MODULE, _MOST_MODULES = 64, 50_000
"""Bounds for hostile files, such as a module that contains itself; real networks have far less of both.
Our choices."""


class CheckpointError(ValueError):
    """The file cannot be read safely and completely; the message names it and the remedy."""


class WrongArchitectureError(CheckpointError):
    """The tensors of the file do not fit the network."""


class RandomWeightsError(CheckpointError):
    """The file has random weights, made for tests."""


def load(path: Path, *, unknown_classes: UnknownClasses = "refuse") -> Any:
    """The whole content of a checkpoint: tensors on the CPU, plain containers and plain values.

    Args:
        unknown_classes: objects of other classes raise CheckpointError (``refuse``), or become
            :class:`~posecap.weights.unpickle.Inert` records (``inert``). They are never created.

    Returns:
        What the file holds; for safetensors a dict of tensors.

    Raises:
        CheckpointError: it is cut off, not a checkpoint, a program (TorchScript), or not readable without running it.
        RandomWeightsError: it has the key :data:`MARK`.
        ModuleNotFoundError: it is a safetensors file, and that package is not installed.
    """
    return _load(path, unknown_classes, "torch")


def arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a state dict that ``torch.save`` wrote, by name, as arrays of NumPy; torch is not imported.

    Raises:
        CheckpointError: as :func:`load`, with ``refuse``; also for dtypes that NumPy does not have (bfloat16), and when
            the top level is not a state dict.
        RandomWeightsError: as :func:`load`.
    """
    content = _load(path, "refuse", "numpy")
    found = content if isinstance(content, dict) else {}
    named = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, np.ndarray)}
    if not named or len(named) != len(found):
        raise CheckpointError(f"{path} is not a state dict, which holds tensors by name and nothing else")
    return named


def tensors(path: Path, *, under: Sequence[str] = ("state_dict", "model", "module")) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint, without the file's other content.

    Where all names begin with ``module.``, as after training with several GPUs, that prefix is removed.

    Args:
        under: top-level keys that may hold it; the first one found is used. Where none is found, the top level itself
            is taken for the state dict. The value may also be a pickled module.

    Raises:
        CheckpointError, RandomWeightsError, ModuleNotFoundError: as :func:`load`; CheckpointError also when it holds
            no tensors.
    """
    content = load(path, unknown_classes="inert")
    if isinstance(content, dict):
        content = next((content[key] for key in under if isinstance(content.get(key), dict | Inert)), content)
    found = module_tensors(content) if isinstance(content, Inert) else _tensors_of(content)
    if not found:
        raise CheckpointError(f"{path} holds no tensors by name; it is not a checkpoint of a network")
    parallel = all(name.startswith(_PARALLEL) for name in found)
    return {name.removeprefix(_PARALLEL) if parallel else name: tensor for name, tensor in found.items()}


def module_tensors(module: Inert) -> dict[str, torch.Tensor]:
    """The state dict of a pickled ``torch.nn.Module``: its parameters and persistent buffers, in the module's order.

    Raises:
        CheckpointError: it is not a module, or one that contains itself.
    """
    found: dict[str, torch.Tensor] = {}
    stack: list[tuple[str, Inert, int]] = [("", module, 0)]
    for _ in range(_MOST_MODULES):
        if not stack:
            return found
        prefix, record, depth = stack.pop()
        state = record.state
        if depth > _DEEPEST_MODULE or not isinstance(state, dict) or not isinstance(state.get("_modules"), dict):
            raise CheckpointError(
                f"{record.module}.{record.name} at {prefix or 'the top'} is not a module of a network"
            )
        transient = state.get("_non_persistent_buffers_set")
        transient = transient if isinstance(transient, set | frozenset) else frozenset()
        buffers = {n: t for n, t in _tensors_of(state.get("_buffers")).items() if n not in transient}
        found |= {f"{prefix}{n}": t for n, t in (_tensors_of(state.get("_parameters")) | buffers).items()}
        children = [(n, m) for n, m in state["_modules"].items() if isinstance(n, str) and isinstance(m, Inert)]
        stack += [(f"{prefix}{name}.", child, depth + 1) for name, child in reversed(children)]
    raise CheckpointError(f"it has more than {_MOST_MODULES} modules")


def load_into(
    network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, path: Path, ignore: Sequence[str] = ()
) -> None:
    """Copy ``tensors`` into ``network``, whose dtypes and device they take on; names and shapes must be the same.

    Args:
        path: of the tensors' file, for messages.
        ignore: patterns (``data_preprocessor.*``) of names to leave out on both sides; the network keeps its own values
            there.

    Raises:
        WrongArchitectureError: names or shapes differ.
    """
    given = {name: value for name, value in tensors.items() if not _matches(name, ignore)}
    if problems := differences(network, given, ignore=ignore):
        raise WrongArchitectureError(
            f"{path} does not fit {type(network).__name__}: {problems}. "
            "Name the weights of this very model and size, or the model and size of these weights"
        )
    network.load_state_dict(given, strict=not ignore)  # strict would ask for what is ignored


def differences(network: torch.nn.Module, given: Mapping[str, torch.Tensor], *, ignore: Sequence[str] = ()) -> str:
    """How names and shapes of ``given`` differ from those of ``network``, in words; empty if they agree."""
    wanted = {name: value for name, value in network.state_dict().items() if not _matches(name, ignore)}
    shapes = [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    kinds = (
        ("missing", [name for name in wanted if name not in given]),
        ("unknown", [name for name in given if name not in wanted]),
        ("of another shape", shapes),
    )
    problems = [f"{len(names)} {what}: {_few(names)}" for what, names in kinds if names]
    return f"of {len(wanted)} tensors {'; '.join(problems)}" if problems else ""


def refuse_random(metadata: Mapping[Any, Any], *, path: Path | str = "the file") -> None:
    """Raise for content with the key :data:`MARK`, unless ``POSECAP_RANDOM_WEIGHTS=allow`` is set.

    Args:
        metadata: a checkpoint's top level, or the metadata of a safetensors or ONNX file.

    Raises:
        RandomWeightsError: it has the key.
    """
    if MARK in metadata and os.environ.get(_ALLOW) != "allow":
        raise RandomWeightsError(
            f"{path} holds random weights, made for tests: results computed with them are meaningless. "
            f"Use real weights, or set {_ALLOW}=allow to test that a pipeline runs"
        )


def _load(path: Path, unknown_classes: UnknownClasses, into: Into) -> Any:
    """As :func:`load`, with tensors of torch or arrays of NumPy."""
    try:
        content = _content(path, unknown_classes, into)
    except UnsafePickleError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}. Fetch it again, or name another file; its code is never run"
        ) from error
    if isinstance(content, dict):
        refuse_random(content, path=path)
    return content


def _content(path: Path, unknown_classes: UnknownClasses, into: Into) -> Any:
    """The content of a file of any of the three formats, whose first bytes tell which."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}") from error
    if head.startswith(ZIP_MAGIC):
        return read_zip(path, unknown_classes=unknown_classes, into=into)
    # Safetensors: the length of a JSON object in 8 bytes, then the object.
    if into == "torch" and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_HEADER:
        with open_safetensors(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if head.startswith(PICKLE_MAGIC):
        return read_legacy(path, unknown_classes=unknown_classes, into=into)
    raise CheckpointError(f"{path} is not a checkpoint: it {_what_it_is(head)}. Fetch it again, or name another file")


def _what_it_is(head: bytes) -> str:
    """The end of a message about a file that begins so."""
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer that Git LFS left in place of the file (run git lfs pull)"
    kind = sniff(head)
    return {"empty": "has no bytes", "unknown": "begins like no known format"}.get(kind, f"holds {kind}")


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """The open file, as ``safetensors.safe_open`` gives it (``keys()``, ``get_tensor(name)``) with tensors of torch on
    the CPU. It is complete: a safetensors file states its length, which is checked.

    Raises:
        CheckpointError: it is cut off or damaged.
        RandomWeightsError: its metadata has the key :data:`MARK`.
        ModuleNotFoundError: safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path} is a safetensors file; to read it, run pip install safetensors", name="safetensors"
        ) from None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            refuse_random(file.metadata() or {}, path=path)
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is cut off or damaged ({error}); fetch it again") from error


def _tensors_of(content: Any) -> dict[str, torch.Tensor]:
    """The tensors by name in a dict; none where it is no dict."""
    import torch

    if not isinstance(content, dict):
        return {}
    return {name: v for name, v in content.items() if isinstance(name, str) and isinstance(v, torch.Tensor)}


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a tensor's name fits one of the patterns, as :mod:`fnmatch` has them."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _few(names: Sequence[str]) -> str:
    """The first names as one short line; hostile ones are escaped and cut."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name[:_LONGEST_SHOWN])[1:-1] for name in names[:_SHOWN]) + more
