"""Embeds clips and sentences with any CLIP model of open_clip; a clip's vector is the mean of its frames' vectors.

An image model: the vector says what a clip looks like, not in which order things happen.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from posecap.inference.crops import middle_frames
from posecap.inference.device import Batches, Device, Precision
from posecap.inference.embedding import ClipEmbedder, unit
from posecap.inference.hub_folder import files_of
from posecap.inference.package_compat import ensure_torchvision, extra
from posecap.models import MissingWeightsError, locate
from posecap.types import Clip, Floats, Pixels
from posecap.weights.checkpoints import load_into, tensors

if TYPE_CHECKING:
    import torch

_OF_OPENAI = "-openai"
"""How names of OpenAI's weights end in the registry."""
_FOLDER = "local-dir:"
"""open_clip's own prefix for models in a folder."""
_IMAGES_ON_GPU = 256
"""Our choice, halved when memory runs out."""


@dataclass(frozen=True)
class OpenClip(ClipEmbedder):
    """Frame-mean vectors of one of open_clip's models, with that model's own preprocessing and tokenizer.

    Args:
        model: a name of ``open_clip.list_models()``, or ``local-dir:FOLDER`` for a folder with an
            ``open_clip_config.json`` and the tokenizer's files. OpenAI's weights need a ``-quickgelu`` name.
        weights_from: a name in the registry, or a path to the model's weights.
        tag: which of the model's published weights the file holds, as open_clip calls them (``openai``,
            ``laion2b_s34b_b88k`` …). It decides mean, deviation and resizing, which the file does not say. Empty is
            ``openai`` where ``weights_from`` ends in ``-openai``, and otherwise allowed where all of a model's
            published weights agree on them. It stays empty for a ``local-dir:``, whose configuration says them.
        frames: how many frames of a clip are averaged, 1 or more; all frames of a shorter clip.
        device, precision: ``cpu`` or ``cuda``, and ``fp32`` or ``bf16``; ``auto`` takes the worker's GPU and bf16 where
            it has one, else the CPU and fp32.
        batch: the largest number of frames or sentences computed at once; None takes 256 on a GPU, and 1 on a CPU,
            where a vector would otherwise depend, in its last bits, on the others of its batch.

    Raises:
        ValueError: ``model`` is on a hub, or ``frames`` or ``batch`` is below 1.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "open_clip_torch", "timm", "ftfy", "pillow")
    extra: ClassVar[str] = "clip"
    modules: ClassVar[tuple[str, ...]] = ("open_clip", "torchvision")
    path_fields: ClassVar[tuple[str, ...]] = ("model", "weights_from")

    model: str = "ViT-B-16-quickgelu"
    weights_from: str = "clip-vit-b16-openai"
    tag: str = ""
    frames: int = 8
    device: Device = "auto"
    precision: Precision = "auto"
    batch: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.startswith("hf-hub:"):
            raise ValueError(f"{self.model}: this engine uses no network; fetch the folder and name {_FOLDER}FOLDER")
        if self.frames < 1:
            raise ValueError(f"OpenClip: frames is {self.frames}, expected at least 1")

    @property
    def name(self) -> str:  # type: ignore[override]
        model = Path(self.model).name.removeprefix(_FOLDER)
        return f"{model}-{Path(self.weights_from).stem}-frame-mean"

    @property
    def weights(self) -> tuple[str, ...]:
        """The model's weights, and of a ``local-dir:`` all files of settings and of the tokenizer, by their paths.

        Raises:
            MissingWeightsError: there is no such folder.
        """
        if self._folder is None:
            return (self.weights_from,)
        if not self._folder.is_dir():
            raise MissingWeightsError(
                f"no folder {self._folder}; fetch the model's folder, with its open_clip_config.json and its "
                f"tokenizer's files, and name it as model='{_FOLDER}FOLDER'"
            )
        # The sizes of the network, the preprocessing and the tokenizer are in them: other files, other vectors.
        settings = (str(path) for path in files_of(self._folder) if path.suffix != ".safetensors")
        return (self.weights_from, *settings)

    @cached_property
    def dimension(self) -> int:
        return int(self._configuration["embed_dim"])

    def load(self) -> None:
        _ = self._network, self._tokenizer, self._transform

    def frame_indices(self, clip: Clip) -> list[int]:
        """Middle frames of ``frames`` equal stretches of the clip; all frames of a shorter clip."""
        return middle_frames(clip.frame_count, self.frames)

    def embed_videos(self, videos: Sequence[Pixels]) -> Floats:
        """See :meth:`posecap.inference.embedding.ClipEmbedder.embed_videos`.

        A vector is the mean of the L2-normalised vectors of all frames given, L2-normalised again.

        Raises:
            TransientError: ``out_of_memory`` when not even one frame fits.
        """
        frames = [frame for frames_THW3 in videos for frame in frames_THW3]
        vectors = np.array(self._image_batches.run_together(self._images, frames), np.float64)
        ends = accumulate((len(frames_THW3) for frames_THW3 in videos), initial=0)
        return self._rows([unit(vectors[begin:end].mean(0)) for begin, end in pairwise(ends)])

    def _images(self, frames: Sequence[Pixels]) -> list[Floats]:
        import torch
        from PIL import Image

        prepared = torch.stack([self._transform(Image.fromarray(frame)) for frame in frames])
        with torch.inference_mode():
            return _unit(self._network.encode_image(prepared.to(self._device, self._dtype)))

    def _texts(self, texts: Sequence[str]) -> list[Floats]:
        import torch

        with torch.inference_mode():
            tokens = self._tokenizer(list(texts)).to(self._device)
            return _unit(self._network.encode_text(tokens))

    @cached_property
    def _image_batches(self) -> Batches:
        return self._batches(_IMAGES_ON_GPU)

    @property
    def _folder(self) -> Path | None:
        """The folder of a ``local-dir:`` model; None for one of open_clip's own."""
        return Path(self.model.removeprefix(_FOLDER)) if self.model.startswith(_FOLDER) else None

    @cached_property
    def _configuration(self) -> Mapping[str, Any]:
        """The model's sizes as open_clip's configuration files give them.

        Raises:
            ValueError: no such model, or one whose parts are on a hub.
        """
        if self._folder:
            content = (self._folder / "open_clip_config.json").read_text(encoding="utf-8")
            known = json.loads(content).get("model_cfg")
        else:
            known = _open_clip().get_model_config(self.model)
        if not isinstance(known, dict):
            raise ValueError(f"open_clip has no model {self.model!r}; open_clip.list_models() has their names")
        text = known.get("text_cfg", {})
        if hub := text.get("hf_model_name") or ("" if self._folder else text.get("hf_tokenizer_name")):
            raise ValueError(
                f"{self.model} takes {hub!r} from a hub, and this engine uses no network; "
                f"fetch the model's folder and name {_FOLDER}FOLDER"
            )
        return known

    @cached_property
    def _published(self) -> Mapping[str, Any]:
        """What open_clip records of the weights: preprocessing, and whether they compute with QuickGELU."""
        configuration, pretrained = self._configuration, _open_clip().pretrained
        tag = self.tag or ("openai" if self.weights_from.endswith(_OF_OPENAI) and not self._folder else "")
        tags = () if self._folder else pretrained.list_pretrained_tags_by_model(self.model)
        known = {one: pretrained.get_pretrained_cfg(self.model, one) for one in tags}
        if tag and tag not in known:
            raise ValueError(f"{self.model} has no published weights {tag!r}; known: {', '.join(known) or 'none'}")
        if tag and bool(known[tag].get("quick_gelu")) != bool(configuration.get("quick_gelu")):
            raise ValueError(
                f"{self.model} computes another activation than the weights {tag!r} were trained with: use model="
                f"{self.model.removesuffix('-quickgelu') + '-quickgelu' * bool(known[tag].get('quick_gelu'))!r}"
            )
        choices = [known[tag]] if tag else list(known.values())
        preprocessing = [
            {key: one.get(key) for key in ("mean", "std", "interpolation", "resize_mode")} for one in choices
        ]
        if any(one != preprocessing[0] for one in preprocessing):
            raise ValueError(
                f"published weights of {self.model} differ in their preprocessing; "
                f"say which ones the file holds with tag=, one of: {', '.join(known)}"
            )
        return preprocessing[0] if preprocessing else {}

    @property
    def _network(self) -> Any:
        # Engines that differ only in these two share one network.
        return _loaded(replace(self, frames=1, batch=None))

    @cached_property
    def _transform(self) -> Any:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        return image_transform_v2(PreprocessCfg(**self._network.visual.preprocess_cfg), is_train=False)

    @cached_property
    def _tokenizer(self) -> Any:
        _ = self._configuration
        return _open_clip().get_tokenizer(self.model)


