"""The video's own clock, for files that hold only a stretch of their video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from posecap.ports import Decoder, Frames
from posecap.types import Media, Span


def on_the_videos_clock(media: Media, begins_seconds: float) -> Media:
    """``media`` with its end told on the clock of the video that the file was taken from."""
    if media.seconds is None or not begins_seconds:
        return media
    return replace(media, seconds=media.seconds + begins_seconds)


def frames_of(
    decoder: Decoder,
    path: Path,
    media: Media,
    *,
    begins_seconds: float,
    span: Span | None,
    size: tuple[int, int],
) -> Iterator[Frames]:
    """What :meth:`posecap.ports.Decoder.frames` gives, with ``span`` and times on the video's clock.

    Args:
        media: of the file itself, as its container states it.
        begins_seconds: where on the video's clock the file begins.
    """
    if not begins_seconds:
        yield from decoder.frames(path, media, span=span, size=size)
        return
    if span is not None:
        if span.end_seconds <= begins_seconds:
            return
        span = Span(max(0.0, span.start_seconds - begins_seconds), span.end_seconds - begins_seconds)
    for block in decoder.frames(path, media, span=span, size=size):
        yield Frames(block.frames_THW3, block.pts_T + begins_seconds)
