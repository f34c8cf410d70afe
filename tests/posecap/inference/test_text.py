from __future__ import annotations

import numpy as np
import pytest

from posecap.inference.text import TEMPLATES, EmbeddingCache, clean_caption, cleaned, prompts


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


def test_cleaning_can_be_left_out():
    assert cleaned(["He's up."], "none") == ["He's up."]
    assert cleaned(["He's up."], "viclip") == ["hes up"]


def test_templates_are_as_many_as_their_names_say_and_all_differ():
    assert {name: len(set(found)) for name, found in TEMPLATES.items()} == {
        "plain": 1,
        "person": 1,
        "actionclip-16": 16,
        "clip-kinetics-28": 28,
    }
    assert all(template.count("{}") == 1 for found in TEMPLATES.values() for template in found)
    assert "a video of a person doing {}." in TEMPLATES["clip-kinetics-28"]
    assert "a demonstration of {}." in TEMPLATES["clip-kinetics-28"]


def test_a_class_name_is_put_into_each_template():
    assert prompts("sit down", TEMPLATES["actionclip-16"])[3] == "sit down, an action"
    assert prompts("a {0} b", ["x {} y"]) == ["x a {0} b y"]


# .


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
