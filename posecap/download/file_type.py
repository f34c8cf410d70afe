"""Recognises what a file is by its content; file names and content types of servers are not trusted.

:func:`sniff` knows types by the first bytes. :func:`content_of` also lets FFmpeg's libraries look, within bounded time
and memory, and without opening any other file.
"""

from __future__ import annotations

import codecs
import stat
from pathlib import Path
from typing import Literal

from posecap.stage import Reject
from posecap.video_file import FORMATS

HEAD_BYTES = 4096
"""How many bytes :func:`sniff` needs: 389 for the sync bytes of M2TS; the more, the surer is what looks like text."""

_BOX_TYPES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof"})
"""Types of the box with which files of the ISO family (MP4, QuickTime) begin."""
_IMAGE_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"jpeg"})
"""Brands of HEIF and AVIF."""
_RIFF_FORMS = {b"AVI ": "avi", b"WEBP": "image"}
"""By the word after a RIFF file's size."""

# How files of other types begin.
_MAGICS = {
    "matroska": (b"\x1a\x45\xdf\xa3",),
    "flv": (b"FLV\x01",),
    "ogg": (b"OggS",),
    "asf": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",),
    "mpeg": (b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"),
    "mxf": (b"\x06\x0e\x2b\x34",),
    "realmedia": (b".RMF",),
    "y4m": (b"YUV4MPEG2 ",),
    "image": (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\x00", b"MM\x00*"),
    "archive": (
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"\x1f\x8b",
        b"7z\xbc\xaf\x27\x1c",
        b"Rar!\x1a\x07",
        b"\xfd7zXZ\x00",
        b"BZh",
        b"\x28\xb5\x2f\xfd",
    ),
    "document": (b"%PDF-",),
}
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_NOT_VIDEO = frozenset({"image", "archive", "document", "html", "xml", "json", "text"})

_SOUND_FORMATS = "mp3,wav,w64,flac,aac,aiff,caf,amr,ape,wv,tta,au,ac3,eac3,dts,oma"
"""Only to call such a file by its name; FFmpeg reads no other file for any of them either."""
_PROBE_BYTES = 1 << 16
"""Of a file whose first bytes are no known video, as much is looked at for its format. FFmpeg would look at 1 MiB, in
fifteen times the time; of its formats, DV has the longest distance between two marks, 12,000 bytes."""
_OPEN_SECONDS = 10.0
"""Longest time for opening a file, and again for finding its streams: FFmpeg's libraries may otherwise look for a
beginning up to the file's end. Our choice: it takes milliseconds of a file that is whole."""

Content = Literal[
    "video",
    "picture",
    "sound",
    "text",
    "archive",
    "document",
    "empty",
    "not a file",
    "not readable",
    "nothing that FFmpeg opens",
]
"""What a file holds. ``not a file`` is a pipe, socket or device, which is not opened; ``not readable`` is what the
machine refuses. Animations (GIF) and bare MJPEG streams, which begin as single pictures do, are a ``picture``; HTML,
XML and JSON are ``text``."""

_SNIFFED: dict[str, Content] = {
    "empty": "empty",
    "image": "picture",
    "archive": "archive",
    "document": "document",
    "text": "text",
    "html": "text",
    "xml": "text",
    "json": "text",
}
"""What the first bytes settle, by the words of :func:`sniff`."""


def sniff(head: bytes) -> str:
    """The type of a file whose first :data:`HEAD_BYTES` bytes, or all of them, are ``head``.

    Returns:
        A video container (``mp4`` for the whole ISO family, ``matroska``, ``avi``, ``mpeg-ts``, ``mpeg``,
        ``flv``, ``ogg``, ``asf``, ``mxf``, ``realmedia``, ``y4m``), something that is not a video (``image``,
        ``archive``, ``document``, ``html``, ``xml``, ``json``, ``text``), ``empty`` or ``unknown``.
    """
    if not head:
        return "empty"
    for kind, magics in _MAGICS.items():
        if head.startswith(magics):
            return kind
    if head[4:8] in _BOX_TYPES:
        return "image" if head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS else "mp4"
    if head.startswith(b"RIFF"):
        return _RIFF_FORMS.get(head[8:12], "unknown")
    if _is_transport_stream(head):
        return "mpeg-ts"
    if head[257:262] == b"ustar":
        return "archive"
    return _text_kind(head) or "unknown"


def check_video(path: Path, *, uri: str) -> None:
    """Reject a file that is known not to be a video; unknown types are left to the decoder.

    Args:
        uri: of the file, for messages.

    Raises:
        Reject: ``empty_file``, or ``not_a_video`` with what it is instead.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    kind = sniff(head)
    if kind == "empty":
        raise Reject("empty_file", f"{uri} has no bytes; put the whole video there")
    if head.startswith(_LFS_POINTER):
        raise Reject("not_a_video", f"{uri} is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    if kind in _NOT_VIDEO:
        hint = "; a server may have sent a page in its place" if kind in ("html", "xml", "json", "text") else ""
        raise Reject("not_a_video", f"{uri} holds {kind}, not a video{hint}")


def _is_transport_stream(head: bytes) -> bool:
    """Sync bytes 188 apart (192 apart, after a time code of 4, in M2TS)."""
    found = (head[first::step] for first, step in ((0, 188), (4, 192)))
    return any(len(sync) >= 3 and set(sync) == {0x47} for sync in found)


def _text_kind(head: bytes) -> str | None:
    """``html``, ``xml``, ``json`` or ``text``; None for what is no text."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "html"
    if start.startswith((b"<?xml", b"<svg", b"<!doctype")):
        return "xml"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "text"
    try:
        # Incremental: a character may be cut in two where the head ends.
        words = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return None
    if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in words):  # text may have the escape character, too
        return None
    return "json" if start.startswith((b"{", b"[")) else "text"


def content_of(path: Path) -> Content:
    """What a file holds, whatever its name. The first 4096 bytes tell most files that are no videos; of what may be one
    FFmpeg's libraries read the header, and the first frames where a format has none.

    A file is a video where it has a stream of pictures that is no cover (attached picture), whether or not there is a
    decoder for it. ``nothing that FFmpeg opens`` is also a video that is damaged so that it cannot be opened or that
    takes longer than ten seconds, and what has neither video nor sound but opens, as subtitles. A folder is ``not a
    file``, what is not there ``not readable``.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a file"
        with path.open("rb") as file:
            kind = sniff(file.read(HEAD_BYTES))
    except OSError:
        return "not readable"
    return _SNIFFED.get(kind) or _opened(path, probe_bytes=_PROBE_BYTES if kind == "unknown" else 0)


def _opened(path: Path, *, probe_bytes: int) -> Content:
    """What FFmpeg's libraries find; as much as ``probe_bytes`` is looked at for the format (0: FFmpeg's own choice)."""
    import av
    from av.stream import Disposition

    options = {"format_whitelist": f"{FORMATS},{_SOUND_FORMATS}", "protocol_whitelist": "file"}
    if probe_bytes:
        options["formatprobesize"] = str(probe_bytes)
    try:
        # An absolute path: FFmpeg takes what stands before a colon for a protocol, unless there is a slash before it.
        with av.open(
            str(path.absolute()), metadata_errors="ignore", options=options, timeout=_OPEN_SECONDS
        ) as container:
            if any(not stream.disposition & Disposition.attached_pic for stream in container.streams.video):
                return "video"
            return "sound" if container.streams.audio else "nothing that FFmpeg opens"
    except (av.error.FFmpegError, ArithmeticError, LookupError, UnicodeError):
        # PyAV believes what a container says of times, streams and names.
        return "nothing that FFmpeg opens"
