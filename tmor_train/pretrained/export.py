"""Exports an encoder to an ONNX file, in float32, float16 or int8, compares its outputs with torch's, and computes with
such a file in ONNX Runtime.

Its input ``motion`` (N, C, T, V, M) float32 is clips, coordinates, frames, joints, people: normalised as the file's
metadata says, 0 where a joint is not seen. An encoder that averages people by presence has a second input ``present``
(N, M, T) float32: 1 for a person who is in a frame, else 0. Outputs are ``features`` (N, 256), E_M, and for encoders
with heads ``projected`` (N, width), phi_M(E_M). The number of clips N is free; all other sizes are fixed. UNIK and AGCN
are written in their fused form (:mod:`tmor_train.backbones.fused`).

In float32 the file must compute what torch does. In float16 and int8 it cannot: each clip's embedding is compared by
its cosine with that of torch in float32, after the mean of torch's embeddings was taken from both. Without that every
cosine would be high, since embeddings of an encoder share a large component.

The metadata has the name and the SHA-256 of the checkpoint (``checkpoint``) and, as the last entry of the file, that of
all bytes before it (``sha256``). Protobuf lets an entry of a list stand anywhere, so it is appended as it is, and any
reader of ONNX opens the file. It shows damage, not forgery, as a checkpoint's own.

Files of fewer bits are made by the tools of ONNX Runtime. ``float16`` has weights and operations in half precision
behind float32 inputs and outputs. A GPU computes so; a CPU of x86 computes in float32 what the file holds in half.
``int8`` has 8-bit weights, a scale for each output channel, and 8-bit activations in the convolutions and in the
products that mix joints. The factors of the attention have 8 bits, as convolutions give them; its products, their
softmax, and averages stay in float32. The convolutions of the first block do, too: coordinates come in by so few
channels that 8 bits cost accuracy and win no time.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from posecap.files import Existing, atomic_path
from posecap.joints import LAYOUTS
from tmor_train.backbones import Backbone
from tmor_train.backbones.fused import fused
from tmor_train.backbones.stgcn import STGCN
from tmor_train.data import MotionSet
from tmor_train.data.dataset import Floats
from tmor_train.encoder import SHORTEST, Projection
from tmor_train.pretrained.encoder import Pretrained

FORMAT = "tmor_train.onnx/1"
TOLERANCE = 1e-4
"""Largest difference to torch, as a share of the largest output. Our choice: far above what float32 differs by in
another order of operations (each export says by how much), far below what a wrong operator does."""
LEAST_COSINE = 0.9
"""Least mean cosine of embeddings in float16 and int8 with those of torch, less their mean. Our choice: far below what
was measured (docs/results/recognition.md), far above what clips have by which int8 cannot be scaled."""
MOST_CLIPS = 256
"""Clips that are taken of a set for int8: half of them show the ranges of activations, half are compared. Our choice:
more than the 100 or so that quantizers' own examples take."""

# A file's last entry of metadata: tag and length of an entry, its key, and the tag and length of 64 hex digits, as
# protobuf encodes ModelProto.metadata_props (field 14) of StringStringEntryProto (key: field 1, value: field 2).
_HASH_KEY = b"sha256"
_HASH_MARK = b"\x72\x4a\x0a\x06" + _HASH_KEY + b"\x12\x40"
_HASH_BYTES = len(_HASH_MARK) + 64
_OPSET = 17  # read by onnxruntime from 1.12 on
_HALVES = (0, 1)  # of clips: those that int8 is scaled by, and those that it is compared on
_BATCHES = (1, 2, 16)  # numbers of made-up clips; the file was traced with 2, so the others show that it takes any


