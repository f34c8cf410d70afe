"""Says by its content whether a file is a video, within bounded time and memory, and without opening any other file."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal

from posecap.download.file_type import HEAD_BYTES, sniff
from posecap.video_file import FORMATS

_SOUND_FORMATS = "mp3,wav,w64,flac,aac,aiff,caf,amr,ape,wv,tta,au,ac3,eac3,dts,oma"
"""Only to call such a file by its name; FFmpeg reads no other file for any of them either."""
_PROBE_BYTES = 1 << 16
"""Of a file whose first bytes are no known video, as much is looked at for its format. FFmpeg would look at 1 MiB, in
fifteen times the time; of its formats, DV has the longest distance between two marks, 12,000 bytes."""
_SECONDS = 10.0
"""Longest time for opening a file, and again for finding its streams: FFmpeg's libraries may otherwise look for a
beginning up to the file's end. A free choice."""

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
"""What the first bytes settle, by the words of :func:`posecap.download.file_type.sniff`."""


def content_of(path: Path) -> Content:
    """What a file holds, whatever its name. The first 4096 bytes tell most files that are no videos; of what may be one
    FFmpeg's libraries read the header, and the first frames where a format has none.

    A file is a video where it has a stream of pictures that is no cover (attached picture), whether or not there is a
    decoder for it. ``nothing that FFmpeg opens`` is also a video that is damaged so that it cannot be opened or that
    takes longer than ``_SECONDS``, and what has neither video nor sound but opens, as subtitles. A folder is ``not a
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
        with av.open(str(path.absolute()), metadata_errors="ignore", options=options, timeout=_SECONDS) as container:
            if any(not stream.disposition & Disposition.attached_pic for stream in container.streams.video):
                return "video"
            return "sound" if container.streams.audio else "nothing that FFmpeg opens"
    except (av.error.FFmpegError, ArithmeticError, LookupError, UnicodeError):
        # PyAV believes what a container says of times, streams and names.
        return "nothing that FFmpeg opens"
