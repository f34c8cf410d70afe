"""Exports an encoder to an ONNX file and checks that it gives the same outputs as torch.

Its input ``motion`` (N, C, T, V, M) float32 is clips, coordinates, frames, joints, people: normalised as the file's
metadata says, 0 where a joint is not seen. An encoder that averages people by presence has a second input ``present``
(N, M, T) float32: 1 for a person who is in a frame, else 0. Outputs are ``features`` (N, 256), E_M, and for encoders
with heads ``projected`` (N, width), phi_M(E_M). The number of clips N is free; all other sizes are fixed.

The metadata has the name and the SHA-256 of the checkpoint (``checkpoint``) and, as the last entry of the file, that of
all bytes before it (``sha256``). Protobuf lets an entry of a list stand anywhere, so it is appended as it is, and any
reader of ONNX opens the file. It shows damage, not forgery, as a checkpoint's own.
"""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from posecap.files import Existing, atomic_path
from posecap.joints import LAYOUTS
from tmor_train.backbones import Backbone
from tmor_train.backbones.stgcn import STGCN
from tmor_train.encoder import Projection
from tmor_train.pretrained.encoder import Pretrained

FORMAT = "tmor_train.onnx/1"
TOLERANCE = 1e-4
"""Largest difference to torch, as a share of the largest output. Our choice: far above what float32 differs by in
another order of operations (each export says by how much), far below what a wrong operator does."""

# A file's last entry of metadata: tag and length of an entry, its key, and the tag and length of 64 hex digits, as
# protobuf encodes ModelProto.metadata_props (field 14) of StringStringEntryProto (key: field 1, value: field 2).
_HASH_KEY = b"sha256"
_HASH_MARK = b"\x72\x4a\x0a\x06" + _HASH_KEY + b"\x12\x40"
_HASH_BYTES = len(_HASH_MARK) + 64
_OPSET = 17  # read by onnxruntime from 1.12 on
_BATCHES = (1, 2, 5)  # numbers of clips; the file was traced with 2, so the others show that it takes any


class ExportError(ValueError):
    """The encoder cannot be exported as asked, or the exported one gives other outputs than torch; no file is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written to ``path``, whose bytes before its last entry have the hash ``sha256`` (64 hex digits).

    ``inputs`` are the shapes by name, free sizes as words; ``outputs`` the names. ``difference`` is the largest
    difference between outputs of onnxruntime and torch on batches of several sizes, as a share of the largest output.
    """

    path: Path
    sha256: str
    inputs: dict[str, tuple[int | str, ...]]
    outputs: tuple[str, ...]
    difference: float


def export(
    encoder: Pretrained,
    path: Path,
    *,
    frames: int | None = None,
    persons: int | None = None,
    existing: Existing = "refuse",
) -> Exported:
    """Write ``encoder`` to ``path`` and check it in onnxruntime.

    Args:
        frames: T, at least 1; None takes that of training.
        persons: M; None takes that of training. UNIK and AGCN have batch norm statistics for each person slot, so they
            take no other number.
        existing: what happens if ``path`` exists; see :func:`~posecap.files.atomic_path`.

    Raises:
        ExportError: ``frames`` or ``persons`` is below 1, another number of people than the encoder takes, a difference
            above :data:`TOLERANCE`, or onnx or onnxruntime is not installed.
        OutputExistsError: ``path`` exists, and ``existing`` is ``refuse``.
    """
    _need_packages()
    sampling = encoder.sampling
    frames = sampling.frames if frames is None else frames
    persons = sampling.people if persons is None else persons
    if frames < 1 or persons < 1:
        raise ExportError(f"frames and persons are at least 1, not {frames} and {persons}")
    if persons != sampling.people and not isinstance(encoder.network, STGCN):
        raise ExportError(
            f"{type(encoder.network).__name__} of {encoder.path} has {sampling.people} person slots, each with its own "
            f"statistics; it cannot be exported for {persons}"
        )
    network = _Outputs(encoder).eval()
    shapes: dict[str, tuple[int | str, ...]] = {
        "motion": ("N", encoder.network.channels, frames, encoder.network.joints, persons)
    }
    if network.weighted:
        shapes["present"] = ("N", persons, frames)
    names = ("features",) if network.head is None else ("features", "projected")
    with atomic_path(path, existing=existing) as part:
        _write(network, part, shapes, names)
        _describe(part, _facts(encoder, frames, persons))
        sha256 = _append_hash(part)
        difference = _difference(network, part, shapes)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"onnxruntime differs from torch by {difference:.1e} of the largest output, more than {TOLERANCE:.0e}; "
                f"{path} was not written"
            )
    return Exported(path=path, sha256=sha256, inputs=shapes, outputs=names, difference=difference)


