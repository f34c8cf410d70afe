"""Estimates joints with ViTPose and ViTPose+ (Apache-2.0) through transformers, in batches of crops.

Top-down: each person's box is extended to 3:4 (width to height), made a quarter larger, and scaled to 192x256 pixels; a
plain vision transformer gives a heatmap of 48x64 cells for each joint, whose peak is refined between cells as in DARK
with unbiased data processing. Pre- and post-processing are those of transformers' ``VitPoseImageProcessor``, with three
exceptions: a frame fades into the black beyond it within a pixel, as in ViTPose's own processing by OpenCV; a peak
moves by one cell at most and stays in the crop; and joints whose score is not above 0 become zeros
(:func:`posecap.inference.crops.scatter_keypoints`).

Xu et al., "ViTPose: Simple Vision Transformer Baselines for Human Pose Estimation", 2022, and "ViTPose++", 2023; Zhang
et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", 2020; Huang et al., "The Devil is in
the Details: Delving into Unbiased Data Processing for Human Pose Estimation", 2020.

The networks are built from the sizes below and never from a file, of which only tensors are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from posecap.inference.crops import PersonCrop, TopDownEstimator, person_area
from posecap.inference.device import Device, Precision, torch_device, torch_dtype
from posecap.inference.hub_folder import import_transformers
from posecap.inference.onnx import sample
from posecap.joints import LAYOUTS, flip_order
from posecap.models import locate
from posecap.types import Floats, Pixels
from posecap.weights import checkpoints

if TYPE_CHECKING:
    import torch

_HEIGHT, _WIDTH = 256, 192
_PADDING = 1.25
"""How much larger than a person's box the network's crop is, as in ViTPose's configurations."""
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""ImageNet's, in grey levels, red first, as in ViTPose's configurations."""
_SIGMA, _RADIUS = 0.8, 5
"""Of the blur of heatmaps, in cells: transformers' own, for its kernel of 11."""
_COCO = 0
"""Of the six data sets that a ViTPose+ was trained on, each of which has experts of its own, the one with COCO-17."""


@dataclass(frozen=True, slots=True)
class _Network:
    """Sizes of a published network: width, depth and heads of the transformer; of ViTPose+, experts and how many of
    the width's features each of them gives; and which of the two decoders it has."""

    width: int
    depth: int
    heads: int
    experts: int = 1
    part: int = 0
    decoder: Literal["simple", "classic"] = "classic"


# By the name on the hub, whose folders have the same numbers in their config.json.
_NETWORKS = {
    "base-simple": _Network(768, 12, 12, decoder="simple"),
    "base": _Network(768, 12, 12),
    "plus-small": _Network(384, 12, 12, experts=6, part=96),
    "plus-base": _Network(768, 12, 12, experts=6, part=192),
    "plus-large": _Network(1024, 24, 16, experts=6, part=256),
    "plus-huge": _Network(1280, 32, 16, experts=6, part=320),
}


