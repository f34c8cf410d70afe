"""ONNX networks through onnxruntime (one CPU thread, or the worker's GPU), bilinear resampling of their input, a base
of detectors, and a writer of ONNX files.

Resampling is that of OpenCV's ``warpAffine`` and ``resize`` without rotation, one axis after the other. Results differ
by at most one grey level, in few pixels, since OpenCV rounds its weights.

:class:`OnnxDetector` is for detectors that are one network with non-maximum suppression inside, as MMDeploy exports
them.

:class:`OnnxGraph` writes a convolutional network without the package onnx: what onnxruntime needs of the format. So a
network whose weights come in another format needs no torch, and less time than with torch on one CPU thread.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from posecap.inference.device import Batches, Device, DeviceError, ran_out_of_memory
from posecap.interfaces import Detections
from posecap.models import locate
from posecap.stage import Engine
from posecap.types import Floats, Pixels
from posecap.weights.checkpoints import CheckpointError, WrongArchitectureError, refuse_random

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


Outside = Literal["black", "grey", "edge"]
"""What lies beyond a picture: black, grey as :data:`GREY` has it, or its nearest edge pixel."""
GREY = 114
"""Of the padding in the training of OpenMMLab's one-stage detectors, as in YOLOX and YOLO before them."""
Coordinates = NDArray[np.floating[Any]]


def sample(picture_HW3: Pixels, rows_h: Coordinates, columns_w: Coordinates, *, outside: Outside) -> Pixels:
    """Sample the image on the grid ``rows_h`` x ``columns_w``: (h, w, 3) uint8.

    Args:
        rows_h: increasing y coordinates in pixels; 0 is the centre of the first pixel.
        columns_w: increasing x coordinates, likewise.
        outside: what lies beyond the image.
    """
    rows = _interpolation(rows_h, picture_HW3.shape[0], outside)
    columns = _interpolation(columns_w, picture_HW3.shape[1], outside)
    used = slice(int(columns.low.min()), int(columns.high.max()) + 1)
    lines = _interpolate(picture_HW3[:, used], rows, axis=0)
    columns = replace(columns, low=columns.low - used.start, high=columns.high - used.start)
    sampled = _interpolate(lines, columns, axis=1)
    if outside == "grey":
        sampled += GREY * (1 - rows.inside[:, None] * columns.inside)[..., None]
    return np.rint(sampled).astype(np.uint8)


def crop(picture_HW3: Pixels, area_4: Floats, *, height: int, width: int, outside: Outside) -> Pixels:
    """(height, width, 3) uint8: an area of the image scaled to this size, bilinearly, as MMPose's ``warpAffine`` does:
    the area's centre is at the centre of pixel (width / 2, height / 2).

    Args:
        area_4: (centre x, centre y, width, height) in pixels of the image; it may reach beyond.
        outside: what lies beyond the image.
    """
    x, y, wide, high = (float(value) for value in area_4)
    rows = (np.arange(height) - height / 2) * (high / height) + y
    columns = (np.arange(width) - width / 2) * (wide / width) + x
    return sample(picture_HW3, rows, columns, outside=outside)


def resize(picture_HW3: Pixels, *, height: int, width: int) -> Pixels:
    """(height, width, 3) uint8: the image resized, without averaging when it shrinks, as ``cv2.INTER_LINEAR`` does."""
    have_h, have_w = picture_HW3.shape[:2]
    rows = (np.arange(height) + 0.5) * (have_h / height) - 0.5
    columns = (np.arange(width) + 0.5) * (have_w / width) - 0.5
    return sample(picture_HW3, rows, columns, outside="edge")


@dataclass(frozen=True, slots=True)
class _Interpolation:
    """For each coordinate its two neighbours along one axis, and their weights."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    low_weight: Floats
    high_weight: Floats

    @property
    def inside(self) -> Floats:
        """How much of each coordinate's value comes from the image, 0 to 1; the rest lies beyond it."""
        return self.low_weight + self.high_weight


