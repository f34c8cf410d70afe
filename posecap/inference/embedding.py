"""For engines that embed videos or text: caption cleaning as in ViCLIP, a cache of vectors, a base for CLIP models."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from posecap.inference.device import Batches, Device, Precision, torch_device, torch_dtype
from posecap.stage import Engine
from posecap.types import Floats, Pixels

if TYPE_CHECKING:
    import torch

_SENTENCES_ON_GPU = 256
"""In a batch, where the engine names no number. Our choice: halved when memory runs out."""
# Of ViCLIP's cleaning: see :func:`clean_caption`.
_DROPPED = re.compile(r"""[,.'!?"()*#:;~]""")
_SPACES = re.compile(r"\s{2,}")


def clean_caption(text: str) -> str:
    """A caption as ViCLIP's code cleans captions for training and evaluation.

    Lower case; ``, . ' ! ? " ( ) * # : ; ~`` removed; hyphens and slashes become spaces; the placeholder
    ``<person>`` becomes ``person``; two or more white-space characters in a row become one space, while a single tab
    or line break stays as it is; spaces and line breaks are removed at the ends.
    """
    text = _DROPPED.sub("", text.lower())
    text = text.replace("-", " ").replace("/", " ").replace("<person>", "person")
    return _SPACES.sub(" ", text).strip("\n ")


class EmbeddingCache:
    """Vectors (D,) of sentences computed before, since captions of a dataset repeat its class names.

    It holds at most ``max_size`` sentences: new ones that do not fit beside those that it holds replace them all.
    Threads may share one. The default is our choice: 10,000 vectors of 768 numbers take 31 MB.
    """

    def __init__(self, max_size: int = 10_000) -> None:
        self.max_size = max_size
        self._known: dict[str, Floats] = {}

    def vectors(self, sentences: Sequence[str], compute: Callable[[list[str]], Sequence[Floats]]) -> list[Floats]:
        """One vector per sentence, in order. ``compute`` is called with the distinct sentences that are not cached."""
        # Each sentence is looked up once: another thread may clear the cache at any moment.
        looked_up = {sentence: self._known.get(sentence) for sentence in sentences}
        found = {sentence: vector for sentence, vector in looked_up.items() if vector is not None}
        new = [sentence for sentence in looked_up if sentence not in found]
        computed = dict(zip(new, compute(new), strict=True)) if new else {}
        if len(self._known) + len(computed) > self.max_size:
            self._known.clear()
        self._known.update(islice(computed.items(), self.max_size))
        found.update(computed)
        return [found[sentence] for sentence in sentences]


def unit(vector_D: NDArray[np.float64]) -> Floats:
    """(D,) float32: the vector divided by its L2 norm, in float64; zeros stay zeros."""
    scaled: Floats = (vector_D / max(float(np.linalg.norm(vector_D)), 1e-12)).astype(np.float32)
    return scaled


class ClipEmbedder(Engine):
    """The base of engines for CLIP models, whose vectors of videos and of sentences can be compared.

    It is a :class:`posecap.interfaces.VideoEmbedder` and :class:`~posecap.interfaces.TextEmbedder`. What several
    threads ask for at the same time is computed together (:meth:`posecap.inference.device.Batches.run_together`).

    A subclass is a dataclass with the fields ``device``, ``precision`` and ``batch``, the largest number of videos,
    frames or sentences that the network computes at once, 1 or more. None leaves that number to the engine on a GPU,
    and is 1 on a CPU.

    Raises:
        ValueError: ``batch`` is below 1.
    """

    thread_safe: ClassVar[bool] = True

    device: Device
    precision: Precision
    batch: int | None

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"{type(self).__name__}: batch is {self.batch}, expected at least 1, or None")

    @property
    @abstractmethod
    def dimension(self) -> int:
        """D, the length of a vector."""

    @abstractmethod
    def embed_videos(self, videos: Sequence[Pixels]) -> Floats:
        """(B, D) float32, L2-normalised rows, one for each of B videos; there may be any number of them.

        Args:
            videos: frames of each, uint8 RGB (T, H, W, 3); T, H and W may differ from video to video.

        Raises:
            TransientError: ``out_of_memory`` when not even one fits.
        """

    def embed_video(self, frames_THW3: Pixels) -> Floats:
        """(D,) float32, L2-normalised, from uint8 RGB frames of any size; see :meth:`embed_videos`."""
        vector: Floats = self.embed_videos([frames_THW3])[0]
        return vector

    def embed_text(self, sentences: Sequence[str]) -> Floats:
        """(C, D) float32, one L2-normalised row per sentence. What exceeds the model's context length is cut off.

        Raises:
            TransientError: ``out_of_memory`` when not even one sentence fits.
        """
        return self._rows(
            self._text_cache.vectors(sentences, lambda new: self._text_batches.run_together(self._texts, new))
        )

    @abstractmethod
    def _texts(self, texts: Sequence[str]) -> list[Floats]:
        """One L2-normalised (D,) float32 per text, all computed at once."""

    def _rows(self, vectors: Sequence[Floats]) -> Floats:
        """(N, D) of vectors (D,); (0, D) of none."""
        return np.array(vectors, np.float32).reshape(len(vectors), self.dimension)

    def _batches(self, on_gpu: int) -> Batches:
        """Batches of ``batch``; where that is None, of ``on_gpu`` on a GPU and of 1 on a CPU."""
        return Batches(self.batch or (on_gpu if self._device.type == "cuda" else 1))

    @cached_property
    def _device(self) -> torch.device:
        """Where the network runs: ``device``, decided at the first use."""
        return torch_device(self.device)

    @cached_property
    def _dtype(self) -> torch.dtype:
        """What it computes in: ``precision`` on that device."""
        return torch_dtype(self.precision, self._device)

    @cached_property
    def _text_batches(self) -> Batches:
        """Divides sentences, halved when memory runs out, for all threads."""
        return self._batches(_SENTENCES_ON_GPU)

    @cached_property
    def _text_cache(self) -> EmbeddingCache:
        """Of this worker, for as long as it lives."""
        return EmbeddingCache()
