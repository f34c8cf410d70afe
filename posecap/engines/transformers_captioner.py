"""Captions clips with a vision-language model of transformers, from a checkpoint that the user names.

Any model that ``AutoModelForImageTextToText`` supports, whose processor has a chat template and takes several images:
SmolVLM, Idefics3, Qwen2-VL and Qwen2.5-VL, LLaVA-OneVision, InternVL and others. Weights are read from safetensors
files only, and no code from the checkpoint is run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from posecap.files import digest
from posecap.inference.crops import frame_size, middle_frames, people_region
from posecap.inference.device import Batches, Device, Precision, torch_device, torch_dtype
from posecap.inference.hub_folder import (
    find_folder,
    import_transformers,
    is_path,
    read_network,
    read_part,
    shortened,
    weights_of,
)
from posecap.stage import Engine
from posecap.types import Pixels, SkeletonClip
from posecap.weights.checkpoints import WrongArchitectureError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


End = Literal["complete", "cut off"]
"""How an answer ended: by the model's own end token, or at the limit of tokens."""

_BREAK = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|(?<=[。！？])\s*(?=\S)")
"""Between two sentences: blanks after a full stop, which Chinese and Japanese do not write after theirs."""
_ENDED = re.compile(r"[.!?。！？][\"'”’)]*$")
"""The end of a text whose last sentence is complete."""
_REASONING = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
"""What models that reason write before the answer, also where it was cut off."""
_LINE_MARKS = re.compile(r"^\s*(?:[-*#>•]+|\d+[.)])\s+|[*_`]{2,}|`")
"""Markdown: marks of lists and headings at the beginning of a line, bold face and code anywhere."""


def sentences_of(answer: str, *, most: int, prompt: str, end: End) -> list[str]:
    """The first sentences of a model's answer, each on one line, without the question, reasoning or list marks.

    Lines that end in a colon are left out, since they announce the answer ("Here is a description:"), and so are
    sentences without a letter or digit, and an unfinished last sentence of an answer that was cut off.

    Args:
        most: how many sentences to give at most.
        prompt: the question, which some models repeat.
    """
    lines = [_LINE_MARKS.sub("", line).strip() for line in _REASONING.sub("", answer).splitlines()]
    text = " ".join(line for line in lines if line and not line.endswith(":"))
    text = text.removeprefix(" ".join(prompt.split())).strip()
    found = [part.strip(" \"'“”") for part in _BREAK.split(text)]
    if end == "cut off" and not _ENDED.search(text):
        found.pop()
    return [sentence for sentence in found if any(c.isalnum() for c in sentence)][:most]


MOTION = (
    "These are {frames} frames of one video, in order; it lasts {seconds} seconds. Describe how the people move: "
    "which parts of the body move, in which direction, one after another or at once, and how often. Do not describe "
    "the place, the clothes, the camera or the frames. Answer with one short plain sentence and nothing else."
)
"""The default prompt: movement, not scenery."""

Question: TypeAlias = "tuple[list[Image], str]"
"""The pictures that a model is shown, in order, and the question about them."""