@functools.lru_cache(maxsize=2)
def _loaded(engine: OpenClip) -> Any:
    """One network for every engine of a worker that asks for the same. Two are kept, as a pipeline needs that embeds
    videos and texts with different models.
    """
    preprocessing = dict(engine._published)
    path = locate(engine.weights_from)
    state = tensors(path)
    with _not_logged("initialized randomly"):
        network = _open_clip().create_model(
            engine.model,
            precision="fp32" if engine._dtype.itemsize == 4 else "bf16",
            load_weights=False,
            pretrained_image=False,
            pretrained_text=False,
            force_preprocess_cfg=preprocessing,
        )
    load_into(network, _renamed(network, state), path=path)
    return network.to(engine._device).eval().requires_grad_(False)


def _open_clip() -> Any:
    with extra("clip"):
        ensure_torchvision()
        import open_clip
    return open_clip


def _unit(vectors: torch.Tensor) -> list[Floats]:
    """Rows brought to length 1 in float32, whatever they were computed in."""
    from torch.nn.functional import normalize

    return list(normalize(vectors.float(), dim=-1).cpu().numpy())


def _renamed(network: Any, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tensors of other makers and of open_clip's older versions under today's names."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(network, dict(state))
    if "positional_embedding" in state and not hasattr(network, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    return state


@contextmanager
def _not_logged(words: str) -> Iterator[None]:
    """In the block, lines with these words are not logged: open_clip warns of random weights before ours are loaded."""

    def quiet(record: logging.LogRecord) -> bool:
        return words not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(quiet)
    try:
        yield
    finally:
        root.removeFilter(quiet)