class ExportError(ValueError):
    """The encoder cannot be exported as asked, or the exported one gives other outputs than torch; no file is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written to ``path``, whose bytes before its last entry have the hash ``sha256`` (64 hex digits).

    ``inputs`` are the shapes by name, free sizes as words; ``outputs`` the names. ``difference`` is the largest
    difference between outputs of onnxruntime and torch on batches of several sizes, as a share of the largest output.
    ``cosine`` is the mean over clips of the cosine of embeddings of both, less the mean of torch's: of the clips that
    were given, else of made-up ones.
    """

    path: Path
    sha256: str
    inputs: dict[str, tuple[int | str, ...]]
    outputs: tuple[str, ...]
    difference: float
    cosine: float


def export(
    encoder: Pretrained,
    path: Path,
    *,
    frames: int | None = None,
    persons: int | None = None,
    precision: Precision = "float32",
    clips: MotionSet | None = None,
    existing: Existing = "refuse",
) -> Exported:
    """Write ``encoder`` to ``path`` and check it in onnxruntime.

    Args:
        precision: as :mod:`tmor_train.pretrained.export` describes it.
        clips: what to compare with, at most :data:`MOST_CLIPS` from all over the set; int8 needs them, two or more, and
            is scaled by every second of them and compared on the others.
        frames: T, at least 1; None takes that of training.
        persons: M; None takes that of training. UNIK and AGCN have batch norm statistics for each person slot, so they
            take no other number.
        existing: what happens if ``path`` exists; see :func:`~posecap.files.atomic_path`.

    Raises:
        ExportError: ``frames`` or ``persons`` is below 1, another number of people than the encoder takes, int8 without
            clips, a difference above :data:`TOLERANCE` in float32, else a cosine below :data:`LEAST_COSINE`, or onnx or
            onnxruntime is not installed.
        UnusableEncoderError, posecap.joints.LayoutError: the encoder does not take such clips.
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
    if precision == "int8" and (clips is None or len(clips) < len(_HALVES)):
        raise ExportError(
            "int8 needs clips that show how large activations become: --data or --sets, two clips or more"
        )
    plain = copy.deepcopy(encoder.network).cpu()
    network, written = _Outputs(encoder, plain).eval(), _Outputs(encoder, fused(plain)).eval()
    shapes: dict[str, tuple[int | str, ...]] = {
        "motion": ("N", encoder.network.channels, frames, encoder.network.joints, persons)
    }
    if network.weighted:
        shapes["present"] = ("N", persons, frames)
    names = ("features",) if network.head is None else ("features", "projected")
    seen = replace(encoder, sampling=replace(sampling, frames=frames, people=persons))
    scaled, compared = _inputs(seen, clips, shapes)
    with atomic_path(path, existing=existing) as part:
        _write(written, part, shapes, names)
        if precision == "float16":
            to_float16(part)
        elif precision == "int8":
            to_int8(part, scaled)
        _describe(part, _facts(encoder, frames, persons) | {"precision": precision})
        sha256 = _append_hash(part)
        made = [_example(shapes, clips=number, seed=number) for number in _BATCHES]
        difference, cosine = _compared(network, part, made)
        if compared:
            _, cosine = _compared(network, part, compared)
        if precision == "float32" and not difference <= TOLERANCE:
            raise ExportError(
                f"onnxruntime differs from torch by {difference:.1e} of the largest output, more than {TOLERANCE:.0e}; "
                f"{path} was not written"
            )
        if precision != "float32" and not cosine >= LEAST_COSINE:
            raise ExportError(
                f"embeddings in {precision} have a mean cosine of {cosine:.3f} with torch's, below {LEAST_COSINE}; "
                f"{path} was not written. Give other clips, or another precision"
            )
    return Exported(path=path, sha256=sha256, inputs=shapes, outputs=names, difference=difference, cosine=cosine)


class _Outputs(nn.Module):
    """A network and the encoder's head as one function, on the CPU."""

    def __init__(self, encoder: Pretrained, network: Backbone) -> None:
        super().__init__()
        self.network = network
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
    inputs = tuple(torch.from_numpy(values) for values in _example(shapes, clips=2, seed=0).values())
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


