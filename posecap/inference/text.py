"""Text for CLIP-like models: caption cleaning as in ViCLIP, prompt templates, and a cache of embeddings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Literal

from posecap.types import Floats

Clean = Literal["viclip", "none"]

_DROPPED = re.compile(r"""[,.'!?"()*#:;~]""")
_SPACES = re.compile(r"\s{2,}")

TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "plain": ("{}",),
        "person": ("a video of a person {}",),
        "actionclip-16": (
            *("a photo of action {}", "a picture of action {}", "Human action of {}", "{}, an action"),
            *("{} this is an action", "{}, a video of action", "Playing action of {}", "{}"),
            *("Playing a kind of action, {}", "Doing a kind of action, {}", "Look, the human is {}"),
            *("Can you recognize the action of {}?", "Video classification of {}", "A video of {}"),
            *("The man is {}", "The woman is {}"),
        ),
        "clip-kinetics-28": tuple(
            f"a {kind} of {what}."
            for kind, what in product(
                ("photo", "video", "example", "demonstration"),
                (
                    "{}",
                    *(
                        f"a person {verb}{{}}"
                        for verb in ("", "using ", "doing ", "during ", "performing ", "practicing ")
                    ),
                ),
            )
        ),
    }
)
"""Prompt templates with a placeholder for the class name: the name alone; one sentence; the 16 of ActionCLIP, which
ViCLIP's zero-shot evaluation uses; the 28 that CLIP used for Kinetics-700."""


def clean_caption(text: str) -> str:
    """A caption as ViCLIP saw captions in training and in its tests.

    Lower case; ``, . ' ! ? " ( ) * # : ; ~`` removed; hyphens and slashes become spaces; the placeholder
    ``<person>`` becomes ``person``; runs of white space become one space, and none is left at the ends.
    """
    text = _DROPPED.sub("", text.lower())
    text = text.replace("-", " ").replace("/", " ").replace("<person>", "person")
    return _SPACES.sub(" ", text).strip("\n ")


def cleaned(sentences: Sequence[str], how: Clean) -> list[str]:
    """Sentences cleaned as ``viclip`` does, or as they are."""
    return [clean_caption(sentence) for sentence in sentences] if how == "viclip" else list(sentences)


def prompts(label: str, templates: Sequence[str]) -> list[str]:
    """``label`` put into each template, in order; braces in the label stay what they are."""
    return [template.replace("{}", label) for template in templates]


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
