"""A trained encoder in use: from skeletons to vectors, and from a vector to the nearest texts::

    encoder = tmor_train.load("runs/stage2")
    vector = encoder.embed(joints_MTJ3, layout="coco17", size=(1920, 1080))
    encoder.nearest_texts(vector, texts=("walk", "sit down"), text_vectors=vectors_KD)

No video is needed; text vectors come from the text model that the encoder was trained with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tmor_train.backbones import Backbone
from tmor_train.configuration import as_json
from tmor_train.data import Batching, Clip, Loader, MotionBatch, MotionSet, Sampling, from_clips
from tmor_train.data.augment import Augmentation, augmented
from tmor_train.data.batch import streamed
from tmor_train.data.dataset import Floats, Numbers
from tmor_train.data.provenance import Inputs, SeenClips
from tmor_train.encoder import Heads, UnusableEncoderError
from tmor_train.training.config import ViewConfig
from tmor_train.training.distributed import Precision, autocast_of


@dataclass(frozen=True, eq=False, kw_only=True)
class Pretrained:
    """An encoder with its projection heads and the preprocessing of clips; :func:`tmor_train.load` makes it.

    ``heads`` is None for released weights and for methods without heads of their own. ``sampling`` and ``views`` are
    those of training, so that clips are preprocessed as training did for its own embeddings; of ``views`` only
    ``still`` and ``streams`` are used, and embeddings are sampled with ``draw`` ``deterministic`` whatever ``sampling``
    says. ``path`` is the checkpoint and ``sha256`` the hash of its bytes in hexadecimal, empty for new weights. ``of``
    says which of the run's encoders it is, ``ema`` or ``online`` (the trained one, also of released and new weights).
    ``config`` is the whole configuration of the run as JSON values; None for released and new weights. ``seen`` are the
    clips that it and the run that it started from were trained on, ``inputs`` the files that the run read; None where
    that is not recorded. ``network`` is in evaluation mode on ``device``; ``heads`` work on the CPU. ``precision`` is
    what ``network`` computes in. ``onnx`` says which ONNX file computes it, by hash and precision; None where torch
    does.
    """

    network: Backbone = field(repr=False)
    heads: Heads | None = None
    sampling: Sampling
    views: ViewConfig
    path: Path
    sha256: str
    of: str = "online"
    config: Mapping[str, Any] | None = field(default=None, repr=False)
    seen: SeenClips | None = field(default=None, repr=False)
    inputs: Inputs | None = field(default=None, repr=False)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "float32"
    onnx: Mapping[str, str] | None = None

    def embed(self, joints: ArrayLike, *, layout: str = "coco17", size: tuple[float, float] | None = None) -> Floats:
        """E_M of one clip: (256,) float32.

        Args:
            joints: (M, T, J, 3): people, frames, joints and (x, y, score), in pixels; or (M, T, J, 4) with (x, y, z,
                score), in metres and camera axes (:class:`~tmor_train.data.Clip`). (T, J, 3) or (T, J, 4) is one
                person. A joint that was not seen has the score 0. Any M and T of at least 1: frames and people are
                taken as ``sampling`` says.
            layout: which joints they are, a name of :data:`posecap.joints.LAYOUTS`.
            size: (width, height) of the picture in pixels, for joints in pixels; for joints in metres it is not used.

        Raises:
            UnusableEncoderError: no joint is seen, or the clip has another number of coordinates than the encoder
                takes.
            posecap.joints.LayoutError: the joints are not of that layout or not finite, ``size`` is missing, or there
                is no exact map to the encoder's layout.
        """
        values = np.asarray(joints, np.float32)
        width, height = size or (0.0, 0.0)
        joints_MTJC = values[None] if values.ndim == 3 else values
        clip = Clip(key="to embed", joints_MTJC=joints_MTJC, layout=layout, width=width, height=height)
        if not (joints_MTJC[..., -1] > 0).any():
            raise UnusableEncoderError("no joint of the clip has a score above 0, so there is nothing to embed")
        vector: Floats = self.embed_clips([clip])[0]
        return vector

    def embed_clips(self, clips: Iterable[Clip], *, batch: int = 32) -> Floats:
        """E_M of clips of any lengths and layouts, each with another key: (N, 256) float32, ``batch`` clips at a time.

        Raises:
            UnusableEncoderError, posecap.joints.LayoutError: as :meth:`embed`.
            ValueError: there is no clip, or two have the same key.
        """
        return np.concatenate([vectors for _, vectors in self.embed_set(from_clips(clips), batch=batch, workers=0)])

    def embed_set(self, motions: MotionSet, *, batch: int = 32, workers: int = 1) -> Iterator[tuple[Numbers, Floats]]:
        """E_M of all clips of a set in its order, ``batch`` at a time: their indices (n,) int64 and (n, 256) float32.

        ``workers`` are threads that gather clips (0: this one does). A clip in which no joint is seen gets a vector
        too, which has no meaning. On a CPU, batches of 8 to 64 clips are fastest.

        Raises:
            UnusableEncoderError, posecap.joints.LayoutError: as :meth:`embed`.
        """
        for clips in self.network_inputs(motions, batch=batch, workers=workers):
            yield clips.index_N.cpu().numpy(), self._features(clips).cpu().numpy()

    def network_inputs(self, motions: MotionSet, *, batch: int = 32, workers: int = 1) -> Iterator[MotionBatch]:
        """All clips of a set in its order as ``network`` takes them, ``batch`` at a time, on ``device``:
        sampled, normalised, and in streams.

        Args:
            workers: as in :meth:`embed_set`.

        Raises:
            UnusableEncoderError, posecap.joints.LayoutError: as :meth:`embed`.
        """
        loader = Loader(
            motions,
            sampling=replace(self.sampling, draw="deterministic"),
            batching=Batching(size=batch, order="stored", last="keep"),
            workers=workers,
        )
        for clips in loader:
            # ``still`` has steps that change nothing at random; one that did would do it alike in every batch.
            generator = torch.Generator(self.device).manual_seed(0)
            yield self.taken(clips.to(self.device), self.views.still, generator)

    def project(self, vectors: ArrayLike) -> Floats:
        """phi_M of embeddings, the unit vectors that are compared with projected texts: (256,) to (width,), or (N, 256)
        to (N, width).

        Raises:
            UnusableEncoderError: there are no heads, or the vectors have another length, NaN or infinity.
        """
        return self._heads().project(vectors)

    def text_cosines(self, vectors: ArrayLike, text_vectors: ArrayLike) -> Floats:
        """cos(phi_M(E_M), phi_T(E_T)) of clips and texts, the zero-shot score: (N, K) float32.

        Args:
            vectors: (N, 256), what :meth:`embed` gave.
            text_vectors: (K, D), from the text model whose vectors it was trained with; or (K, P, D), each text in P
                wordings, whose cosines are averaged.

        Raises:
            UnusableEncoderError: there are no heads, the encoder was trained without text, or lengths differ.
        """
        return self._heads().text_cosines(vectors, text_vectors)

    def nearest_texts(
        self, vector: ArrayLike, *, texts: Sequence[str], text_vectors: ArrayLike
    ) -> list[tuple[str, float]]:
        """All texts with their cosines to one clip, the nearest first; texts of equal cosines in the order given.

        Args:
            vector: (256,), what :meth:`embed` gave.
            texts: K texts.
            text_vectors: as in :meth:`text_cosines`.

        Raises:
            UnusableEncoderError: as :meth:`text_cosines`, or there is not one vector for each text.
        """
        values = np.asarray(text_vectors, np.float32)
        if np.ndim(vector) != 1 or values.shape[:1] != (len(texts),):
            raise UnusableEncoderError(
                f"one embedding and a vector for each of {len(texts)} texts are needed, not {np.shape(vector)} and "
                f"{values.shape}"
            )
        cosines = self.text_cosines(vector, values)[0]
        return [(texts[index], float(cosines[index])) for index in np.argsort(-cosines, kind="stable")]

    def facts(self) -> dict[str, Any]:
        """What decides the embeddings, as JSON values, for the metadata of files; paths of data are left out."""
        config = None
        if self.config is not None:
            loop = {name: value for name, value in self.config["loop"].items() if name != "start_from"}
            config = {name: value for name, value in self.config.items() if name != "data"} | {"loop": loop}
        return {
            "checkpoint": {"name": self.path.name, "sha256": self.sha256, "of": self.of},
            "sampling": as_json(replace(self.sampling, draw="deterministic")),
            "still": as_json(self.views.still),
            "streams": list(self.views.streams),
            "config": config,
        } | ({} if self.onnx is None else {"onnx": dict(self.onnx)})

    def _heads(self) -> Heads:
        """``heads``, where there are any; else UnusableEncoderError."""
        if self.heads is None:
            raise UnusableEncoderError(
                f"{self.path} holds an encoder without projection heads, so it only gives embeddings; for projections "
                "and texts load a run of a method with heads, such as T-MOR"
            )
        return self.heads

    def taken(self, batch: MotionBatch, steps: Sequence[Augmentation], generator: torch.Generator) -> MotionBatch:
        """The clips after the augmentations ``steps``, as the streams that the encoder takes.

        Raises:
            UnusableEncoderError: the clips have another number of coordinates than the encoder takes.
        """
        found = streamed(augmented(batch, steps, generator), self.views.streams)
        channels, streams = found.motion_NCTVM.shape[1], len(self.views.streams)
        if channels != self.network.channels:
            raise UnusableEncoderError(
                f"the clips have {channels // streams} coordinates a joint, but the encoder of {self.path} takes "
                f"{self.network.channels // streams}; choose a run that was trained on such clips"
            )
        return found

    @torch.no_grad()
    def _features(self, batch: MotionBatch) -> Tensor:
        """E_M of a batch of :meth:`network_inputs`: (N, 256) float32."""
        with autocast_of(self.precision, self.device):
            return self.network.clip_features(batch.motion_NCTVM, batch.present).float()


__all__ = ["Pretrained", "UnusableEncoderError"]
