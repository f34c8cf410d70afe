"""Checkpoints of networks: tensors out of hostile files, and into a network that they fit.

``.pt``, ``.pth``, ``.ckpt`` and ``.bin`` files hold pickles, whose loading runs whatever they name. Here nothing of a
file is run (:mod:`posecap.weights.unpickle`). What a file is follows from its first bytes; its name is not believed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posecap.download.file_type import HEAD_BYTES, sniff
from posecap.weights.pickle_names import BadPickle, Inert
from posecap.weights.torch_file import PICKLE_MAGIC, ZIP_MAGIC, read_legacy, read_zip
from posecap.weights.unpickle import UnknownClasses

if TYPE_CHECKING:
    import torch

MARK = "posecap_random_weights"
"""Key that files of random weights, made for tests, carry at their top level; in their metadata where they have it."""
_ALLOW = "POSECAP_RANDOM_WEIGHTS"
_LARGEST_HEADER = 100_000_000
_SHOWN, _LONGEST_SHOWN = 3, 120
_DEEPEST_MODULE, _MOST_MODULES = 64, 50_000


class BadCheckpoint(ValueError):
    """The file is no checkpoint that can be read safely and whole; the message names it and the remedy."""


class WrongArchitecture(BadCheckpoint):
    """The tensors of the file are not those of the network."""


class RandomWeights(BadCheckpoint):
    """The file was made for tests: its weights are random."""


def load(path: Path, *, unknown_classes: UnknownClasses = "refuse") -> Any:
    """The whole content of a checkpoint: tensors on the CPU, plain containers and plain values.

    Args:
        unknown_classes: objects of other classes end the reading (``refuse``), or become records of what the file says
            of them, :class:`~posecap.weights.pickle_names.Inert` (``inert``). They are never made.

    Returns:
        What the file holds; for safetensors a dict of tensors.

    Raises:
        BadCheckpoint: truncated, no checkpoint, a program (TorchScript), or not to be read without running it.
        RandomWeights: it carries :data:`MARK`.
        ModuleNotFoundError: it is a safetensors file, and that package is missing.
    """
    try:
        content = _content(path, unknown_classes)
    except BadPickle as trouble:
        raise BadCheckpoint(
            f"{path} cannot be read: {trouble}. Fetch it again, or name another file; its code is never run"
        ) from trouble
    if isinstance(content, dict):
        refuse_random(content, path=path)
    return content


def tensors(path: Path, *, under: Sequence[str] = ("state_dict", "model", "module")) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint, flat; its file's other content is left out.

    Args:
        under: keys under which it may lie, the first one found counts; otherwise the file itself is the state dict.
            Under such a key a pickled module is as good as a state dict.

    Raises:
        BadCheckpoint, RandomWeights, ModuleNotFoundError: as :func:`load`; BadCheckpoint too when it holds no tensors.
    """
    content = load(path, unknown_classes="inert")
    if isinstance(content, dict):
        content = next((content[key] for key in under if isinstance(content.get(key), dict | Inert)), content)
    found = module_tensors(content) if isinstance(content, Inert) else _tensors_of(content)
    if not found:
        raise BadCheckpoint(f"{path} holds no tensors by name; it is no checkpoint of a network")
    return found


def module_tensors(module: Inert) -> dict[str, torch.Tensor]:
    """The state dict of a pickled ``torch.nn.Module``: its parameters and persistent buffers, in the module's order.

    Raises:
        BadCheckpoint: it is no module, or one that holds itself.
    """
    return dict(_walk(module))