@dataclass(frozen=True)
class ViTPose(TopDownEstimator):
    """Estimates the joints of every tracked person in every frame, in the layout ``coco17``.

    Args:
        size: of the network: ``base-simple`` and ``base`` are ViTPose-B with its two decoders, ``plus-small``,
            ``plus-base``, ``plus-large`` and ``plus-huge`` are ViTPose+, trained on six data sets.
        weights_from: name in the registry or path of a ``model.safetensors`` as transformers writes it; None takes the
            one that was published for this size.
        flip_test: ``on``, as in ViTPose's configurations, computes the mirrored crop too and takes the mean of both
            heatmaps; ``off`` does not, as transformers does not by itself.
        batch: most crops at a time, 1 or more; halved when memory runs out.
        device: ``cpu``, ``cuda``, or ``auto``, which takes the worker's GPU where it has one
            (:func:`posecap.inference.device.torch_device`).
        precision: ``fp32``, ``bf16``, or ``auto``, which is bf16 on a GPU. Heatmaps in bfloat16 have eight significant
            bits, so that neighbouring cells of a wide peak are equal and some joints move by a part of a cell.

    Raises:
        ValueError: ``batch`` is below 1.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "scipy")
    extra: ClassVar[str] = "transformers"
    modules: ClassVar[tuple[str, ...]] = ("transformers", "torchvision", "safetensors")

    size: Literal["base-simple", "base", "plus-small", "plus-base", "plus-large", "plus-huge"] = "base-simple"
    weights_from: str | None = None
    flip_test: Literal["on", "off"] = "on"
    batch: int = 64
    device: Device = "auto"
    precision: Precision = "fp32"

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"vitpose-{self.size}-{self.layout}"

    @property
    def layout(self) -> str:
        return "coco17"

    @property
    def weights(self) -> tuple[str, ...]:
        return (self.weights_from or f"vitpose-{self.size}",)

    def load(self) -> None:
        _ = self._network

    def _crops(self, frames_THW3: Pixels, seen: Sequence[PersonCrop]) -> list[tuple[Pixels, Floats]]:
        """The picture of each crop, with the area of the frame that it shows
        (:func:`posecap.inference.crops.person_area`)."""
        areas = [person_area(one.box_4, ratio=_WIDTH / _HEIGHT, padding=_PADDING) for one in seen]
        return [(_picture(frames_THW3[one.frame], area), area) for one, area in zip(seen, areas, strict=True)]

    def _predict(self, crops: Sequence[tuple[Pixels, Floats]]) -> list[Floats]:
        """See the base class; crops are (picture, area) as :meth:`_crops` gives them."""
        pictures, areas = zip(*crops, strict=True)
        positions, scores = _peaks(self._heatmaps(np.stack(pictures)))
        centres, scales = np.stack([a[:2] for a in areas]), np.stack([a[2:] for a in areas])
        cells = np.array([_WIDTH // 4 - 1, _HEIGHT // 4 - 1])  # from the first to the last: unbiased data processing
        positions = positions / cells * scales[:, None] + (centres - scales / 2)[:, None]
        return list(np.concatenate([positions, scores[..., None]], -1).astype(np.float32))

    def _heatmaps(self, pictures_NHW3: Pixels) -> Floats:
        """(N, J, 64, 48) float32."""
        import torch

        network, device = self._network, self._device
        dtype = torch_dtype(self.precision, device)
        dataset = torch.full((len(pictures_NHW3),), _COCO, device=device)
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            pixels = torch.from_numpy(pictures_NHW3).to(device).permute(0, 3, 1, 2).float()
            pixels = (pixels - pixels.new_tensor(_MEAN)[:, None, None]) / pixels.new_tensor(_STD)[:, None, None]
            heatmaps = network(pixels, dataset_index=dataset).heatmaps.float()
            if self.flip_test == "on":
                mirrored = network(pixels.flip(-1), dataset_index=dataset).heatmaps.float()
                heatmaps = (heatmaps + mirrored.flip(-1)[:, list(flip_order(self.layout))]) / 2
        found: Floats = heatmaps.cpu().numpy()
        return found

    @cached_property
    def _device(self) -> torch.device:
        return torch_device(self.device)

    @cached_property
    def _network(self) -> Any:
        """The network with its weights, in evaluation mode, on the device."""
        path = locate(self.weights[0])
        network = build(import_transformers(self.extra), self.size)
        checkpoints.load_into(network, checkpoints.tensors(path), path=path)
        return network.to(self._device).eval()


def build(transformers: Any, size: str) -> torch.nn.Module:
    """The untrained network of a published size.

    Args:
        transformers: the package.
    """
    sizes = _NETWORKS[size]
    backbone = transformers.VitPoseBackboneConfig(
        image_size=(_HEIGHT, _WIDTH),
        hidden_size=sizes.width,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.heads,
        num_experts=sizes.experts,
        part_features=sizes.part,
        out_indices=[sizes.depth],
    )
    config = transformers.VitPoseConfig(
        backbone_config=backbone,
        num_labels=len(LAYOUTS["coco17"].names),
        use_simple_decoder=sizes.decoder == "simple",
    )
    network: torch.nn.Module = transformers.VitPoseForPoseEstimation(config)
    return network


def _picture(frame_HW3: Pixels, area_4: Floats) -> Pixels:
    """(256, 192, 3) uint8: the area scaled to the network's size, bilinearly, black beyond the frame; the centres of
    the picture's outermost pixels are at the area's edges."""
    x, y, wide, high = (float(value) for value in area_4)
    rows = (np.arange(_HEIGHT) - (_HEIGHT - 1) / 2) * (high / (_HEIGHT - 1)) + y
    columns = (np.arange(_WIDTH) - (_WIDTH - 1) / 2) * (wide / (_WIDTH - 1)) + x
    return sample(frame_HW3, rows, columns, outside="black")


def _peaks(heatmaps_NJhw: Floats) -> tuple[NDArray[np.float64], Floats]:
    """(x, y) of the joints (N, J, 2) in cells of the heatmap, between cells too, and scores (N, J): the peaks' values.

    Around the peak the logarithm of the blurred heatmap is taken for a parabola, as it is for a Gaussian, and its top
    is the place. Places of joints whose score is not above 0 mean nothing.
    """
    from scipy.ndimage import gaussian_filter

    height, width = heatmaps_NJhw.shape[2:]
    flat = heatmaps_NJhw.reshape(*heatmaps_NJhw.shape[:2], -1)
    y, x = np.divmod(flat.argmax(-1), width)
    blurred = gaussian_filter(heatmaps_NJhw, sigma=_SIGMA, radius=_RADIUS, axes=(2, 3))
    logs = np.log(np.clip(blurred, 0.001, 50))  # bounds as transformers has them
    n, j = np.indices(y.shape)

    def at(down: int, right: int) -> NDArray[np.float64]:
        """The neighbour of each peak, of which the edge has more of the same beyond it."""
        rows, columns = np.clip(y + down, 0, height - 1), np.clip(x + right, 0, width - 1)
        found: NDArray[np.float64] = logs[n, j, rows, columns].astype(np.float64)
        return found

    centre = at(0, 0)
    dx, dy = (at(0, 1) - at(0, -1)) / 2, (at(1, 0) - at(-1, 0)) / 2
    dxx, dyy = at(0, 1) - 2 * centre + at(0, -1), at(1, 0) - 2 * centre + at(-1, 0)
    dxy = (at(1, 1) - at(0, 1) - at(1, 0) + 2 * centre - at(0, -1) - at(-1, 0) + at(-1, -1)) / 2
    dxx, dyy = dxx + np.finfo(np.float32).eps, dyy + np.finfo(np.float32).eps
    determinant = dxx * dyy - dxy**2
    determinant[determinant == 0] = np.inf  # a plain has no top
    step = np.stack([(dyy * dx - dxy * dy) / determinant, (dxx * dy - dxy * dx) / determinant], -1)
    # A parabola that has its top elsewhere does not describe this peak.
    step[(np.abs(step) > 1).any(-1)] = 0
    return np.clip(np.stack([x, y], -1) - step, 0, [width - 1, height - 1]), flat.max(-1)
