"""Embeds clips as the mean of EfficientNet-Lite0's (ImageNet) features of their frames: 1280-d.

An image model: the vector says what a clip looks like, not how people move. It is the default because its weights come
with a Python package; models of video are engines of their own.

Two engines compute the same network from the same weights, through torch or through onnxruntime. Their vectors differ
by rounding, in the sixth decimal at most, so each has a name of its own, which datasets record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from posecap.inference.embedding import unit
from posecap.inference.onnx import OnnxGraph, session_of
from posecap.models import locate
from posecap.stage import Engine
from posecap.types import Clip, Floats, Pixels
from posecap.weights import checkpoints

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession

_INPUT = "picture"
"""Name of the ONNX network's input."""
_SIDE, _SHORT_SIDE = 224, 256
"""Pixels: the network's input is the central square of a frame whose short side is scaled (:func:`_square`)."""
_MEAN, _SCALE = 127.0, 128.0
"""Taken from a value, and what it is divided by: as ``efficientnet_lite_builder.py`` in TensorFlow's TPU repository."""
_BLOCKS = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
"""Groups of the network's blocks: how many, and the stride of the first; of the others it is 1."""
_EPSILON = 1e-3
"""Added to the variance by batch normalisation, as in the network's training."""
_HIGHEST = 6.0
"""Of the activation, ReLU6."""


