"""Adds vectors of a clip's frames and captions, made by pretrained models, and converts the clip to a sample for a
shard; rejects clips whose skeleton and video frames do not match.

:class:`EmbedFrames` and :class:`EmbedCaptions` make vectors of further models for samples that there are
(:mod:`posecap.enrichment`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from posecap.interfaces import TextEmbedder, VideoEmbedder, VideoEncoder
from posecap.stage import Reject, Stage
from posecap.types import (
    Addition,
    Caption,
    CaptionedClip,
    Clip,
    EmbeddedClip,
    Floats,
    Row,
    Sample,
    SampledRow,
    Span,
    VideoVector,
)
from posecap.video import frame_rate

_JPEG_QUALITY = 85
"""Of thumbnails, 0 to 95 in Pillow (75 by default). Our choice: some tens of kB a thumbnail."""


@dataclass(frozen=True)
class Embed(Stage):
    """One video vector per clip, one text vector per caption. A clip that has its video vector keeps it, and its frames
    are not asked for; the text model is not asked where the vectors of all captions are known."""

    name: ClassVar[str] = "embed"
    takes: ClassVar[type] = CaptionedClip
    gives: ClassVar[type] = EmbeddedClip

    video: VideoEmbedder
    text: TextEmbedder

    def __call__(self, item: CaptionedClip) -> Iterator[EmbeddedClip]:
        vector = item.video_vector or _of_frames(self.video, item)
        yield item.extend(
            EmbeddedClip,
            video_D=vector.video_D,
            text_CD=self.of_captions(item.captions, item.text_vectors),
            video_span=vector.span,
            video_model=self.video.name,
            text_model=self.text.name,
        )

    def of_captions(self, captions: Sequence[Caption], known: Mapping[str, Floats]) -> Floats:
        """(C, D) the vectors of captions; ``known`` are those of some sentences."""
        sentences = [caption.text for caption in captions]
        found = [known[text] for text in sentences if text in known]
        return np.array(found) if len(found) == len(sentences) > 0 else self.text.embed_text(sentences)


def _of_frames(embedder: VideoEmbedder, item: Clip) -> VideoVector:
    """The vector of a clip's frames."""
    indices = embedder.frame_indices(item)
    first, last = float(item.pts_T[indices[0]]), float(item.pts_T[indices[-1]])
    # A span is not empty and excludes its end, so it ends just after the last frame's time.
    span = Span(first, float(np.nextafter(last, np.inf)))
    return VideoVector(embedder.embed_video(item.frames_THW3[indices]), span)


@dataclass(frozen=True)
class EmbedFrames(Stage):
    """A vector of a further model for each clip of which the dataset has a sample; others are passed over."""

    name: ClassVar[str] = "embed_frames"
    takes: ClassVar[type] = Clip
    gives: ClassVar[type] = Addition

    video: VideoEmbedder

    def __call__(self, item: Clip) -> Iterator[Addition]:
        if isinstance(item.row, SampledRow) and item.clip_id in item.row.keys:
            vector = _of_frames(self.video, item)
            yield Addition(
                key=item.clip_id,
                source_id=item.video.source_id,
                clip=item.span,
                vector=vector.video_D,
                span=vector.span,
            )


@dataclass(frozen=True)
class EmbedCaptions(Stage):
    """A vector of a further model for each caption of the samples of a row; no video is needed."""

    name: ClassVar[str] = "embed_captions"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Addition

    text: TextEmbedder

    def __call__(self, item: SampledRow) -> Iterator[Addition]:  # the rows of posecap.enrichment are all such
        vectors = self.text.embed_text(item.captions)
        ends = np.cumsum([sum(counts) for counts in item.counts])
        for key, counts, end in zip(item.keys, item.counts, ends, strict=True):
            yield Addition(key=key, vector=vectors[end - sum(counts) : end], counts=counts)


