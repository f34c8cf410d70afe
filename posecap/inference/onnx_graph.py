"""Writes a convolutional network as an ONNX file, without the package onnx: what onnxruntime needs of the format.

A network whose weights come in another format is computed by onnxruntime in a third of the time that torch takes on one
CPU thread, and without importing torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posecap.types import Floats

_IR_VERSION, _OPSET = 7, 13
"""Of ONNX 1.8, old enough for any onnxruntime in use."""
_FLOAT = 1
"""The data type float32, as ONNX numbers it."""
_ATTRIBUTE_INT, _ATTRIBUTE_INTS = 2, 7
"""Types of attributes, likewise."""
_LENGTH_DELIMITED, _VARINT = 2, 0
"""Wire types of protocol buffers."""


class OnnxGraph:
    """A chain of operators on pictures (N, C, H, W), each of which takes names of values and returns its result's name.

    Field numbers are those of ``onnx.proto``; operators are of opset 13.
    """

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []

    def convolution(
        self,
        value: str,
        weight_OIhw: Floats,
        bias_O: Floats,
        *,
        stride: int,
        pads: tuple[int, int, int, int],
        groups: int = 1,
    ) -> str:
        """A convolution with bias; ``pads`` are zeros added at the top, left, bottom and right, in pixels."""
        inputs = [value, self._constant(weight_OIhw), self._constant(bias_O)]
        attributes: dict[str, int | list[int]] = {"strides": [stride, stride], "pads": list(pads), "group": groups}
        return self._node("Conv", inputs, attributes)

    def clip(self, value: str, low: float, high: float) -> str:
        """Values limited to [low, high]."""
        return self._node("Clip", [value, *(self._constant(np.array(x, np.float32)) for x in (low, high))], {})

    def add(self, value: str, other: str) -> str:
        """The sum of two values of one shape."""
        return self._node("Add", [value, other], {})

    def mean(self, value: str) -> str:
        """(N, C, 1, 1): the mean over the picture."""
        return self._node("GlobalAveragePool", [value], {})

    def file(self, *, source: tuple[str, Sequence[int]], result: tuple[str, Sequence[int]]) -> bytes:
        """The ONNX file; ``source`` and ``result`` are names and shapes of its float32 input and output."""
        graph = b"".join(
            (
                *(_message(1, node) for node in self._nodes),
                _message(2, b"posecap"),
                *(_message(5, constant) for constant in self._constants),
                _message(11, _value_info(*source)),
                _message(12, _value_info(*result)),
            )
        )
        return b"".join((_number(1, _IR_VERSION), _message(7, graph), _message(8, _number(2, _OPSET))))

    def _constant(self, values: Floats) -> str:
        name = f"constant{len(self._constants)}"
        shape = b"".join(_number(1, side) for side in values.shape)
        raw = _message(9, np.ascontiguousarray(values, "<f4").tobytes())
        self._constants.append(b"".join((shape, _number(2, _FLOAT), _message(8, name.encode()), raw)))
        return name

    def _node(self, operator: str, inputs: Sequence[str], attributes: dict[str, int | list[int]]) -> str:
        result = f"value{len(self._nodes)}"
        names = b"".join(_message(1, name.encode()) for name in inputs)
        described = b"".join(_message(5, _attribute(*attribute)) for attribute in attributes.items())
        self._nodes.append(b"".join((names, _message(2, result.encode()), _message(4, operator.encode()), described)))
        return result


def _attribute(name: str, value: int | list[int]) -> bytes:
    if isinstance(value, int):
        return b"".join((_message(1, name.encode()), _number(3, value), _number(20, _ATTRIBUTE_INT)))
    numbers = b"".join(_number(8, number) for number in value)
    return b"".join((_message(1, name.encode()), numbers, _number(20, _ATTRIBUTE_INTS)))


def _value_info(name: str, shape: Sequence[int]) -> bytes:
    dimensions = b"".join(_message(1, _number(1, side)) for side in shape)
    tensor = _number(1, _FLOAT) + _message(2, dimensions)
    return _message(1, name.encode()) + _message(2, _message(1, tensor))


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    """An integer of 0 or more, seven bits to a byte, the lowest first."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