def _interpolation(coordinates: Coordinates, size: int, outside: Outside) -> _Interpolation:
    """Of coordinates along an axis of ``size`` pixels. Beyond it the weights are 0, with ``edge`` those of the edge."""
    floor = np.floor(coordinates)
    low = floor.astype(np.intp)
    high_weight = (coordinates - floor).astype(np.float32)
    low_weight = 1 - high_weight
    if outside != "edge":
        low_weight = low_weight * ((low >= 0) & (low < size))
        high_weight = high_weight * ((low >= -1) & (low < size - 1))
    return _Interpolation(np.clip(low, 0, size - 1), np.clip(low + 1, 0, size - 1), low_weight, high_weight)


def _interpolate(lines: Pixels | Floats, weights: _Interpolation, *, axis: Literal[0, 1]) -> Floats:
    """The picture (H, W, 3) at the coordinates along one axis, the other as it was."""

    def part(index: NDArray[np.intp], weight: Floats) -> Floats:
        taken: Floats = np.take(lines, index, axis=axis).astype(np.float32, copy=False)
        taken *= weight[:, None, None] if axis == 0 else weight[None, :, None]
        return taken

    total = part(weights.low, weights.low_weight)
    total += part(weights.high, weights.high_weight)
    return total


class OnnxNetwork:
    """A network with one input of images and named outputs.

    Args:
        batch: most images at once. 64 is our choice; results do not depend on it.
        otherwise: (height, width) of the images that a file exported for any size is given; None refuses such files
            when their size is asked for.

    Attributes:
        most: the fixed batch size of a file exported with one; None for any size.
        batches: batches of at most ``batch`` images, or ``most`` where that is less.

    Raises:
        CheckpointError: the file is damaged or no ONNX file, or (``WrongArchitectureError``) has other outputs;
            ``RandomWeightsError`` as :func:`posecap.weights.checkpoints.refuse_random`.
        DeviceError: ``cuda`` is asked for and onnxruntime has none.
    """

    def __init__(
        self,
        path: Path,
        *,
        outputs: Sequence[str],
        device: Device,
        batch: int = 64,
        otherwise: tuple[int, int] | None = None,
    ) -> None:
        self._path, self._outputs, self._otherwise = path, list(outputs), otherwise
        self._session = open_session(path, device)
        refuse_random(self._session.get_modelmeta().custom_metadata_map, path=path)
        found = [output.name for output in self._session.get_outputs()]
        inputs = self._session.get_inputs()
        if not set(outputs) <= set(found) or len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise WrongArchitectureError(
                f"{path} takes {', '.join(i.name for i in inputs)} and gives {', '.join(found)}; expected one input of "
                f"pictures and the outputs {', '.join(outputs)}. Name the ONNX file of this very model"
            )
        self._input = inputs[0]
        self.most = self._input.shape[0] if isinstance(self._input.shape[0], int) else None
        self.batches = Batches(min(batch, self.most or batch))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input; ``otherwise`` stands in for what the file leaves open.

        Raises:
            WrongArchitectureError: the size is not fixed, and there is no other.
        """
        height, width = (
            side if isinstance(side, int) else other
            for side, other in zip(self._input.shape[2:], self._otherwise or (None, None), strict=True)
        )
        if height is None or width is None:
            raise WrongArchitectureError(f"{self._path} takes pictures of any size; name a file exported for one size")
        return height, width

    def run(self, pictures_N3HW: Floats) -> list[Any]:
        """The network's outputs, as arrays, for a batch of images that are normalised as the network expects; in the
        order in which the constructor names them.

        Raises:
            MemoryError: out of memory, whichever error onnxruntime raised.
        """
        try:
            return list(self._session.run(self._outputs, {self._input.name: pictures_N3HW}))
        except Exception as error:  # onnxruntime's errors share no class but this one
            if ran_out_of_memory(RuntimeError(str(error))):
                raise MemoryError(str(error)) from None
            raise


def normalize(pictures_NHW3: np.ndarray[Any, Any], *, mean: Sequence[float], std: Sequence[float]) -> Floats:
    """(N, 3, H, W) float32: (x − mean) / std, channel by channel, in the channels' given order."""
    shifted = (pictures_NHW3.astype(np.float32) - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.ascontiguousarray(shifted.transpose(0, 3, 1, 2))


def open_session(path: Path, device: Device) -> InferenceSession:
    """A session of onnxruntime that computes with one CPU thread, or on the GPU.

    Raises:
        CheckpointError: the file is damaged or no ONNX file.
        DeviceError: ``cuda`` is asked for and onnxruntime has none.
    """
    try:
        content = path.read_bytes()  # bytes rather than a path: they cannot refer to other files
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}") from error
    return session_of(content, device, path=path)


