from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.download.file_type import check_video, sniff
from posecap.stage import Reject
from tests import DATA

VIDEOS = DATA / "videos"

TS = b"\x47" + b"\x00\x01\xff" * 62 + b"\x00"
HEADS = [
    (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00", "mp4"),
    (b"\x00\x00\x00\x14ftypqt  ", "mp4"),
    (b"\x00\x01\x00\x00moov", "mp4"),
    (b"\x00\x00\x00\x08wide\x00\x00", "mp4"),
    (b"\x1a\x45\xdf\xa3\x01", "matroska"),
    (b"RIFF\x10\x00\x00\x00AVI LIST", "avi"),
    (TS * 4, "mpeg-ts"),
    (b"".join(b"\x00\x00\x00\x01" + TS for _ in range(4)), "mpeg-ts"),
    (b"\x00\x00\x01\xba\x44", "mpeg"),
    (b"FLV\x01\x05", "flv"),
    (b"OggS\x00\x02", "ogg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "asf"),
    (b"YUV4MPEG2 W64 H48 F25:1\nFRAME\n", "y4m"),
    (b"\x00\x00\x00\x18ftypheic", "image"),
    (b"\x00\x00\x00\x18ftypavif", "image"),
    (b"\xff\xd8\xff\xe0", "image"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"GIF89a", "image"),
    (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image"),
    (b"RIFF\x10\x00\x00\x00WAVEfmt ", "unknown"),
    (b"PK\x03\x04\x14", "archive"),
    (b"\x1f\x8b\x08", "archive"),
    (b"name".ljust(257, b"\0") + b"ustar\x0000", "archive"),
    (b"%PDF-1.7\n\xe2\xe3", "document"),
    (b"<!DOCTYPE html><html>", "html"),
    (b"\n\n  <HTML lang='de'>\xfc latin-1", "html"),
    (b"\xef\xbb\xbf<?xml version='1.0'?>", "xml"),
    (b'{"error": "not found"}', "json"),
    (b"[1, 2]", "json"),
    (b"#EXTM3U\nhttp://127.0.0.1/secret.ts\n", "text"),
    (b"ffconcat version 1.0\nfile /etc/passwd\n", "text"),
    (b"version https://git-lfs.github.com/spec/v1\n", "text"),
    ("Größe".encode()[:3], "text"),
    ("AB".encode("utf-16"), "text"),
    (b"", "empty"),
    (b"\x00" * 64, "unknown"),
    (b"\x9d\x01\x2a\xff\xfe\x00\x07", "unknown"),
]


@pytest.mark.parametrize(("head", "kind"), HEADS, ids=[f"{kind}-{head[:8]!r}" for head, kind in HEADS])
def test_first_bytes_tell(head: bytes, kind: str) -> None:
    assert sniff(head) == kind


@given(st.text(alphabet=st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=50))
def test_plain_sentences_are_never_taken_for_video(words: str) -> None:
    assert sniff(b"Access denied. " + words.encode()) == "text"


@given(st.binary(max_size=400))
def test_any_bytes_get_an_answer(head: bytes) -> None:
    assert sniff(head)


def test_refusals_say_what_the_file_is(tmp_path: Path) -> None:
    page, empty, odd = tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c.mp4"
    page.write_bytes(b"<html>login</html>")
    empty.touch()
    odd.write_bytes(b"\x00" * 100)
    with pytest.raises(Reject, match=r"not_a_video: https://h/a\.mp4 holds html, not a video") as caught:
        check_video(page, uri="https://h/a.mp4")
    assert str(tmp_path) not in caught.value.detail
    page.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    with pytest.raises(Reject, match=r"not_a_video: a\.mp4 is a Git LFS pointer, .* `git lfs pull`"):
        check_video(page, uri="a.mp4")
    with pytest.raises(Reject, match="empty_file"):
        check_video(empty, uri="b.mp4")
    check_video(odd, uri="c.mp4")


@pytest.mark.data
@pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"no shared videos at {VIDEOS}")
def test_real_videos_pass() -> None:
    kinds = {p.name: sniff(p.read_bytes()[:4096]) for p in VIDEOS.rglob("*") if p.is_file()}
    assert kinds["vtest.avi"] == "avi"
    assert kinds["flipping_a_pancake.mkv"] == "matroska"
    assert kinds["unordered.mov"] == "mp4"
    assert set(kinds.values()) <= {"mp4", "avi", "matroska"}
