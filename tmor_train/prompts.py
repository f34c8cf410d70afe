"""Sentences that stand for the classes of a benchmark in zero-shot recognition, and their vectors out of a file.

The paper describes actions in words as CLIP does and names no wording (Sec. III-C), so there are several sets of
prompts: the class alone, one sentence around it, and sixteen around it in the manner of ActionCLIP (Wang et al., 2021),
whose similarities are averaged; and, in place of its name, what the body does, for encoders that learned from such
sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tmor_train.benchmarks import smarthome
from tmor_train.data.arrays import Floats
from tmor_train.data.datasets import msr_action3d, penn_action, sbu, utd_mhad, utkinect
from tmor_train.data.datasets.action_descriptions import MOVEMENTS

PromptSet = Literal["plain", "person", "templates", "movement"]

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
}
"""Sentences of each set; ``{}`` is the class in words, in ``movement`` what the body does in it."""

KNOWN: Mapping[str, Mapping[str, str]] = {
    "smarthome": smarthome.CAPTIONS,
    "penn_action": penn_action.CAPTIONS,
    "utkinect": utkinect.CAPTIONS,
    **{
        name: {words: words for words in read.CLASSES}
        for name, read in (("msr_action3d", msr_action3d), ("sbu", sbu), ("utd_mhad", utd_mhad))
    },
}
"""Classes in words by benchmark."""

_CODE = re.compile(r"[A-Za-z]?\d+")
_MOST_BYTES = 2 * 2**30


class MissingTextError(ValueError):
    """A class has no words, or a sentence no vector; the message says what to do."""


def class_texts(benchmark: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Each class in words: those that are known of a benchmark, or its own name without underscores.

    Raises:
        MissingTextError: a name is a mere code, such as UAV-Human's.
    """
    known = KNOWN.get(benchmark, {})
    texts = tuple(known.get(name, " ".join(name.replace("_", " ").split())) for name in classes)
    codes = [text for text in texts if not text or _CODE.fullmatch(text)]
    if codes:
        raise MissingTextError(
            f"{len(codes)} classes of {benchmark} have codes for names, such as {codes[0]!r}, which say nothing to a "
            "text encoder; give all classes in words and in order: --set class_texts=…,…"
        )
    return texts


def prompts(prompt_set: PromptSet, texts: Sequence[str]) -> list[str]:
    """The sentences of classes in words, all of the first class, then all of the second: K times P.

    Raises:
        MissingTextError: ``movement`` of a class whose movement is not known.
    """
    words = _movements(texts) if prompt_set == "movement" else texts
    return [template.replace("{}", text) for text in words for template in PROMPTS[prompt_set]]


def _movements(texts: Sequence[str]) -> list[str]:
    if unknown := [text for text in texts if text not in MOVEMENTS]:
        raise MissingTextError(
            f"no movement is known for {len(unknown)} classes, such as {unknown[0]!r}; leave 'movement' out of "
            'prompts, or say what the body does in each class, in order: --set prompts=plain class_texts=["…","…"]'
        )
    return [MOVEMENTS[text] for text in texts]


def all_prompts(texts: Sequence[str]) -> list[str]:
    """The different sentences of all sets of prompts, in order; those of movements where all are known."""
    known = all(text in MOVEMENTS for text in texts)
    names = [name for name in PROMPTS if known or name != "movement"]
    return list(dict.fromkeys(sentence for name in names for sentence in prompts(name, texts)))


def prompt_vectors(path: Path, sentences: Sequence[str], *, remedy: str) -> Floats:
    """Vectors of sentences out of a Parquet file with the columns ``sentence`` and ``vector``: (len(sentences), D).

    Args:
        remedy: what makes the file, for the message of an error.

    Raises:
        MissingTextError: there is no such file, it lacks a sentence, or it is not as ``pipelines/prompt_vectors.py``
            writes it.
    """
    if not path.is_file():
        raise MissingTextError(f"{path}, the vectors of the classes' sentences, is missing; make it: {remedy}")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise MissingTextError(f"{path} is larger than {_MOST_BYTES >> 30} GiB, which no file of prompts is")
        wanted = set(sentences)
        found = {sentence: vector for sentence, vector in _rows(path) if sentence in wanted and vector}
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise MissingTextError(
            f"{path} holds no columns 'sentence' and 'vector': {error}; make it again: {remedy}"
        ) from error
    if lacking := [sentence for sentence in dict.fromkeys(sentences) if sentence not in found]:
        raise MissingTextError(
            f"{path} has no vector for {len(lacking)} sentences, among them {lacking[0]!r}; make it again: {remedy}"
        )
    if len({len(vector) for vector in found.values()}) != 1:
        raise MissingTextError(f"{path} holds vectors of several lengths; make it again: {remedy}")
    values: Floats = np.array([found[sentence] for sentence in sentences], np.float32)
    if not np.isfinite(values).all():
        raise MissingTextError(f"{path} holds NaN or infinity; make it again: {remedy}")
    return values


def _rows(path: Path) -> Iterator[tuple[str, list[float]]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["sentence", "vector"], batch_size=4096):
            yield from zip(batch["sentence"].to_pylist(), batch["vector"].to_pylist(), strict=True)