@dataclass(frozen=True)
class Pack(Stage):
    """The last stage of a pipeline.

    Rejects with ``span_mismatch`` when video, skeleton and features do not cover the same time.

    Args:
        store_video: ``"clip"`` also stores the clip's frames as mp4, at working size, in a tar of its own. A build puts
            the manifest's ``store_video`` here, whatever the pipeline says.
        encoder: needed for ``store_video="clip"``, and not used otherwise.
        tolerance_seconds: how far frames may lie outside the clip's span, as containers round times: by default a frame
            at 20 a second.
        coverage: least share, in [0, 1], of the time from the clip's first frame to its last that the frames of the
            video vector must cover.
        thumbnail_side: longer side in pixels of the picture for the contact sheet; a smaller frame keeps its size. 0
            makes none.

    The defaults of ``coverage`` (half the clip) and of ``thumbnail_side`` (a tile of the contact sheet) are our
    choices.

    Raises:
        ValueError: ``store_video`` without an encoder, or a number out of its range.
    """

    name: ClassVar[str] = "pack"
    takes: ClassVar[type] = EmbeddedClip
    gives: ClassVar[type] = Sample

    store_video: Literal["none", "clip"] = "none"
    encoder: VideoEncoder | None = None
    tolerance_seconds: float = 0.05
    coverage: float = 0.5
    thumbnail_side: int = 320

    def __post_init__(self) -> None:
        if self.store_video == "clip" and self.encoder is None:
            raise ValueError(
                "Pack(store_video='clip') needs an encoder: Pack(encoder=PyAVEncoder()) in the pipeline, or "
                "'store_video: none' in the manifest"
            )
        if self.tolerance_seconds < 0 or not 0 <= self.coverage <= 1 or self.thumbnail_side < 0:
            raise ValueError(
                f"Pack(tolerance_seconds={self.tolerance_seconds:g}, coverage={self.coverage:g}, thumbnail_side="
                f"{self.thumbnail_side}): needs tolerance_seconds >= 0, 0 <= coverage <= 1 and thumbnail_side >= 0"
            )

    def __call__(self, item: EmbeddedClip) -> Iterator[Sample]:
        self._check_spans(item)
        mp4 = None
        if self.store_video == "clip" and self.encoder is not None:
            # A clip taken from stored results has the mp4 of its earlier sample, if that was made with this encoder.
            mp4 = item.video_mp4 or self.encoder.encode(np.asarray(item.frames_THW3), item.pts_T)
        yield Sample(
            key=item.clip_id,
            joints_MTJ3=np.ascontiguousarray(item.joints_MTJ3),
            pts_T=item.pts_T,
            video_D=item.video_D,
            text_CD=item.text_CD,
            captions=item.captions,
            facts=_facts(item),
            video_mp4=mp4,
            thumbnail_jpeg=_thumbnail(item, self.thumbnail_side) if self.thumbnail_side else None,
        )

    def _check_spans(self, item: EmbeddedClip) -> None:
        """The skeleton's and the video vector's frames must lie inside the clip's span and cover enough of it.

        Raises:
            Reject: ``span_mismatch``.
        """
        start, end = item.span.start_seconds, item.span.end_seconds
        covers = {
            "skeleton": (float(item.pts_T[0]), float(item.pts_T[-1])),
            "video vector": (item.video_span.start_seconds, item.video_span.end_seconds),
        }
        # Of the time between first and last frame: a clip of one frame then needs none. The frames of a video vector,
        # middles of equal stretches, leave half a stretch uncovered at either end, so all of it is too much to ask.
        needed = self.coverage * (float(item.pts_T[-1]) - float(item.pts_T[0]))
        for what, (first, last) in covers.items():
            inside = start - self.tolerance_seconds <= first <= last <= end + self.tolerance_seconds
            if not inside or last - first < needed:
                raise Reject(
                    "span_mismatch", f"{what} covers {first:.3f}–{last:.3f} s of a clip of {start:.3f}–{end:.3f} s"
                )


