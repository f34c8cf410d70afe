from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.download.file_type import check_video, content_of, sniff
from posecap.stage import Reject
from tests import DATA
from tests.footage import truncated, write_sound, write_video

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


MADE_VIDEOS: dict[str, dict[str, Any]] = {
    "a.mp4": {},
    "a.MTS": {"frames": 30},  # FFmpeg wants more than a few packets of MPEG-TS
    "a.m2ts": {"codec": "mpeg2video"},
    "a.VOB": {"codec": "mpeg2video"},
    "a.mpg": {"codec": "mpeg1video"},
    "a.mxf": {"codec": "mpeg2video"},
    "a.gxf": {"codec": "mpeg2video", "size": (720, 576), "fps": 25},
    "a.ogv": {"codec": "libvpx", "options": {"deadline": "realtime"}},
    "a.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}},
    "a.3g2": {"codec": "mpeg4"},
    "a.3gp": {"codec": "h263", "size": (176, 144)},
    "a.f4v": {},
    "a.flv": {"codec": "flv"},
    "a.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "a.mkv": {},
    "a.avi": {"codec": "mpeg4"},
    "a.wmv": {"codec": "wmv2"},
    "a.rm": {"codec": "rv20", "size": (176, 144)},
    "a.dv": {"codec": "dvvideo", "size": (720, 576), "fps": 25},
    "a.nut": {"codec": "mpeg4"},
    "a.wtv": {"codec": "mpeg2video"},
    "a.y4m": {"codec": "rawvideo"},
    "a.ivf": {"codec": "libvpx", "options": {"deadline": "realtime"}},
    "a.h264": {},
}


@pytest.mark.parametrize("name", MADE_VIDEOS)
def test_what_ffmpeg_opens_is_a_video_under_any_name(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, **{"frames": 3, **MADE_VIDEOS[name]})
    assert content_of(path) == "video"
    assert content_of(path.rename(tmp_path / "concat:clip.txt")) == "video"


def picture(folder: Path, suffix: str) -> Path:
    from PIL import Image

    path = folder / f"frame.{suffix}"
    Image.new("RGB", (32, 32), "red").save(path)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tiff", "webp"])
def test_pictures_are_no_videos(suffix: str, tmp_path: Path) -> None:
    path = picture(tmp_path, suffix).rename(tmp_path / "clip.mp4")
    assert content_of(path) in ("picture", "nothing that FFmpeg opens")


@pytest.mark.parametrize("name", ["song.m4a", "song.mp4", "song.mkv", "song.aac"])
def test_sound_is_no_video(name: str, tmp_path: Path) -> None:
    assert content_of(write_sound(tmp_path / name)) == "sound"


def test_a_cover_makes_sound_no_video(tmp_path: Path) -> None:
    """An MP3 with the picture of its album."""
    jpeg = picture(tmp_path, "jpg").read_bytes()
    cover = b"\0image/jpeg\0\x03\0" + jpeg
    frame = b"APIC" + struct.pack(">I", len(cover)) + b"\0\0" + cover
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    silence = b"\xff\xfb\x90\x64" + bytes(413)  # a frame of 44.1 kHz at 128 kbit/s
    path = tmp_path / "song.mp4"
    path.write_bytes(b"ID3\x03\0\0" + size + frame + silence * 20)
    assert content_of(path) == "sound"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npart.mp4\n#EXT-X-ENDLIST\n", "text"),
        (b"ffconcat version 1.0\nfile part.mp4\n", "text"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "text"),
        (b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>', "text"),
        (b"PK\x03\x04" + bytes(100), "archive"),
        (b"%PDF-1.7\n\x80", "document"),
        (bytes(5000), "nothing that FFmpeg opens"),
        (bytes(range(254, -1, -1)) * 500, "nothing that FFmpeg opens"),
    ],
)
def test_what_is_no_video_has_a_word(content: bytes, what: str, tmp_path: Path) -> None:
    write_video(tmp_path / "part.mp4", frames=3)
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert content_of(path) == what


def test_playlists_open_no_other_file_whatever_stands_before_them(tmp_path: Path) -> None:
    """Bytes that are no text get them past the first look, and to FFmpeg's libraries."""
    write_video(tmp_path / "part.ts", frames=3)
    path = tmp_path / "clip.m3u8"
    path.write_bytes(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\xff\npart.ts\n#EXT-X-ENDLIST\n")
    assert content_of(path) == "nothing that FFmpeg opens"


def test_a_video_that_cannot_be_opened_is_none(tmp_path: Path) -> None:
    """Its index, at the end, is missing."""
    assert content_of(truncated(write_video(tmp_path / "clip.mp4"), 0.5)) == "nothing that FFmpeg opens"


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert content_of(tmp_path / "pipe.mp4") == "not a file"  # opening it would wait for a writer
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "s"))
        assert content_of(tmp_path / "s") == "not a file"
    assert content_of(tmp_path) == "not a file"
    assert content_of(Path("/dev/zero")) == "not a file"


def test_links_are_followed_and_what_is_not_there_is_not_readable(tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(write_video(tmp_path / "clip.mp4", frames=3))
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    found = {name: content_of(tmp_path / f"{name}.mp4") for name in ("link", "gone", "loop", "other")}
    assert found == {"link": "video", "gone": "not readable", "loop": "not readable", "other": "not readable"}
