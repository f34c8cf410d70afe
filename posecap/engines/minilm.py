"""Embeds sentences with all-MiniLM-L6-v2 (int8 ONNX) through onnxruntime: 384-d vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from posecap.inference.embedding import EmbeddingCache, unit
from posecap.inference.onnx import open_session
from posecap.models import locate
from posecap.stage import Engine
from posecap.types import Floats

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

_POSITIONS = 512
"""The model's own limit."""


@dataclass(frozen=True)
class MiniLM(Engine):
    """Mean of the vectors of all tokens, L2-normalised; on the CPU.

    Args:
        longest_tokens: of longer sentences the first tokens count, this many with the start and end tokens; 3 to 512,
            the positions that the model has. Its makers trained it with 128.

    Raises:
        ValueError: ``longest_tokens`` is out of its range.
    """

    name: ClassVar[str] = "minilm-l6-v2-int8"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "tokenizers")
    thread_safe: ClassVar[bool] = True

    longest_tokens: int = 128
    dimension: int = field(default=384, init=False)

    def __post_init__(self) -> None:
        if not 3 <= self.longest_tokens <= _POSITIONS:
            raise ValueError(f"MiniLM: longest_tokens is {self.longest_tokens}, expected 3 to {_POSITIONS}")

    @property
    def weights(self) -> tuple[str, ...]:
        return ("minilm-l6-v2-int8", "minilm-l6-v2-tokenizer")

    def load(self) -> None:
        _ = self._session, self._tokenizer

    def embed_text(self, sentences: Sequence[str]) -> Floats:
        """(C, 384) float32, one L2-normalised row per sentence.

        Sentences are computed one at a time: the int8 model scales its activations over the whole batch, so a
        sentence's vector would otherwise depend on the others of its batch.
        """
        vectors = self._cache.vectors(sentences, lambda new: [self._embed(sentence) for sentence in new])
        return np.array(vectors, np.float32).reshape(len(vectors), self.dimension)

    def _embed(self, sentence: str) -> Floats:
        """(384,) float32, L2-normalised, of one sentence."""
        encoded = self._tokenizer.encode(sentence)
        feeds = {
            "input_ids": np.array([encoded.ids], np.int64),
            "attention_mask": np.array([encoded.attention_mask], np.int64),
            "token_type_ids": np.array([encoded.type_ids], np.int64),
        }
        # Some exports of the model take no token types, which are all 0 for single sentences.
        wanted = {i.name for i in self._session.get_inputs()}
        tokens = self._session.run(None, {k: v for k, v in feeds.items() if k in wanted})[0][0].astype(np.float64)
        return unit(tokens[np.array(encoded.attention_mask, bool)].mean(0))

    @cached_property
    def _cache(self) -> EmbeddingCache:
        return EmbeddingCache()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(locate("minilm-l6-v2-tokenizer")))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.longest_tokens)
        return tokenizer

    @cached_property
    def _session(self) -> InferenceSession:
        return open_session(locate("minilm-l6-v2-int8"), "cpu")
