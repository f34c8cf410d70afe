"""Sentences (prompts) that describe the classes of a benchmark in zero-shot recognition, and their text vectors.

The paper describes actions in words as CLIP does but does not give the wording (Sec. III-C), so there are several sets
of prompts: the class alone; one sentence with it; sixteen sentences with it in the manner of ActionCLIP (Wang et al.,
2021), whose similarities are averaged; and, instead of the class, a description of how the body moves, for encoders
that were trained with such sentences. Vectors are read from a file that ``pipelines/prompt_vectors.py`` writes.
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
from tmor_train.data.dataset import Floats
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
"""The templates of each set; ``{}`` is the class in words, in ``movement`` the description of how the body moves."""

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
_MAX_FILE_BYTES = 2 * 2**30  # free choice: sixteen sentences of 1,000 classes take some 50 MB


class MissingTextError(ValueError):
    """A class has no words, or a sentence no vector; the message says what to do."""


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
        MissingTextError: the set is ``movement`` and a class has no description of its movement.
    """
    words = _movements(texts) if prompt_set == "movement" else texts
    return [template.replace("{}", text) for text in words for template in PROMPTS[prompt_set]]


def _movements(texts: Sequence[str]) -> list[str]:
    """The description of each text's movement; MissingTextError where there is none."""
    if unknown := [text for text in texts if text not in MOVEMENTS]:
        raise MissingTextError(
            f"{len(unknown)} classes, such as {unknown[0]!r}, have no description of their movement; leave 'movement' "
            'out of prompts, or describe the movement of each class: --set prompts=plain class_texts=\'["…","…"]\', '
            "and make vectors of the descriptions: prompt_vectors.py FILE --class-texts …"
        )
    return [MOVEMENTS[text] for text in texts]


def all_prompts(texts: Sequence[str]) -> list[str]:
    """The distinct sentences of all sets of prompts, in order; ``movement`` only where every class has a
    description."""
    known = all(text in MOVEMENTS for text in texts)
    names = [name for name in PROMPTS if known or name != "movement"]
    return list(dict.fromkeys(sentence for name in names for sentence in prompts(name, texts)))


def prompt_vectors(path: Path, sentences: Sequence[str], *, remedy: str) -> Floats:
    """Vectors of sentences out of a Parquet file with the columns ``sentence`` and ``vector``.

    Args:
        path: a file that ``pipelines/prompt_vectors.py`` wrote, of at most 2 GiB.
        remedy: the command that makes the file, for error messages.

    Returns:
        (len(sentences), D) float32, D being the length of the file's vectors.

    Raises:
        MissingTextError: the file is missing, too large or malformed (columns, UTF-8), its vectors have several lengths
            or are not finite, or one is lacking.
    """
    if not path.is_file():
        raise MissingTextError(f"{path}, the vectors of the classes' sentences, is missing; make it: {remedy}")
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise MissingTextError(f"{path} is larger than {_MAX_FILE_BYTES >> 30} GiB; make it again: {remedy}")
        wanted = set(sentences)
        # A row without a vector counts as none, so that its sentence is named as lacking.
        vector_of = {sentence: vector for sentence, vector in _rows(path) if sentence in wanted and vector}
    except UnicodeDecodeError as error:
        raise MissingTextError(f"{path}, {error.reason}; make it again: {remedy}") from error
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise MissingTextError(
            f"{path} holds no columns 'sentence' and 'vector': {error}; make it again: {remedy}"
        ) from error
    if lacking := [sentence for sentence in dict.fromkeys(sentences) if sentence not in vector_of]:
        raise MissingTextError(
            f"{path} has no vector for {len(lacking)} sentences, among them {lacking[0]!r}; make it again: {remedy}"
        )
    if len({len(vector) for vector in vector_of.values()}) != 1:
        raise MissingTextError(f"{path} holds vectors of several lengths; make it again: {remedy}")
    values: Floats = np.array([vector_of[sentence] for sentence in sentences], np.float32)
    if not np.isfinite(values).all():
        raise MissingTextError(f"{path} holds NaN or infinity; make it again: {remedy}")
    return values


def _rows(path: Path) -> Iterator[tuple[str | None, list[float] | None]]:
    """Sentence and vector of each row.

    Raises:
        UnicodeDecodeError: a sentence is not UTF-8; its ``reason`` names the row, counted from 1.
        pyarrow.ArrowException, OSError, KeyError, TypeError: the file is damaged, or lacks the columns.
    """
    with pq.ParquetFile(path) as file:
        kind = file.schema_arrow.field("vector").type
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
            raise TypeError(f"'vector' is {kind}, expected lists of numbers")
        row = 0
        # Some at a time, so that a file of many sentences is never in memory as Python lists as a whole.
        for batch in file.iter_batches(columns=["sentence", "vector"], batch_size=4096):
            for sentence, vector in zip(batch["sentence"], batch["vector"].to_pylist(), strict=True):
                row += 1
                try:
                    text = sentence.as_py()
                except UnicodeDecodeError as error:
                    error.reason = f"row {row}: its sentence is not UTF-8"
                    raise
                yield text, vector