@dataclass(frozen=True, kw_only=True)
class TransformersCaptioner(Engine):
    """Asks a model each of ``prompts`` about evenly spaced frames of a clip. Decoding is greedy, so that the same clip
    has the same captions.

    On a CPU one question is answered at a time, so that a caption never depends on the others of its batch. On a GPU up
    to ``batch`` questions, of one clip or of several, are answered together; numbers are then added in another order,
    which can change a word now and then.

    Args:
        checkpoint: a folder in the hub's format (``config.json``, ``*.safetensors``, the processor's files), or the
            hub name of a model that was downloaded with ``hf download NAME``. The build itself downloads nothing.
        prompts: questions; ``{frames}`` and ``{seconds}`` in them are replaced by the number of frames shown and the
            time from the clip's first frame to its last.
        frames: how many frames the model sees: the middle ones of as many equal stretches, all of a shorter clip. 8 is
            our choice, ViCLIP's number.
        view: ``people`` shows the rectangle that holds every tracked person throughout the clip, with a margin, so
            that small people fill more of the picture; ``frame`` shows whole frames.
        longest_side: pictures whose longer side has more pixels are scaled down to it; most models spend memory by
            pixel. 448 is a usual size of their inputs.
        sentences: how many sentences of each answer are kept.
        longest_tokens: most tokens of an answer, 80 being twice a long sentence. One that is cut off there is not kept.
        device, precision: ``cpu`` or ``cuda``, and ``fp32`` or ``bf16``; ``auto`` takes the worker's GPU and bf16 where
            it has one, else the CPU and fp32.
        batch: most questions answered at once on a GPU; halved when memory runs out. 8 is our choice: 64 pictures.

    Raises:
        ValueError: there is no checkpoint or no prompt, or a number is below 1.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers", "pillow", "torchvision")
    extra: ClassVar[str] = "caption"
    modules: ClassVar[tuple[str, ...]] = ("transformers", "torchvision")
    thread_safe: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("checkpoint",)

    checkpoint: str
    prompts: tuple[str, ...] = (MOTION,)
    frames: int = 8
    view: Literal["frame", "people"] = "people"
    longest_side: int = 448
    sentences: int = 1
    longest_tokens: int = 80
    batch: int = 8
    device: Device = "auto"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        bounds = (self.frames, self.longest_side, self.sentences, self.longest_tokens, self.batch)
        if not self.checkpoint or not self.prompts or min(bounds) < 1:
            raise ValueError(
                "TransformersCaptioner needs a checkpoint, at least one prompt, and frames, longest_side, sentences, "
                f"longest_tokens and batch of 1 or more; got {self}"
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """Model and version of the prompts: ``transformers:Org/Model#prompt-1a2b3c4d``. Holds no folder's path."""
        model = Path(self.checkpoint).name if is_path(self.checkpoint) else self.checkpoint
        return f"transformers:{model}#prompt-{digest(list(self.prompts))[:8]}"

    @property
    def weights(self) -> tuple[str, ...]:
        """Paths of all files of the checkpoint that an answer depends on.

        Raises:
            MissingWeightsError: the checkpoint is not on this machine.
        """
        return weights_of(self.checkpoint)

    def load(self) -> None:
        """Load the model, and see that it takes several pictures and a question.

        Raises:
            WrongArchitectureError: it does not, or it is no vision-language model.
            MissingWeightsError: the checkpoint is not on this machine.
        """
        _ = self._network, self._processor, self._batches, self._ends
        try:  # two small black pictures and a question, so that a build ends here rather than in its first clip
            self._inputs([([_picture(np.zeros((32, 32, 3), np.uint8), self.longest_side)] * 2, "?")])
        except Exception as error:
            raise WrongArchitectureError(
                f"{self.checkpoint}: its processor does not take several pictures and a question ({shortened(error)})"
            ) from error

    def write(self, clip: SkeletonClip) -> list[str]:
        """At most ``sentences`` sentences for each prompt, in the order of the prompts.

        Raises:
            TransientError: ``out_of_memory`` when not even one question fits.
        """
        pictures = self._pictures(clip)
        seconds = float(clip.pts_T[-1] - clip.pts_T[0])
        questions = [
            (pictures, prompt.replace("{frames}", str(len(pictures))).replace("{seconds}", f"{seconds:.1f}"))
            for prompt in self.prompts
        ]
        answers = self._batches.run_together(self._answer, questions)
        return [
            sentence
            for (_, prompt), (text, end) in zip(questions, answers, strict=True)
            for sentence in sentences_of(text, most=self.sentences, prompt=prompt, end=end)
        ]

    def inputs(self, clip: SkeletonClip) -> tuple[int, int, int, int]:
        """The rectangle of each frame that is shown, (left, top, right, bottom) in working pixels: all that people,
        whatever their joints, change in the pictures."""
        return people_region(clip) if self.view == "people" else (0, 0, *frame_size(clip))

    def _pictures(self, clip: SkeletonClip) -> list[Image]:
        """What the model is shown of a clip."""
        seen = middle_frames(clip.frame_count, self.frames)
        left, top, right, bottom = self.inputs(clip)
        return [_picture(clip.frames_THW3[t, top:bottom, left:right], self.longest_side) for t in seen]

    def _answer(self, questions: Sequence[Question]) -> list[tuple[str, End]]:
        """The model's answer to each question, and how it ended; all questions are computed together."""
        import torch

        inputs = self._inputs(questions)
        with torch.inference_mode():
            written = self._network.generate(**inputs, max_new_tokens=self.longest_tokens)
        asked = inputs["input_ids"]
        if written.shape[1] >= asked.shape[1] and torch.equal(written[:, : asked.shape[1]], asked):
            written = written[:, asked.shape[1] :]  # decoders give the question back; encoder-decoders do not
        ended = [bool(np.isin(row, self._ends).any()) for row in written.cpu().numpy()]
        texts = self._processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [(text, "complete" if end else "cut off") for text, end in zip(texts, ended, strict=True)]

    def _inputs(self, questions: Sequence[Question]) -> dict[str, torch.Tensor]:
        """The questions as the network takes them, padded to one length."""
        import torch

        contents = [
            [*({"type": "image", "image": picture} for picture in pictures), {"type": "text", "text": prompt}]
            for pictures, prompt in questions
        ]
        inputs = self._processor.apply_chat_template(
            [[{"role": "user", "content": content}] for content in contents],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
        device, dtype = self._network.device, self._network.dtype
        return {
            key: value.to(device, dtype if value.is_floating_point() else None)
            for key, value in inputs.items()
            if isinstance(value, torch.Tensor)
        }

    @cached_property
    def _batches(self) -> Batches:
        return Batches(self.batch if self._network.device.type != "cpu" else 1)

    @cached_property
    def _ends(self) -> list[int]:
        """Tokens that end an answer."""
        ends = self._network.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]

    @cached_property
    def _processor(self) -> Any:
        """What turns pictures and a question into the network's input."""
        folder = find_folder(self.checkpoint)
        processor = read_part("processor", import_transformers(self.extra).AutoProcessor, folder)
        if not (hasattr(processor, "image_processor") and getattr(processor, "chat_template", None)):
            raise WrongArchitectureError(
                f"{folder}: its processor has no chat template for images; "
                "use a vision-language model that was tuned to follow instructions"
            )
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"  # the answer must follow the question directly
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if getattr(processor.image_processor, "do_image_splitting", False):
            # Splitting is for single pictures with fine print; it would multiply eight frames by up to seventeen.
            processor.image_processor.do_image_splitting = False
        return processor

    @cached_property
    def _network(self) -> Any:
        """The network with its weights, in evaluation mode, on the device."""
        device = torch_device(self.device)
        network = read_network(
            find_folder(self.checkpoint),
            self.extra,
            auto="AutoModelForImageTextToText",
            known="MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
            kind="a vision-language model",
            device=device,
            dtype=torch_dtype(self.precision, device),
        )
        # Greedy, whatever the checkpoint suggests.
        network.generation_config.update(do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None)
        return network


def _picture(pixels_HW3: Pixels, longest_side: int) -> Image:
    """A frame, scaled down where its longer side has more pixels."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels_HW3))
    scale = longest_side / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)