def _session(path: Path) -> Any:
    """An ONNX file, to be computed on as many threads as torch may use."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


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


def _example(shapes: Mapping[str, tuple[int | str, ...]], *, clips: int, seed: int) -> Inputs:
    """Random inputs of about the size of real ones, with joints that are not seen (a tenth) and people absent in some
    frames (three of ten): our choice."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {name: (clips, *(int(size) for size in shape[1:])) for name, shape in shapes.items()}
    motion = torch.empty(sizes["motion"]).normal_(0, 0.5, generator=generator)
    made = {"motion": motion * (torch.rand(sizes["motion"], generator=generator) > 0.1)}
    if "present" in sizes:
        made["present"] = (torch.rand(sizes["present"], generator=generator) > 0.3).float()
    return {name: values.numpy() for name, values in made.items()}


def _inputs(
    encoder: Pretrained, clips: MotionSet | None, shapes: Mapping[str, tuple[int | str, ...]]
) -> tuple[list[Inputs], list[Inputs]]:
    """Batches of every second clip of a set, from the first and from the second on; none without a set. Raises what
    :meth:`Pretrained.network_inputs` raises."""
    if clips is None:
        return [], []
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(len(clips), MOST_CLIPS)).astype(np.int64))
    found: list[list[Inputs]] = []
    for first in _HALVES:
        half: list[Inputs] = []
        for batch in encoder.network_inputs(clips.select(chosen[first :: len(_HALVES)]), batch=16, workers=0):
            given = {"motion": batch.motion_NCTVM.contiguous(), "present": batch.present.float()}
            half.append({name: given[name].cpu().numpy() for name in shapes})
        found.append(half)
    scaled, compared = found
    return scaled, compared


@torch.no_grad()
def _compared(network: _Outputs, path: Path, inputs: Sequence[Inputs]) -> tuple[float, float]:
    """Of the file's outputs and torch's: the largest difference as a share of the largest output, and the mean cosine
    of features less the mean of torch's."""
    session = _session(path)
    worst = 0.0
    features: list[tuple[Floats, Floats]] = []
    for given in inputs:
        found: list[NDArray[np.float32]] = session.run(None, dict(given))
        wanted = [output.numpy() for output in network(*(torch.from_numpy(value) for value in given.values()))]
        for ours, theirs in zip(wanted, found, strict=True):
            if ours.shape != theirs.shape or not np.isfinite(theirs).all():
                return float("inf"), 0.0
            largest = max(float(np.abs(ours).max()), 1e-12)  # outputs may all be 0
            worst = max(worst, float(np.abs(ours - theirs).max()) / largest)
        features.append((wanted[0], found[0]))
    ours_ND, theirs_ND = (np.concatenate(half) for half in zip(*features, strict=True))
    mean_D = ours_ND.mean(0)
    ours_ND, theirs_ND = ours_ND - mean_D, theirs_ND - mean_D
    lengths_N = np.linalg.norm(ours_ND, axis=1) * np.linalg.norm(theirs_ND, axis=1)
    return worst, float(((ours_ND * theirs_ND).sum(1) / np.maximum(lengths_N, SHORTEST**2)).mean())


Precision = Literal["float32", "float16", "int8"]
"""What the products of an exported encoder are computed of."""

Inputs = Mapping[str, Floats]
"""Inputs of an ONNX file by name, of several clips."""

_FEWEST_CHANNELS = 16
"""Convolutions of fewer input channels stay in float32: of the first block, whose inputs are coordinates."""


def to_float16(path: Path) -> None:
    """Convert an ONNX file, in its place, to float16 behind float32 inputs and outputs."""
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = OnnxModel(onnx.load(path))
    model.convert_float_to_float16(use_symbolic_shape_infer=False, keep_io_types=True)
    model.topological_sort(is_deterministic=True)  # the casts are appended at the end
    onnx.save(model.model, path)