def session_of(content: bytes, device: Device, *, path: Path) -> InferenceSession:
    """:func:`open_session` of an ONNX file's bytes, with the path of what they come from for messages.

    Raises:
        CheckpointError, DeviceError: as there.
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    gpu = device != "cpu" and "CUDAExecutionProvider" in available
    if device == "cuda" and not gpu:
        raise DeviceError(
            "the pipeline asks for device='cuda', but this onnxruntime computes on the CPU only: "
            "install onnxruntime-gpu instead of onnxruntime"
        )
    options = onnxruntime.SessionOptions()
    # One thread: every core already runs a worker of its own, and results do not depend on how many there are.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no class but this one
        raise CheckpointError(
            f"{path} cannot be read as ONNX: {error}. Fetch it again, or name another file"
        ) from error


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
        """Add an array (TensorProto: dims, data_type, raw_data, name), and return its name."""
        name = f"constant{len(self._constants)}"
        shape = b"".join(_number(1, side) for side in values.shape)
        raw = _message(9, np.ascontiguousarray(values, "<f4").tobytes())
        self._constants.append(b"".join((shape, _number(2, _FLOAT), _message(8, name.encode()), raw)))
        return name

    def _node(self, operator: str, inputs: Sequence[str], attributes: dict[str, int | list[int]]) -> str:
        """Add an operator (NodeProto: input, output, op_type, attribute), and return the name of its result."""
        result = f"value{len(self._nodes)}"
        names = b"".join(_message(1, name.encode()) for name in inputs)
        described = b"".join(_message(5, _attribute(*attribute)) for attribute in attributes.items())
        self._nodes.append(b"".join((names, _message(2, result.encode()), _message(4, operator.encode()), described)))
        return result


def _attribute(name: str, value: int | list[int]) -> bytes:
    """An AttributeProto of a number or of numbers (name, i or ints, type)."""
    if isinstance(value, int):
        return b"".join((_message(1, name.encode()), _number(3, value), _number(20, _ATTRIBUTE_INT)))
    numbers = b"".join(_number(8, number) for number in value)
    return b"".join((_message(1, name.encode()), numbers, _number(20, _ATTRIBUTE_INTS)))


def _value_info(name: str, shape: Sequence[int]) -> bytes:
    """A ValueInfoProto of a float32 tensor of that shape."""
    dimensions = b"".join(_message(1, _number(1, side)) for side in shape)
    tensor = _number(1, _FLOAT) + _message(2, dimensions)
    return _message(1, name.encode()) + _message(2, _message(1, tensor))


def _message(field: int, content: bytes) -> bytes:
    """A field of protocol buffers that holds bytes, a text or a message."""
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    """A field of protocol buffers that holds an integer of 0 or more."""
    return _varint(field << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    """An integer of 0 or more, seven bits to a byte, the lowest first."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