@dataclass(frozen=True)
class EfficientNetLite0(Engine):
    """Mean of pooled features of ``frames`` evenly spaced frames, L2-normalised; on the CPU, with one thread.

    Args:
        frames: how many frames of a clip are averaged, 1 or more; all frames of a shorter clip. The default is our
            choice, ViCLIP's number.

    Raises:
        ValueError: ``frames`` is below 1.
    """

    name: ClassVar[str] = "efficientnet-lite0-frame-mean"
    packages: ClassVar[tuple[str, ...]] = ("torch", "efficientnet-lite-pytorch", "pillow")
    thread_safe: ClassVar[bool] = True

    frames: int = 8
    dimension: int = field(default=1280, init=False)

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"EfficientNetLite0: frames is {self.frames}, expected at least 1")

    @property
    def weights(self) -> tuple[str, ...]:
        return ("efficientnet-lite0-imagenet",)

    def load(self) -> None:
        """Check that the weights are here. torch, which takes more than a second to import, is imported with the first
        clip: by then the other workers of the process detect people, and do not wait for it.

        Raises:
            posecap.models.MissingWeightsError: the weights are neither on this machine nor downloadable.
        """
        locate(self.weights[0])

    def frame_indices(self, clip: Clip) -> list[int]:
        """Middle frames of ``frames`` equal stretches of the clip; all frames of a shorter clip.

        A middle between two frames is the later one. It stays so, although
        :func:`posecap.inference.crops.middle_frames` takes the earlier one: stored vectors are made from these frames.
        """
        count = clip.frame_count
        if count <= self.frames:
            return list(range(count))
        return [int((i + 0.5) * count / self.frames) for i in range(self.frames)]

    def embed_video(self, frames_THW3: Pixels) -> Floats:
        """(1280,) float32, L2-normalised, from uint8 RGB frames of any size."""
        features = np.zeros(self.dimension)
        for frame in frames_THW3:
            features += self._features(_square(frame))
        return unit(features / len(frames_THW3))

    def _features(self, square_HW3: Floats) -> Floats:
        """(1280,) float32: the features of one picture, averaged over it."""
        import torch

        with torch.inference_mode():
            # Of the same memory format as the weights: another one sums in another order, so that vectors would differ
            # in their last bits from those that datasets hold.
            pixels = torch.from_numpy(square_HW3).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
            features: torch.Tensor = self._network.extract_features(pixels).mean((2, 3))[0]  # type: ignore[operator]
            return np.asarray(features.numpy(), np.float32)

    @cached_property
    def _network(self) -> torch.nn.Module:
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        torch.set_num_threads(1)
        network: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(locate(self.weights[0]), map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
        return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class EfficientNetLite0Onnx(EfficientNetLite0):
    """:class:`EfficientNetLite0` through onnxruntime: in a third of the time (``benchmarks/engines.py --only
    efficientnet``), and torch is not imported."""

    name: ClassVar[str] = "efficientnet-lite0-frame-mean-onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "pillow")

    def load(self) -> None:
        """Read the weights and build the session. Raises as :meth:`EfficientNetLite0.load`."""
        _ = self._session

    def _features(self, square_HW3: Floats) -> Floats:
        (features_1C11,) = self._session.run(None, {_INPUT: np.ascontiguousarray(square_HW3.transpose(2, 0, 1)[None])})
        return np.asarray(features_1C11[0, :, 0, 0], np.float32)

    @cached_property
    def _session(self) -> InferenceSession:
        path = locate(self.weights[0])
        return session_of(_Writer(checkpoints.arrays(path)).file(self.dimension), "cpu", path=path)


class _Writer:
    """Writes the network up to the mean of its last features, from tensors named as in efficientnet-lite-pytorch.

    Source: ``efficientnet_lite_builder.py`` in TensorFlow's TPU repository. Batch normalisation becomes part of the
    convolution before it.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self._tensors = tensors
        self._graph = OnnxGraph()
        self._side = _SIDE

    def file(self, dimension: int) -> bytes:
        """The ONNX file, whose output has ``dimension`` numbers."""
        value = self._active(self._convolution(_INPUT, "_conv_stem", "_bn0", stride=2))
        steps = [(i, stride if i == 0 else 1) for count, stride in _BLOCKS for i in range(count)]
        for number, (i, stride) in enumerate(steps):
            made = self._block(value, f"_blocks.{number}", stride)
            value = self._graph.add(made, value) if i else made  # the first of a group has other channels than it takes
        mean = self._graph.mean(self._active(self._convolution(value, "_conv_head", "_bn1")))
        return self._graph.file(source=(_INPUT, (1, 3, _SIDE, _SIDE)), result=(mean, (1, dimension, 1, 1)))

    def _block(self, value: str, name: str, stride: int) -> str:
        """An inverted residual block without the addition: widened (not in the first), filtered by channel, narrowed.
        Values of the graph are named by strings."""
        if f"{name}._expand_conv.weight" in self._tensors:
            value = self._active(self._convolution(value, f"{name}._expand_conv", f"{name}._bn0"))
        value = self._active(self._convolution(value, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride))
        return self._convolution(value, f"{name}._project_conv", f"{name}._bn2")

    def _active(self, value: str) -> str:
        """ReLU6 of a value."""
        return self._graph.clip(value, 0.0, _HIGHEST)

    def _convolution(self, value: str, name: str, norm: str, *, stride: int = 1) -> str:
        """A convolution and the batch normalisation after it, as one; ``name`` and ``norm`` are those of their
        tensors."""
        weight_OIhw = self._tensors[f"{name}.weight"].astype(np.float64)
        gamma_O, beta_O, mean_O, variance_O = (
            self._tensors[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale_O = gamma_O / np.sqrt(variance_O + _EPSILON)
        outputs, inputs, kernel = weight_OIhw.shape[:3]
        # As TensorFlow pads: the side is divided by the stride and rounded up, and an odd zero comes last.
        side = -(-self._side // stride)
        zeros = max((side - 1) * stride + kernel - self._side, 0)
        self._side = side
        return self._graph.convolution(
            value,
            (weight_OIhw * scale_O[:, None, None, None]).astype(np.float32),
            (beta_O - mean_O * scale_O).astype(np.float32),
            stride=stride,
            pads=(zeros // 2, zeros // 2, zeros - zeros // 2, zeros - zeros // 2),
            groups=outputs if inputs == 1 else 1,
        )


def _square(frame_HW3: Pixels) -> Floats:
    """(224, 224, 3) float32: the central square of a frame whose short side is scaled to 256, as (x − 127) / 128."""
    from PIL import Image

    height, width = frame_HW3.shape[:2]
    scale = _SHORT_SIDE / min(height, width)
    size = (max(_SIDE, round(width * scale)), max(_SIDE, round(height * scale)))
    image = Image.fromarray(frame_HW3).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - _SIDE) // 2, (size[1] - _SIDE) // 2
    square = np.asarray(image.crop((left, top, left + _SIDE, top + _SIDE)), np.float32)
    return (square - _MEAN) / _SCALE
