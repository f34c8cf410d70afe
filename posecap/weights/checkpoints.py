"""Reads checkpoints of networks safely from untrusted files, and loads them into networks.

``.pt``, ``.pth``, ``.ckpt`` and ``.bin`` files hold pickles, and to unpickle them with Python runs whatever they name.
Here nothing of a file is run (:mod:`posecap.weights.unpickle`). The format is recognised by the first bytes, not by the
file's name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecap.download.file_type import HEAD_BYTES, sniff
from posecap.weights.torch_file import PICKLE_MAGIC, ZIP_MAGIC, Into, read_legacy, read_zip
from posecap.weights.unpickle import Inert, UnknownClasses, UnsafePickleError

if TYPE_CHECKING:
    import torch

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
