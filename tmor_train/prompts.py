"""Sentences (prompts) that describe the classes of a benchmark in zero-shot recognition, and their text vectors.

T-MOR's paper describes actions in words as CLIP does but does not give the wording (Sec. III-C), so there are several
sets of prompts: the class alone; one sentence with it; sixteen sentences with it in the manner of ActionCLIP (Wang et
al., 2021), whose similarities are averaged; and, for encoders that were trained with such sentences, instead of the
class a description of how the body moves, alone or with one for each of its parts. Vectors are read from a file that
``pipelines/prompt_vectors.py`` writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from tmor_train.benchmarks import smarthome
from tmor_train.data.datasets import msr_action3d, penn_action, sbu, utd_mhad, utkinect
from tmor_train.data.datasets.action_descriptions import MOVEMENTS, PARAPHRASES, PART_SENTENCES
from tmor_train.data_sources import MissingTextError

PromptSet = Literal["plain", "person", "templates", "movement", "paraphrases", "body_parts"]

PROMPTS: Mapping[PromptSet, tuple[str, ...]] = {
    "plain": ("{}",),
    "person": ("a video of a person {}",),
    "templates": (
        "{}",
        "a video of {}",
        "a video of someone {}",
        "a short clip of a person {}",
        "a recording of {}",
        "a photo of a person {}",
        "the action of {}",
        "a human action: {}",
        "{}, a human action",
        "{}, as seen in a video",
        "a man is {}",
        "a woman is {}",
        "someone is {}",
        "this person is {}",
        "an example of {}",
        "body movements of a person {}",
    ),
    "movement": ("{}",),
    "paraphrases": ("{}",),
    "body_parts": ("{}",),
}
"""The templates of each set; ``{}`` is the class in words, in ``movement`` the description of how the body moves, in
``paraphrases`` that in four wordings, in ``body_parts`` that and what each of
:data:`posecap.joints.BODY_PARTS` does."""

_BESIDE: Mapping[PromptSet, Mapping[str, tuple[str, ...]]] = {
    "movement": dict.fromkeys(MOVEMENTS.values(), ()),
    "paraphrases": PARAPHRASES,
    "body_parts": PART_SENTENCES,
}
"""By movement, the sentences that a set has beside it. These sets are known of some classes alone."""

CLASS_WORDS: Mapping[str, Mapping[str, str]] = {
    "smarthome": smarthome.CAPTIONS,
    "penn_action": penn_action.CAPTIONS,
    "utkinect": utkinect.CAPTIONS,
    **{
        name: {words: words for words in dataset.CLASSES}
        for name, dataset in (("msr_action3d", msr_action3d), ("sbu", sbu), ("utd_mhad", utd_mhad))
    },
}
"""For each benchmark whose classes are known without its files: the words for each class's name, of all its protocols.
``pipelines/prompt_vectors.py`` takes the keys for the list of its classes; of other benchmarks it reads the files."""

_CODE = re.compile(r"[A-Za-z]?\d+")


def class_texts(benchmark: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Each class in words, in the order of ``classes``: those of :data:`CLASS_WORDS`, or its name without underscores.

    Args:
        benchmark: name of the benchmark.
        classes: names of its classes.

    Raises:
        MissingTextError: the name of a class is only a code, as UAV-Human's are, and there are no words for it.
    """
    known = CLASS_WORDS.get(benchmark, {})
    texts = tuple(known.get(name, " ".join(name.replace("_", " ").split())) for name in classes)
    codes = [text for text in texts if not text or _CODE.fullmatch(text)]
    if codes:
        raise MissingTextError(
            f"{len(codes)} classes of {benchmark} have codes for names, such as {codes[0]!r}, which say nothing to a "
            'text encoder; give all classes in words and in order: --set class_texts=\'["…","…"]\', and make their '
            "vectors: prompt_vectors.py FILE --class-texts …"
        )
    return texts


def prompts(prompt_set: PromptSet, texts: Sequence[str]) -> list[str]:
    """The P sentences of each of K classes, all of the first class, then all of the second: K * P sentences.

    Args:
        texts: the classes in words (:func:`class_texts`).

    Raises:
        MissingTextError: the set describes movements, and a class has no description.
    """
    words = _described(prompt_set, texts) if prompt_set in _BESIDE else texts
    return [template.replace("{}", text) for text in words for template in PROMPTS[prompt_set]]


def _described(prompt_set: PromptSet, texts: Sequence[str]) -> list[str]:
    """The description of each text's movement and what the set has beside it; MissingTextError where there is none."""
    beside = _BESIDE[prompt_set]
    if unknown := [text for text in texts if MOVEMENTS.get(text) not in beside]:
        raise MissingTextError(
            f"{len(unknown)} classes, such as {unknown[0]!r}, have no description of their movement for the prompts "
            f"{prompt_set}; leave {prompt_set!r} out of prompts, or describe the movement of each class: --set "
            'prompts=plain class_texts=\'["…","…"]\', and make vectors of the descriptions: prompt_vectors.py FILE '
            "--class-texts …"
        )
    movements = [MOVEMENTS[text] for text in texts]
    return [sentence for movement in movements for sentence in (movement, *beside[movement])]


def all_prompts(texts: Sequence[str]) -> list[str]:
    """The distinct sentences of all sets of prompts, in order; those of movements only where every class has a
    description."""
    names = [
        name for name in PROMPTS if name not in _BESIDE or all(MOVEMENTS.get(text) in _BESIDE[name] for text in texts)
    ]
    return list(dict.fromkeys(sentence for name in names for sentence in prompts(name, texts)))