class _Outputs(nn.Module):
    """The encoder and its head as one function, on the CPU."""

    def __init__(self, encoder: Pretrained) -> None:
        super().__init__()
        self.network: Backbone = copy.deepcopy(encoder.network).cpu()
        self.head: Projection | None = None if encoder.heads is None else encoder.heads.motion
        self.weighted = self.network.people == "masked_mean"

    def forward(self, motion: Tensor, present: Tensor | None = None) -> tuple[Tensor, ...]:
        features = self.network.clip_features(motion, present)
        return (features,) if self.head is None else (features, self.head(features))


def _need_packages() -> None:
    """Raises ExportError where onnx or onnxruntime is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExportError(f"{error.name} is needed to export: pip install 'posecap[train]'") from error


def _write(network: _Outputs, path: Path, shapes: Mapping[str, tuple[int | str, ...]], names: tuple[str, ...]) -> None:
    """Traces the network into an ONNX file, with inputs of ``shapes`` and outputs of ``names``."""
    inputs = tuple(_example(shapes, clips=2, seed=0).values())
    with warnings.catch_warnings():
        # torch's newer exporter asks for another package, onnxscript; this one traces, which suffices: no branch
        # depends on values, and those on shapes are on sizes that are fixed here.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Converting a tensor to a Python|Constant folding")
        torch.onnx.export(
            network,
            inputs,
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(shapes),
            output_names=list(names),
            dynamic_axes={name: {0: "N"} for name in (*shapes, *names)},
        )


def _describe(path: Path, facts: Mapping[str, object]) -> None:
    """Writes the encoder's facts into the metadata of an ONNX file."""
    import onnx

    model = onnx.load(path)
    model.doc_string = f"T-MOR's skeleton encoder.\n{__doc__}"
    words = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for name, value in facts.items()
    }
    onnx.helper.set_model_props(model, words)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _append_hash(path: Path) -> str:
    """Append the SHA-256 of a file's bytes to it as metadata, and return it."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("ab") as file:
        file.write(_HASH_MARK + found.encode())
    return found


def check_export(path: Path) -> str:
    """The SHA-256 that a file of :func:`export` carries, which is that of its bytes: 64 hex digits.

    Raises:
        FileNotFoundError: there is no such file.
        ExportError: its bytes are others than were written, or it carries no hash, as files of former versions.
    """
    content = path.read_bytes()
    body, end = content[:-_HASH_BYTES], content[-_HASH_BYTES:]
    if not end.startswith(_HASH_MARK):
        raise ExportError(f"{path} carries no SHA-256 of its own at its end; export the encoder again")
    found = hashlib.sha256(body).hexdigest()
    if found.encode() != end[len(_HASH_MARK) :]:
        raise ExportError(f"{path} is damaged: the SHA-256 of its bytes is not the one it carries; export it again")
    return found


def _facts(encoder: Pretrained, frames: int, persons: int) -> dict[str, object]:
    """The file's metadata."""
    layout = encoder.sampling.layout
    seen: dict[str, Any] = encoder.facts()
    return {
        "format": FORMAT,
        "checkpoint": seen["checkpoint"],
        "backbone": type(encoder.network).__name__,
        "layout": layout,
        "joints": list(LAYOUTS[layout].names),
        "frames": frames,
        "persons": persons,
        "sampling": {**seen["sampling"], "frames": frames, "people": persons},
        "normalise": seen["sampling"]["normalise"],
        "still": seen["still"],
        "streams": seen["streams"],
        "config": seen["config"],
    }


def _example(shapes: Mapping[str, tuple[int | str, ...]], *, clips: int, seed: int) -> dict[str, Tensor]:
    """Random inputs of about the size of real ones, with joints that are not seen (a tenth) and people absent in some
    frames (three of ten): our choice."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {name: (clips, *(int(size) for size in shape[1:])) for name, shape in shapes.items()}
    motion = torch.empty(sizes["motion"]).normal_(0, 0.5, generator=generator)
    made = {"motion": motion * (torch.rand(sizes["motion"], generator=generator) > 0.1)}
    if "present" in sizes:
        made["present"] = (torch.rand(sizes["present"], generator=generator) > 0.3).float()
    return made


@torch.no_grad()
def _difference(network: _Outputs, path: Path, shapes: Mapping[str, tuple[int | str, ...]]) -> float:
    """Largest difference between the file's outputs and torch's, as a share of the largest output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for clips in _BATCHES:
        inputs = _example(shapes, clips=clips, seed=clips)
        found: list[NDArray[np.float32]] = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        for ours, theirs in zip(network(*inputs.values()), found, strict=True):
            if ours.shape != theirs.shape or not np.isfinite(theirs).all():
                return float("inf")
            largest = max(float(ours.abs().max()), 1e-12)  # outputs may all be 0
            worst = max(worst, float(np.abs(ours.numpy() - theirs).max()) / largest)
    return worst
