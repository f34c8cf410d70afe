"""Names that are hashes."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.hashing import canonical_json, clip_id, digest, file_sha256
from posecap.types import Span


def test_canonical_json_sorts_keys_and_wastes_no_space() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'.encode()


def test_what_is_no_number_has_no_name() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json([float("nan")])


def test_a_digest_is_the_sha256_of_the_canonical_form() -> None:
    assert digest({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    assert digest({"a": 2, "b": 1}) == digest({"b": 1, "a": 2})


def test_a_file_is_hashed_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.floats(0, 1e5), st.floats(1e-3, 1e3))
def test_a_clips_name_follows_from_source_row_and_span_alone(start: float, length: float) -> None:
    name = clip_id("s" * 64, "row", Span(start, start + length))
    assert len(name) == 24
    assert set(name) <= set("0123456789abcdef")
    assert name == clip_id("s" * 64, "row", Span(start, start + length))
    assert name != clip_id("t" * 64, "row", Span(start, start + length))
    assert name != clip_id("s" * 64, "other", Span(start, start + length))
    assert name != clip_id("s" * 64, "row", Span(start, start + length + 1e-3))


def test_times_count_to_the_microsecond() -> None:
    assert clip_id("s", "r", Span(0.1 + 0.2, 1)) == clip_id("s", "r", Span(0.3, 1))
    assert clip_id("s", "r", Span(0.300001, 1)) != clip_id("s", "r", Span(0.3, 1))
