"""Adds vectors of a clip's frames and captions, made by pretrained models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from posecap.interfaces import TextEmbedder, VideoEmbedder
from posecap.stage import Stage
from posecap.types import CaptionedClip, EmbeddedClip, Span


@dataclass(frozen=True)
class Embed(Stage):
    """One video vector per clip, one text vector per caption."""

    name: ClassVar[str] = "embed"
    takes: ClassVar[type] = CaptionedClip
    gives: ClassVar[type] = EmbeddedClip

    video: VideoEmbedder
    text: TextEmbedder

    def __call__(self, item: CaptionedClip) -> Iterator[EmbeddedClip]:
        indices = self.video.frame_indices(item)
        first, last = float(item.pts_T[indices[0]]), float(item.pts_T[indices[-1]])
        yield item.extend(
            EmbeddedClip,
            video_D=self.video.embed_video(item.frames_THW3[indices]),
            text_CD=self.text.embed_text([caption.text for caption in item.captions]),
            # A span is not empty and excludes its end, so it ends just after the last frame's time.
            video_span=Span(first, float(np.nextafter(last, np.inf))),
            video_model=self.video.name,
            text_model=self.text.name,
        )
