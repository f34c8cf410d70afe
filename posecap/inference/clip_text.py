"""Text around CLIP-like models: how ViCLIP cleans captions, and the sentences that class names are put into."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Literal

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
"""Sets of sentences with a place for a class name: the bare name; one sentence; the 16 of ActionCLIP, which ViCLIP's
own zero-shot tests use; the 28 that CLIP used for Kinetics-700."""


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
