"""Embeds clips as the mean of EfficientNet-Lite0's (ImageNet) features of their frames: 1280-d.

An image model: the vector says what a clip looks like, not how people move. It is the default because its weights come
with a Python package; models of video are engines of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from posecap.inference.embedding import unit
from posecap.models import locate
from posecap.stage import Engine
from posecap.types import Clip, Floats, Pixels

if TYPE_CHECKING:
    import torch

_SIDE = 224
_SHORT_SIDE = 256
_MEAN, _SCALE = 127.0, 128.0


@dataclass(frozen=True)
class EfficientNetLite0(Engine):
    """Mean of pooled features of ``frames`` evenly spaced frames, L2-normalised; on the CPU, with one thread.

    Args:
        frames: how many frames of a clip are averaged, 1 or more; all frames of a shorter clip.
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
        import torch

        features = torch.zeros(self.dimension, dtype=torch.float64)
        with torch.inference_mode():
            for frame in frames_THW3:
                # Of the same memory format as the weights: another one sums in another order, so that vectors would
                # differ in their last bits from those that datasets hold.
                pixels = (
                    torch.from_numpy(_square(frame))
                    .permute(2, 0, 1)[None]
                    .contiguous(memory_format=torch.channels_last)
                )
                features += self._network.extract_features(pixels).mean((2, 3))[0].double()  # type: ignore[operator]
        return unit((features / len(frames_THW3)).numpy())

    @cached_property
    def _network(self) -> torch.nn.Module:
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        torch.set_num_threads(1)
        network: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(locate(self.weights[0]), map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
        return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


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