def with_texts(sample: Sample, row: Row, captions: tuple[Caption, ...], text_CD: Floats, text_model: str) -> Sample:
    """A sample as :class:`Pack` makes it of the same clip where its row, captions and their vectors are these."""
    models = {**sample.facts["models"], "text": text_model}
    facts = {**sample.facts, **_facts_of_row(row, captions), "models": models}
    return replace(sample, captions=captions, text_CD=text_CD, facts=facts)


def _facts_of_row(row: Row, captions: Sequence[Caption]) -> dict[str, Any]:
    """Those of :func:`_facts` that say what the row says, beside its span, and captions."""
    return {
        "row_id": row.row_id,
        "uri": row.uri,
        "label": row.label,
        "split": row.split,
        "license": row.license,
        "source": row.source,
        "captions": [{"text": caption.text, "origin": caption.origin} for caption in captions],
    }


def _facts(item: EmbeddedClip) -> dict[str, Any]:
    """Contents of the sample's JSON; the index repeats them as columns."""
    people, frames, joints, _ = item.joints_MTJ3.shape
    return {
        "clip_id": item.clip_id,
        **_facts_of_row(item.row, item.captions),
        "source_id": item.video.source_id,
        "start_seconds": item.span.start_seconds,
        "end_seconds": item.span.end_seconds,
        "pts_span": [float(item.pts_T[0]), float(item.pts_T[-1])],
        "video_span": [item.video_span.start_seconds, item.video_span.end_seconds],
        "fps": frame_rate(frames, float(item.pts_T[-1] - item.pts_T[0]), stated=item.media.fps),
        "source_fps": item.media.fps,
        "width": item.media.width,
        "height": item.media.height,
        **_unusual(item),
        "codec": item.media.codec,
        "frames": frames,
        "people": people,
        "joints": joints,
        "layout": item.layout,
        "quality": asdict(item.quality),
        **({"people_choice": dict(item.people_choice)} if item.people_choice else {}),
        **({"smoothing": dict(item.smoothing)} if item.smoothing else {}),
        **({"signature": item.signature} if item.signature else {}),
        "models": {
            "decoder": item.decoder,
            "detector": item.detector,
            "tracker": item.tracker,
            "pose": item.pose_model,
            "video": item.video_model,
            "text": item.text_model,
        },
    }


def _unusual(item: EmbeddedClip) -> dict[str, Any]:
    """What of the source's pixels, streams, clock and frames is not as in most videos."""
    across, down = item.media.sample_aspect_ratio
    joins = [join for join in item.media.joins if item.span.start_seconds < join < item.span.end_seconds]
    return {
        **({} if across == down else {"sample_aspect_ratio": f"{across}:{down}"}),
        **(
            {}
            if item.media.video_streams == 1
            else {"stream": item.media.stream, "video_streams": item.media.video_streams}
        ),
        **({"clock_restarts": joins} if joins else {}),
        **({"deinterlaced_frames": item.deinterlaced_frames} if item.deinterlaced_frames else {}),
        **({"damaged_frames": item.damaged_frames} if item.damaged_frames else {}),
    }


def _thumbnail(item: EmbeddedClip, side: int) -> bytes:
    """The clip's picture with its skeletons drawn in, as JPEG. Of a clip without a picture, or where a larger one is
    asked for, the frame with most seen joints; the most central one if several."""
    from PIL import Image

    from posecap.visualization.drawing import draw_skeletons, fullest_frame

    image: Image.Image | None = None
    best = 0
    if item.picture is not None:
        image, best = Image.open(io.BytesIO(item.picture.jpeg), formats=("JPEG",)), item.picture.frame
    if image is None or max(image.size) < min(side, max(item.frames_THW3.shape[1:3])):
        best = fullest_frame(item.joints_MTJ3)
        image = Image.fromarray(np.asarray(item.frames_THW3[best]))
    scale = np.array([image.width / item.media.width, image.height / item.media.height, 1], np.float32)
    image = draw_skeletons(image, item.joints_MTJ3[:, best] * scale, item.layout)
    image.thumbnail((side, side))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
    return jpeg.getvalue()
