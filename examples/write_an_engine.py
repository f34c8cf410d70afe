"""A new engine in a pipeline: sentences are embedded by the words in them, instead of by a language model.

This file is a pipeline. Name it in a manifest (`pipeline: examples/write_an_engine.py`), then

    posecap build --manifest mine.yaml

or print what it is made of:

    python examples/write_an_engine.py
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from posecap.builtin import pipelines
from posecap.pipeline import load_pipeline
from posecap.stage import Engine
from posecap.stages.pack import Embed
from posecap.types import Floats


@dataclass(frozen=True)
class HashedWords(Engine):
    """Counts words: each adds 1 or -1 to one of ``dimension`` numbers, which its hash chooses.

    Engines are frozen dataclasses: name and fields are part of a dataset's fingerprint, so another ``dimension`` is
    noticed and rebuilds. The methods are those of `posecap.interfaces.TextEmbedder`.
    """

    name: ClassVar[str] = "hashed-words"

    dimension: int = 256

    def embed_text(self, sentences: Sequence[str]) -> Floats:
        """(C, dimension) float32, rows of length 1."""
        vectors = np.zeros((len(sentences), self.dimension), np.float32)
        for vector, sentence in zip(vectors, sentences, strict=True):
            for word in re.findall(r"\w+", sentence.lower()) or [""]:
                digest = hashlib.sha256(word.encode()).digest()  # Python's own hash differs from run to run
                vector[int.from_bytes(digest[:4]) % self.dimension] += 1 if digest[4] % 2 else -1
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Floats = vectors / np.maximum(lengths, 1e-12)
        return unit


default = load_pipeline(pipelines()["default"])
stages = tuple(replace(stage, text=HashedWords()) if isinstance(stage, Embed) else stage for stage in default.stages)
pipeline = replace(default, stages=stages)

if __name__ == "__main__":
    for stage in pipeline.configuration():
        print(stage)
    walks, sits, query = HashedWords().embed_text(["a man walks", "a woman sits down", "man walks"])
    print(f"cosine of 'man walks' with 'a man walks' {query @ walks:.2f}, with 'a woman sits down' {query @ sits:.2f}")
