"""Where a video's URI leads, and cells of text."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.manifest.rows import Problems, RawBatch, located, text


@pytest.mark.parametrize(
    ("uri", "media_root", "expected"),
    [
        ("a/b.mp4", "/videos", "/videos/a/b.mp4"),
        ("./a.mp4", "/videos/", "/videos/a.mp4"),
        ("a.mp4", "https://x.org/v", "https://x.org/v/a.mp4"),
        ("/whole/path.mp4", "/videos", "/whole/path.mp4"),
        ("https://x.org/a.mp4", "/videos", "https://x.org/a.mp4"),
        ("pypi://p/1.0/a.mp4?sha256=00", "/videos", "pypi://p/1.0/a.mp4?sha256=00"),
        ("s3://bucket/a.mp4", "https://x.org", "s3://bucket/a.mp4"),
        ("a.mp4", "", "a.mp4"),
        ("./c:1.mp4", "/videos", "/videos/c:1.mp4"),
    ],
)
def test_relative_ones_start_at_the_media_root_and_whole_ones_stay(uri: str, media_root: str, expected: str) -> None:
    assert located(uri, media_root) == expected


@pytest.mark.parametrize("character", ["\x00", "\x1f", "\x7f", "\x80", "\x85", "\x9f"])
def test_control_characters_of_any_length_are_found(character: str) -> None:
    problems = Problems()
    cells = pa.array(["other batch\x00", "café ° ²", None, f"a{character}b", ""]).slice(1)
    found = text(RawBatch("t.csv", {"label": "label"}, np.arange(4), {"label": cells}), "label", problems)
    assert found.to_pylist() == ["café ° ²", None, None, None]
    assert [problem is not None for problem in problems.of_rows(np.arange(4)).to_pylist()] == [
        False,
        False,
        True,
        False,
    ]


@given(st.lists(st.none() | st.text(st.characters(max_codepoint=0x17F)), max_size=8))
def test_a_look_at_the_bytes_finds_no_fewer_control_characters_than_unicode_has(labels: list[str | None]) -> None:
    problems = Problems()
    raw = RawBatch("t.csv", {"label": "label"}, np.arange(len(labels)), {"label": pa.array(labels, pa.string())})
    text(raw, "label", problems)
    wrong = [any(unicodedata.category(c) == "Cc" for c in (label or "").strip()) for label in labels]
    assert [problem is not None for problem in problems.of_rows(raw.numbers).to_pylist()] == wrong