@dataclass(frozen=True, slots=True)
class FittedFrame:
    """A frame as the network is shown it.

    Args:
        picture_HW3: of the network's size, in the order blue, green, red.
        scale_2: pixels of the frame in one of the picture, along x and y.
        corner_2: (x, y) of the picture's upper left corner in pixels of the frame.
        shape: height and width of the frame.
    """

    picture_HW3: Pixels
    scale_2: NDArray[np.floating[Any]]
    corner_2: NDArray[np.floating[Any]]
    shape: tuple[int, int]


class OnnxDetector(Engine):
    """Detects the people of each frame. A subclass is a dataclass with the fields below.

    Args:
        size: of the network, a key of ``sides``.
        weights_from: name in the registry or path of an ONNX file; None takes the published one of this size.
        conf: people with a lower score, in [0, 1], are left out.
        batch: most frames at a time; halved when memory runs out, and 1 for a file exported for single pictures.
        device: ``cpu``, ``cuda``, or ``auto``, which takes the worker's GPU where onnxruntime has one.

    Raises:
        ValueError: ``batch`` is below 1.
    """

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu")
    thread_safe: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("weights_from",)
    sides: ClassVar[Mapping[str, int]]
    """Of the square of pixels that each published network takes, unless the file was exported for another size."""
    published: ClassVar[str]
    """Name of the published weights, with ``{size}`` in it: the engine's name, too."""
    outputs: ClassVar[tuple[str, str]]
    """Of the network; the first one are boxes and scores (N, K, 5)."""

    size: str
    weights_from: str | None
    conf: float
    batch: int
    device: Device

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"{type(self).__name__}: batch is {self.batch}, expected at least 1")

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.published.format(size=self.size)

    @property
    def weights(self) -> tuple[str, ...]:
        return (self.weights_from or self.name,)

    def load(self) -> None:
        _ = self._network

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """People of each frame, best first, in pixels of the given frames. Boxes end at the frame's edges; joints,
        where the network gives them, may lie beyond.

        Raises:
            MissingWeightsError: the file is not on this machine and cannot be downloaded.
            CheckpointError: it is damaged, or (``WrongArchitectureError``) another network.
            TransientError: ``out_of_memory`` when not even one frame fits.
        """
        height, width = self._network.size
        # Every thread scales its own frames; only the network is run by one thread at a time.
        return self._network.batches.run_together(
            self._people, [self._fit(frame, height, width) for frame in frames_THW3]
        )

    @abstractmethod
    def _fit(self, frame_HW3: Pixels, height: int, width: int) -> FittedFrame:
        """The frame in a picture of this height and width, its proportions kept."""

    @abstractmethod
    def _people(self, fitted: Sequence[FittedFrame]) -> list[Detections]:
        """The people of each of ``fitted``."""

    def _boxes(
        self, dets_K5: Floats, fitted: FittedFrame, among: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.intp], Floats, Floats]:
        """Of one frame's rows those to keep, best first; their boxes (N, 4) in pixels of the frame; and scores (N,).

        Exports for several pictures fill up with rows of score 0, which are nobody.

        Args:
            among: (K,) of a row, whether it is a person; None where all are.
        """
        scores = dets_K5[:, 4]
        order = np.argsort(-scores, kind="stable")
        kept = (scores >= self.conf) & (scores > 0)
        order = order[(kept if among is None else kept & among)[order]]
        boxes = dets_K5[order, :4].reshape(-1, 2, 2) * fitted.scale_2 + fitted.corner_2
        boxes = np.clip(boxes, 0, [fitted.shape[1], fitted.shape[0]]).reshape(-1, 4)
        solid = (boxes[:, 2:] > boxes[:, :2]).all(-1)
        order = order[solid]
        return order, boxes[solid].astype(np.float32), np.minimum(scores[order], 1).astype(np.float32)

    @cached_property
    def _network(self) -> OnnxNetwork:
        side = self.sides[self.size]
        return OnnxNetwork(
            locate(self.weights[0]),
            outputs=self.outputs,
            device=self.device,
            batch=self.batch,
            otherwise=(side, side),
        )
