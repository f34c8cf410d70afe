"""ONNX files of fewer bits, by the tools of ONNX Runtime: float16, and int8 with ranges that clips have shown.

``float16`` has weights and operations in half precision behind float32 inputs and outputs. A GPU computes so; a CPU of
x86 computes in float32 what the file holds in half. ``int8`` has 8-bit weights, a scale for each output channel, and
8-bit activations in the convolutions and in the products that mix joints; attention, sums and averages stay in float32.
The convolutions of the first block do, too: coordinates come in by so few channels that 8 bits cost accuracy and win no
time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tmor_train.data.dataset import Floats

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
    """Names of the nodes of an ONNX graph that stay in float32: convolutions of few channels, and products that a
    softmax takes, be they scaled before it."""
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
