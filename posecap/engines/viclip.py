"""ViCLIP B/16 and L/14 through torch: one vector for eight frames of a clip, one for each sentence.

OpenGVLab's models (InternVid, ICLR 2024), trained so that a video's vector is close to that of its caption.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from posecap.inference.crops import middle_frames
from posecap.inference.device import Batches, Device, Precision
from posecap.inference.embedding import ClipEmbedder, clean_caption
from posecap.models import locate
from posecap.types import Clip, Floats, Pixels
from posecap.weights.checkpoints import WrongArchitectureError, tensors

if TYPE_CHECKING:
    import torch

    from posecap.engines.viclip_model import ViCLIP

WeightsOf = Literal["viclip", "clip"]
"""What a file of weights holds; see :class:`ViCLIPEmbedder`."""

_DIMENSIONS = {"viclip-b16": 512, "viclip-l14": 768, "clip-vit-b16-openai": 512, "clip-vit-l14-openai": 768}
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, not CLIP's: ViCLIP was trained with them
_VIDEOS_ON_GPU = 32
"""Videos of eight frames: as many frames as open_clip's engine computes at once. Halved when memory runs out."""


@dataclass(frozen=True)
class ViCLIPEmbedder(ClipEmbedder):
    """Vectors of videos and of sentences, which can be compared. Engines of one worker with the same
    weights, device and precision share one network.

    Args:
        weights_from: ``viclip-b16``, ``viclip-l14``, or a path to a checkpoint of either size.
        weights_of: what the file holds: a ViCLIP, or (``clip``) an OpenAI CLIP as open_clip names it
            (``clip-vit-b16-openai``), which is what ViCLIP's training began with.
        clean: ``viclip`` cleans sentences as in ViCLIP's training
            (:func:`posecap.inference.embedding.clean_caption`), ``none`` leaves them.
        device, precision: ``cpu`` or ``cuda``, and ``fp32`` or ``bf16``; ``auto`` takes the worker's GPU and bf16 where
            it has one, else the CPU and fp32.
        batch: the largest number of videos or sentences computed at once; None takes 32 videos and 256 sentences on a
            GPU. On a CPU it takes 1, where more gains little and a vector would depend, in its last bits, on the others
            of its batch.

    Raises:
        ValueError: ``batch`` is below 1.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "open_clip_torch", "ftfy", "regex")
    extra: ClassVar[str] = "clip"
    modules: ClassVar[tuple[str, ...]] = ("open_clip", "torchvision")
    path_fields: ClassVar[tuple[str, ...]] = ("weights_from",)

    weights_from: str = "viclip-b16"
    weights_of: WeightsOf = "viclip"
    clean: Literal["viclip", "none"] = "viclip"
    device: Device = "auto"
    precision: Precision = "auto"
    batch: int | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        prefix = "" if self.weights_of == "viclip" else "viclip-from-"
        return prefix + (self.weights_from if self.weights_from in _DIMENSIONS else Path(self.weights_from).stem)

    @property
    def weights(self) -> tuple[str, ...]:
        return (self.weights_from,)

    @property
    def dimension(self) -> int:
        """512 for B/16 and 768 for L/14; for a path, what the file says."""
        return _DIMENSIONS.get(self.weights_from) or self._network.sizes.dimension

    def load(self) -> None:
        from posecap.engines.viclip_model import tokenize

        tokenize([])
        _ = self._network

    def frame_indices(self, clip: Clip) -> list[int]:
        """Middle frames of eight equal stretches, as in ViCLIP's evaluation; all frames of a shorter clip."""
        return middle_frames(clip.frame_count, self._network.sizes.frames)

    def embed_videos(self, videos: Sequence[Pixels]) -> Floats:
        """See :meth:`posecap.inference.embedding.ClipEmbedder.embed_videos`.

        A vector is made from a video's middle frames of eight equal stretches; the last of fewer than eight frames is
        repeated.

        Raises:
            TransientError: ``out_of_memory`` when not even one video fits.
        """
        return self._rows(self._video_batches.run_together(self._videos, videos))

    def embed_text(self, sentences: Sequence[str]) -> Floats:
        """(C, D) float32, one L2-normalised row per sentence, of which the first 32 tokens count."""
        return super().embed_text([clean_caption(s) for s in sentences] if self.clean == "viclip" else sentences)

    def _videos(self, videos: Sequence[Pixels]) -> list[Floats]:
        import torch

        with torch.inference_mode():
            frames = torch.stack([self._prepared(frames_THW3) for frames_THW3 in videos])
            return list(self._network.encode_video(frames).cpu().numpy())

    def _texts(self, texts: Sequence[str]) -> list[Floats]:
        import torch

        with torch.inference_mode():
            return list(self._network.encode_text(texts).cpu().numpy())

    def _prepared(self, frames_THW3: Pixels) -> torch.Tensor:
        """(8, 3, side, side) float32 on the device: the chosen frames, normalised, their aspect ratio not kept.

        Bicubic as in the training code, by the arithmetic of its ``torchvision.transforms.Resize`` today: weights
        that widen when a frame shrinks (antialias), in float32, rounded to whole grey levels. It runs where the
        network runs, which on a GPU costs nothing and on a CPU a hundredth of the network's time.
        """
        import torch
        from torch.nn.functional import interpolate

        sizes = self._network.sizes
        seen = middle_frames(len(frames_THW3), sizes.frames)
        seen += [seen[-1]] * (sizes.frames - len(seen))
        frames = torch.from_numpy(frames_THW3[seen]).to(self._device).permute(0, 3, 1, 2).float()
        grey = interpolate(frames, (sizes.side, sizes.side), mode="bicubic", antialias=True).clamp(0, 255).round()
        mean, deviation = (torch.tensor(v, device=self._device).view(3, 1, 1) for v in (_MEAN, _DEVIATION))
        return (grey / 255 - mean) / deviation

    @cached_property
    def _video_batches(self) -> Batches:
        return self._batches(_VIDEOS_ON_GPU)

    @property
    def _network(self) -> ViCLIP:
        return _loaded(locate(self.weights_from), self.weights_of, self._device, self._dtype)


@functools.lru_cache(maxsize=2)
def _loaded(path: Path, weights_of: WeightsOf, device: torch.device, dtype: torch.dtype) -> ViCLIP:
    """One network for every engine of a worker that asks for the same. Two are kept, as a pipeline needs that embeds
    videos and texts with different models.
    """
    from posecap.engines.viclip_model import ViCLIP

    build = ViCLIP.from_state_dict if weights_of == "viclip" else ViCLIP.from_clip
    try:
        network = build(tensors(path, under=("model", "module", "state_dict")))
    except WrongArchitectureError as error:
        other = "clip" if weights_of == "viclip" else "viclip"
        raise WrongArchitectureError(
            f"{path}: {error}. Name a checkpoint of ViCLIP, or say weights_of={other!r} where it is one of "
            f"{'CLIP' if other == 'clip' else 'ViCLIP itself'}"
        ) from error
    return network.to(device, dtype)
