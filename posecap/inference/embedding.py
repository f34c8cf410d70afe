"""What embedders share: caption cleaning as in ViCLIP, a cache of embeddings, and the base of CLIP-like engines."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from posecap.inference.device import Batches, Device, Precision, torch_device, torch_dtype
from posecap.stage import Engine
from posecap.types import Floats, Pixels

if TYPE_CHECKING:
    import torch

_SENTENCES_ON_GPU = 256
_DROPPED = re.compile(r"""[,.'!?"()*#:;~]""")
_SPACES = re.compile(r"\s{2,}")


def clean_caption(text: str) -> str:
    """A caption as ViCLIP saw captions in training and in its tests.

    Lower case; ``, . ' ! ? " ( ) * # : ; ~`` removed; hyphens and slashes become spaces; the placeholder
    ``<person>`` becomes ``person``; runs of white space become one space, and none is left at the ends.
    """
    text = _DROPPED.sub("", text.lower())
    text = text.replace("-", " ").replace("/", " ").replace("<person>", "person")
    return _SPACES.sub(" ", text).strip("\n ")


class EmbeddingCache:
    """Vectors (D,) by sentence, since captions repeat class names. Cleared when it exceeds ``max_size`` sentences."""

    def __init__(self, max_size: int = 10_000) -> None:
        self.max_size = max_size
        self._known: dict[str, Floats] = {}

    def vectors(self, sentences: Sequence[str], compute: Callable[[list[str]], Sequence[Floats]]) -> list[Floats]:
        """One vector per sentence, in order. ``compute`` is called with the distinct sentences that are not cached."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._known]
        found = {sentence: self._known[sentence] for sentence in sentences if sentence in self._known}
        fresh = dict(zip(new, compute(new), strict=True)) if new else {}
        if len(self._known) + len(fresh) > self.max_size:
            self._known.clear()
        self._known.update(fresh)
        found.update(fresh)
        return [found[sentence] for sentence in sentences]


def unit(vector_D: NDArray[np.float64]) -> Floats:
    """(D,) float32 of length 1, from float64; zeros stay zeros."""
    scaled: Floats = (vector_D / max(float(np.linalg.norm(vector_D)), 1e-12)).astype(np.float32)
    return scaled


class ClipEmbedder(Engine):
    """The base of CLIP-like engines: clips and sentences in one space, in batches that threads share.

    A subclass is a dataclass with the fields ``device``, ``precision`` and ``batch``: most clips or sentences computed
    at once; None leaves the number to the engine on a GPU, and takes 1 on a CPU.
    """

    thread_safe: ClassVar[bool] = True

    device: Device
    precision: Precision
    batch: int | None

    @property
    @abstractmethod
    def dimension(self) -> int: ...

    @abstractmethod
    def embed_videos(self, batch: Sequence[Pixels]) -> Floats:
        """(B, D) float32, rows of length 1, from clips of RGB frames (T, H, W, 3) of any size."""

    def embed_video(self, frames_THW3: Pixels) -> Floats:
        """(D,) float32 of length 1, from RGB frames of any size; see :meth:`embed_videos`."""
        vector: Floats = self.embed_videos([frames_THW3])[0]
        return vector

    def embed_text(self, sentences: Sequence[str]) -> Floats:
        """(C, D) float32, rows of length 1. What is longer than the model's context is cut."""
        return self._rows(
            self._text_cache.vectors(sentences, lambda new: self._text_batches.run_together(self._texts, new))
        )

    @abstractmethod
    def _texts(self, texts: Sequence[str]) -> list[Floats]: ...

    def _rows(self, vectors: Sequence[Floats]) -> Floats:
        return np.array(vectors, np.float32).reshape(len(vectors), self.dimension)

    def _batches(self, on_gpu: int) -> Batches:
        return Batches(self.batch or (on_gpu if self._device.type == "cuda" else 1))

    @cached_property
    def _device(self) -> torch.device:
        return torch_device(self.device)

    @cached_property
    def _dtype(self) -> torch.dtype:
        return torch_dtype(self.precision, self._device)

    @cached_property
    def _text_batches(self) -> Batches:
        return self._batches(_SENTENCES_ON_GPU)

    @cached_property
    def _text_cache(self) -> EmbeddingCache:
        return EmbeddingCache()
