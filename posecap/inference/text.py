"""Text around CLIP-like models: how ViCLIP cleans captions, and the sentences that class names are put into."""

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


# Vectors of sentences, computed once: the captions of a dataset repeat its class names a million times.


class Remembered:
    """Vectors (D,) by sentence, of at most ``most`` sentences; beyond that all are forgotten."""

    def __init__(self, most: int = 10_000) -> None:
        self.most = most
        self._known: dict[str, Floats] = {}

    def vectors(self, sentences: Sequence[str], compute: Callable[[list[str]], Sequence[Floats]]) -> list[Floats]:
        """One vector per sentence, in order. ``compute`` gets each sentence that is not known, once."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._known]
        found = {sentence: self._known[sentence] for sentence in sentences if sentence in self._known}
        fresh = dict(zip(new, compute(new), strict=True)) if new else {}
        if len(self._known) + len(fresh) > self.most:
            self._known.clear()
        self._known.update(fresh)
        found.update(fresh)
        return [found[sentence] for sentence in sentences]
