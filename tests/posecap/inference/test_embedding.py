from __future__ import annotations

import numpy as np
import pytest

from posecap.inference.embedding import EmbeddingCache, clean_caption


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A man WALKS.", "a man walks"),
        ("close-up: he's sitting/standing", "close up hes sitting standing"),
        ('  "Why?" (she asks)  \n', "why she asks"),
        ("a <person> runs", "a person runs"),
        ("#fun ~ 3*4; don't!", "fun 34 dont"),
        ("a\t\tb\nc", "a b\nc"),
        ("?!", ""),
    ],
)
def test_captions_are_cleaned_as_in_training(raw, clean):
    assert clean_caption(raw) == clean


def test_one_large_request_does_not_outgrow_the_cache():
    asked = []

    def compute(new):
        asked.append(len(new))
        return [np.full(1, int(sentence), np.float32) for sentence in new]

    cache = EmbeddingCache(max_size=3)
    sentences = [str(number) for number in range(5)]
    assert [v[0] for v in cache.vectors(sentences, compute)] == [0, 1, 2, 3, 4]
    assert [v[0] for v in cache.vectors(sentences, compute)] == [0, 1, 2, 3, 4]
    assert asked == [5, 2]


def test_another_thread_may_clear_the_cache_meanwhile():
    cache = EmbeddingCache(max_size=2)

    def compute(new):
        if "c" in new:  # what another thread asks for while this one computes
            cache.vectors(["x", "y"], lambda other: [np.full(1, 9, np.float32) for _ in other])
        return [np.full(1, ord(sentence), np.float32) for sentence in new]

    cache.vectors(["a", "b"], compute)
    assert [v[0] for v in cache.vectors(["a", "c"], compute)] == [ord("a"), ord("c")]


def test_a_sentence_is_computed_once():
    asked = []

    def compute(new):
        asked.append(new)
        return [np.full(2, len(sentence), np.float32) for sentence in new]

    memory = EmbeddingCache(max_size=3)
    assert [v[0] for v in memory.vectors(["a", "bb", "a"], compute)] == [1, 2, 1]
    assert [v[0] for v in memory.vectors(["bb", "ccc"], compute)] == [2, 3]
    assert memory.vectors([], compute) == []
    assert [v[0] for v in memory.vectors(["a", "dddd", "a"], compute)] == [1, 4, 1]  # a fourth: all are forgotten
    memory.vectors(["bb"], compute)
    assert asked == [["a", "bb"], ["ccc"], ["dddd"], ["bb"]]