def to_int8(path: Path, inputs: Sequence[Inputs]) -> None:
    """Quantize an ONNX file in its place, with the ranges of activations that ``inputs`` show, one batch or more."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Inputs] = iter(inputs)

        def get_next(self) -> Inputs | None:
            return next(self._left, None)

    with _without_advice():
        quantize_static(
            onnx.load(path),
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "MatMul"],
            nodes_to_exclude=_kept(onnx.load(path).graph),
        )


def _kept(graph: Any) -> list[str]:
    """Names of the nodes of an ONNX graph that the quantizer leaves out: convolutions of few channels, and products
    that a softmax takes, be they scaled before it."""
    sizes = {tensor.name: tensor.dims for tensor in graph.initializer}
    small = [
        node.name
        for node in graph.node
        if node.op_type == "Conv" and node.input[1] in sizes and sizes[node.input[1]][1] < _FEWEST_CHANNELS
    ]
    made_by = {name: node for node in graph.node for name in node.output}
    attention = []
    for node in graph.node:
        if node.op_type == "Softmax":
            before = made_by.get(node.input[0])
            while before is not None and before.op_type in ("Div", "Mul"):
                before = made_by.get(before.input[0])
            attention += [before.name] if before is not None and before.op_type == "MatMul" else []
    return small + attention


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without the warnings of the quantizer that a model should be preprocessed: what that does, fusing batch norms,
    was done before the export."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class OnnxBackbone(Backbone):
    """The features of an ONNX file of :func:`tmor_train.pretrained.export.export`, in place of ``encoder``'s network.

    ``sha256`` is the hash that the file carries, ``precision`` what it computes in. It runs on as many threads as torch
    may use when it is made, and gives features of clips alone, not of frames.

    Raises:
        FileNotFoundError: there is no such file.
        ExportError: the file is damaged or none of :func:`~tmor_train.pretrained.export.export`, it is of another
            checkpoint or another of its encoders, its clips have other numbers of frames or people, or onnxruntime is
            not installed.
    """

    def __init__(self, path: Path, encoder: Pretrained) -> None:
        network = encoder.network
        super().__init__(joints=network.joints, channels=network.channels, classes=None, people=network.people)
        self.sha256 = check_export(path)
        try:
            self._session = _session(path)
        except ModuleNotFoundError as error:
            raise ExportError("onnxruntime is needed to run it: pip install 'posecap[train]'") from error
        facts = self._session.get_modelmeta().custom_metadata_map
        if facts.get("format") != FORMAT:
            raise ExportError(f"{path} is none of tmor_train's files, {FORMAT}")
        self.precision = facts.get("precision", "float32")
        made_of, wanted = json.loads(facts["checkpoint"]), encoder.facts()["checkpoint"]
        if (made_of["sha256"], made_of["of"]) != (wanted["sha256"], wanted["of"]):
            raise ExportError(
                f"{path} is of the checkpoint with the SHA-256 {made_of['sha256'][:12]} ({made_of['of']}), not of "
                f"{encoder.path} with {wanted['sha256'][:12]} ({wanted['of']}); export that one"
            )
        sizes, sampling = (int(facts["frames"]), int(facts["persons"])), encoder.sampling
        if sizes != (sampling.frames, sampling.people):
            raise ExportError(
                f"{path} is for clips of {sizes[0]} frames and {sizes[1]} people, the checkpoint for {sampling.frames} "
                f"and {sampling.people}; export it without --frames and --persons"
            )

    def joint_features(self, x: Tensor) -> Tensor:
        """Raises NotImplementedError: the file gives features of clips."""
        raise NotImplementedError("an ONNX file gives features of clips; load the checkpoint without it")

    def clip_features(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """As :meth:`Backbone.clip_features`, of ``present`` (N, M, T) or of a file that takes none."""
        given = {"motion": np.ascontiguousarray(x.numpy())}
        if self.people == "masked_mean" and present is not None:
            given["present"] = present.float().numpy()
        return torch.from_numpy(self._session.run(["features"], given)[0])