def load_into(
    network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, path: Path, ignore: Sequence[str] = ()
) -> None:
    """Copy ``tensors`` into ``network``; every name and shape must agree.

    Args:
        path: where the tensors come from, for messages.
        ignore: patterns (``data_preprocessor.*``) of names that may be missing on either side; they are left out.

    Raises:
        WrongArchitecture: names or shapes differ.
    """
    wanted = {name: value for name, value in network.state_dict().items() if not _matches(name, ignore)}
    given = {name: value for name, value in tensors.items() if not _matches(name, ignore)}
    shapes = [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    differences = (
        ("missing", [name for name in wanted if name not in given]),
        ("unknown", [name for name in given if name not in wanted]),
        ("of another shape", shapes),
    )
    if told := [f"{len(names)} {what}: {_few(names)}" for what, names in differences if names]:
        raise WrongArchitecture(
            f"{path} does not fit {type(network).__name__}: of {len(wanted)} tensors {'; '.join(told)}. "
            "Name the weights of this very model and size, or the model and size of these weights"
        )
    network.load_state_dict(given, strict=not ignore)


def mark(content: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with the mark of random weights."""
    return {**content, MARK: True}


def refuse_random(metadata: Mapping[Any, Any], *, path: Path | str = "the file") -> None:
    """Refuse what carries :data:`MARK`, unless ``POSECAP_RANDOM_WEIGHTS=allow`` is set.

    Args:
        metadata: a checkpoint's top level, or the metadata of a safetensors or ONNX file.

    Raises:
        RandomWeights: it carries the mark.
    """
    if MARK in metadata and os.environ.get(_ALLOW) != "allow":
        raise RandomWeights(
            f"{path} holds random weights, made for tests: nothing that comes out of them means anything. "
            f"Use the real ones, or set {_ALLOW}=allow where only the plumbing is tried"
        )


def _content(path: Path, unknown_classes: UnknownClasses) -> Any:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be opened: {error.strerror}") from error
    if head.startswith(ZIP_MAGIC):
        return read_zip(path, unknown_classes=unknown_classes)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_HEADER:
        return _safetensors(path)
    if head.startswith(PICKLE_MAGIC):
        return read_legacy(path, unknown_classes=unknown_classes)
    raise BadCheckpoint(f"{path} is no checkpoint: it {_instead(head)}. Fetch it again, or name another file")


def _instead(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer that Git LFS left in place of the file (run git lfs pull)"
    kind = sniff(head)
    return {"empty": "has no bytes", "unknown": "begins like no format known here"}.get(kind, f"holds {kind}")


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path} is a safetensors file; to read it, run pip install safetensors", name="safetensors"
        ) from None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            refuse_random(file.metadata() or {}, path=path)
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(f"{path} is cut off or damaged ({error}); fetch it again") from error


def _tensors_of(content: Any) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(content, dict):
        return {}
    return {name: v for name, v in content.items() if isinstance(name, str) and isinstance(v, torch.Tensor)}


def _walk(root: Inert) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of a module and those below it, depth first, as ``state_dict`` orders them."""
    waiting: list[tuple[str, Inert, int]] = [("", root, 0)]
    for _ in range(_MOST_MODULES):
        if not waiting:
            return
        prefix, module, depth = waiting.pop()
        state = module.state
        if depth > _DEEPEST_MODULE or not isinstance(state, dict) or not isinstance(state.get("_modules"), dict):
            raise BadCheckpoint(f"{module.module}.{module.name} at {prefix or 'the top'} is no network's module")
        passing = state.get("_non_persistent_buffers_set")
        passing = passing if isinstance(passing, set | frozenset) else frozenset()
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _tensors_of(state.get(kind)).items():
                if kind == "_parameters" or name not in passing:
                    yield f"{prefix}{name}", tensor
        children = [(n, m) for n, m in state["_modules"].items() if isinstance(n, str) and isinstance(m, Inert)]
        waiting += [(f"{prefix}{name}.", child, depth + 1) for name, child in reversed(children)]
    raise BadCheckpoint(f"it has more than {_MOST_MODULES} modules")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _few(names: Sequence[str]) -> str:
    """The first names, which a file may have chosen, as one short line."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name[:_LONGEST_SHOWN])[1:-1] for name in names[:_SHOWN]) + more


__all__ = [
    "MARK",
    "BadCheckpoint",
    "Inert",
    "RandomWeights",
    "WrongArchitecture",
    "load",
    "load_into",
    "mark",
    "module_tensors",
    "refuse_random",
    "tensors",
]
