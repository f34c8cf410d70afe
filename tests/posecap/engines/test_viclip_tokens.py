"""Ids against known ones of CLIP's tokenizer."""

import sys
from importlib.util import find_spec

import pytest

from posecap.engines import viclip_model
from posecap.engines.viclip_model import tokenize

pytestmark = pytest.mark.skipif(find_spec("open_clip") is None, reason="open_clip_torch is not installed")

START, END = 49_406, 49_407


def ids(text: str) -> list[int]:
    row = tokenize([text])[0].tolist()
    assert len(row) == 32
    end = row.index(END)
    assert row[0] == START
    assert not any(row[end + 1 :])
    return row[1:end]


def test_words_become_clips_ids():
    assert ids("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert ids("") == []


def test_sentences_are_tidied():
    assert ids("  A   photo\n of a CAT ") == ids("a photo of a cat")
    assert ids("fish &amp; chips") == ids("fish & chips")
    assert ids("caf\u00c3\u00a9") == ids("café")  # bytes once read as Latin-1


def test_open_clip_gives_the_same_ids():
    from open_clip import tokenize as of_open_clip

    texts = ["Somebody's riding 2 bikes — fast!", "日本語 and émigrés", "x" * 300, "word " * 5000, "don't 'll 'RE"]
    assert tokenize(texts).tolist() == of_open_clip(texts, context_length=32).tolist()


def test_long_sentences_keep_their_end():
    assert len(ids("walk " * 30)) == 30
    assert ids("walk " * 31) == ids("walk " * 30) == ids("walk " * 5000)


def test_markers_spelled_out_are_markers():
    """As in the authors' tokenizer; the model then reads the sentence up to its first end."""
    row = tokenize(["walk <|endoftext|> <|startoftext|> walk"])[0].tolist()
    assert row[:6] == [START, row[1], END, START, row[1], END]
    assert END not in ids("<end_of_text>")


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip.tokenizer", None)
    viclip_model._vocabulary.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"open_clip.*pip install 'posecap\[clip\]'"):
        tokenize(["a man walks"])
