"""The names that occur in checkpoints of tensors, and the plain values they stand for.

A table for :func:`posecap.weights.pickled.read_pickle`. Builders get what a hostile file gives them: each checks its
arguments, and none sets aside more memory than the file has bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from posecap.weights.pickled_values import BadPickle, Builder, Constant, Filled, Known, ordered, plain_key

if TYPE_CHECKING:
    import torch

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
_DTYPES = (
    *("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"),
    *("uint64", "bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2"),
)
_NUMPY_CODE = re.compile(r"[<>|=]?[biufcSU][0-9]{1,6}")
_DEVICE = re.compile(r"[a-z]{1,16}(:[0-9]{1,3})?")
_MOST_DIMENSIONS = 64


@dataclass(frozen=True)
class Storage:
    """A stretch of bytes of the file, ``block_N`` uint8, and how they are read."""

    block_N: torch.Tensor
    dtype: torch.dtype


@dataclass(frozen=True)
class StorageKind:
    """What a storage's class says: how its bytes are read."""

    dtype: torch.dtype


def known_names() -> dict[tuple[str, str], Builder | Constant]:
    """``(module, name)`` → what it stands for."""
    return {**dict(_torch_names()), **dict(_numpy_names()), **dict(_plain_names())}


def _torch_names() -> Iterator[tuple[tuple[str, str], Builder | Constant]]:
    import torch

    for name, dtype in _STORAGES.items():
        kind = Constant(StorageKind(getattr(torch, dtype)))
        yield ("torch", name), kind
        yield ("torch.storage", name), kind
    for dtype in _DTYPES:
        if hasattr(torch, dtype):
            yield ("torch", dtype), Constant(getattr(torch, dtype))
    yield ("torch", "Tensor"), Constant("torch.Tensor")
    yield ("torch.nn.parameter", "Parameter"), Constant("torch.nn.Parameter")
    builders: dict[tuple[str, str], Builder] = {
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_dtype,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
        ("torch", "Size"): _size,
        ("torch", "device"): _device,
    }
    yield from builders.items()


def _plain_names() -> Iterator[tuple[tuple[str, str], Builder | Constant]]:
    yield ("collections", "OrderedDict"), ordered
    yield ("_codecs", "encode"), _encoded
    for module in ("builtins", "__builtin__"):
        yield (module, "set"), _items_to(set)
        yield (module, "frozenset"), _items_to(frozenset)
        yield (module, "complex"), _complex


def _numpy_names() -> Iterator[tuple[tuple[str, str], Builder | Constant]]:
    yield ("numpy", "dtype"), NumpyType
    yield ("numpy", "ndarray"), Constant(_NDARRAY)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        yield (module, "scalar"), _numpy_scalar
        yield (module, "_reconstruct"), _empty_array


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> torch.Tensor:
    if not isinstance(storage, Storage):
        raise BadPickle("a tensor has no storage")
    return _strided(storage, storage.dtype, offset, size, stride)


def _tensor_of_dtype(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    """``_rebuild_tensor_v3``: (storage, offset, size, stride, requires_grad, hooks, dtype, …)."""
    import torch

    if not isinstance(storage, Storage) or len(rest) < 3 or not isinstance(rest[2], torch.dtype):
        raise BadPickle("a tensor has no storage or no dtype")
    return _strided(storage, rest[2], offset, size, stride)


def _strided(storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> torch.Tensor:
    numbers = (offset, *_counts(size), *_counts(stride))
    if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
        raise BadPickle("a tensor's size, stride or offset is malformed")
    elements = storage.block_N.numel() // dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > elements or (math.prod(size) and last >= elements):
        raise BadPickle(f"a tensor of size {tuple(size)} reaches beyond its storage of {elements} numbers")
    if not math.prod(size):
        offset = 0
    return storage.block_N[: elements * dtype.itemsize].view(dtype).as_strided(tuple(size), tuple(stride), offset)


def _counts(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list) or len(value) > _MOST_DIMENSIONS:
        raise BadPickle("a tensor's size or stride is malformed")
    return tuple(value)


def _parameter(data: Any, *_rest: Any) -> torch.Tensor:
    import torch

    if not isinstance(data, torch.Tensor):
        raise BadPickle("a parameter holds no tensor")
    return data


def _of_type(rebuild: Any, _kind: Any, args: Any, _state: Any = None) -> torch.Tensor:
    """A tensor that had attributes of its own, which are not kept."""
    if not isinstance(rebuild, Known) or rebuild.build not in (_tensor, _tensor_of_dtype, _parameter):
        raise BadPickle("a tensor is made in an unknown way")
    tensor: torch.Tensor = rebuild.build(*args)
    return tensor


def _size(numbers: Any = ()) -> tuple[int, ...]:
    return tuple(int(n) for n in _counts(numbers))


def _device(kind: Any, index: Any = None) -> torch.device:
    import torch

    if not isinstance(kind, str) or not _DEVICE.fullmatch(kind) or type(index) not in (int, type(None)):
        raise BadPickle("a device is malformed")
    return torch.device(kind) if index is None else torch.device(kind, index)


def _encoded(text: Any, encoding: Any = "utf-8") -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise BadPickle("bytes are written in an unknown way")
    return text.encode("latin1")


def _items_to(kind: Callable[[Iterator[Any]], Any]) -> Builder:
    def build(items: Any = ()) -> Any:
        if not isinstance(items, list | tuple):
            raise BadPickle("a set is made of something that is no list")
        return kind(map(plain_key, items))

    return build


def _complex(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    return complex(float(real), float(imaginary))


_NDARRAY = object()


class NumpyType(Filled):
    """A NumPy dtype of plain numbers or short texts; its byte order comes when it is filled."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        if not isinstance(code, str) or not _NUMPY_CODE.fullmatch(code):
            raise BadPickle("an array holds something other than numbers")
        self.dtype = np.dtype(code)

    def fill(self, state: Any) -> None:
        """``(version, byte order, …)``."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise BadPickle("an array's dtype is malformed")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any], Filled):
    """An array, empty until it is filled."""

    def fill(self, state: Any) -> None:
        """``(version, shape, dtype, Fortran order, bytes)``."""
        _, shape, kind, fortran, raw = state
        if not isinstance(kind, NumpyType) or not isinstance(raw, bytes):
            raise BadPickle("an array holds something other than numbers")
        shape = _size(shape)
        if min(shape, default=0) < 0 or math.prod(shape) * kind.dtype.itemsize != len(raw):
            raise BadPickle("an array's shape and bytes disagree")
        super().__setstate__((shape, kind.dtype, bool(fortran), raw))  # type: ignore[arg-type]  # wants no np.bool


def _empty_array(kind: Any, *_rest: Any) -> _Array:
    if kind is not _NDARRAY:
        raise BadPickle("an array is of an unknown class")
    return _Array(0, np.uint8)


def _numpy_scalar(kind: Any, raw: Any = b"") -> Any:
    if not isinstance(kind, NumpyType) or not isinstance(raw, bytes) or len(raw) != kind.dtype.itemsize:
        raise BadPickle("a number is malformed")
    return np.frombuffer(raw, kind.dtype)[0].item()
