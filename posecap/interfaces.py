"""The protocols of engines, which stages call. An engine has the methods of one and passes its contract tests.

Two terms are used throughout:

* *Working size* is the size at which a pipeline decodes: the displayed size, shrunk until the longer side has at most
  the pixels that the decode stage allows (:func:`posecap.video.working_size`). *Working pixels* are coordinates in
  frames of that size: x to the right and y down, (0, 0) the top left corner.
* A clip is a :class:`posecap.types.Clip`: decoded frames of one span of one video.

Every method that runs a model may raise :class:`posecap.stage.TransientError` with ``out_of_memory``.

Axes stand in names: ``T`` frames, ``H``/``W`` rows and columns of pixels, ``N`` people of one frame, ``M`` people of a
clip, ``J`` joints, ``D`` vector length, ``C`` sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from posecap.types import Clip, Floats, Media, Pixels, Seconds, SkeletonClip, Span, Tracks


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that one download may take: bytes of the file, and seconds with all attempts and waits included. The
    defaults, 2 GiB and ten minutes, are our choice: an hour of video at 4 Mbit/s, over a line of 30 Mbit/s.

    Raises:
        ValueError: one of them is not above 0.
    """

    size_bytes: int = 2 * 1024**3
    seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.size_bytes <= 0 or self.seconds <= 0:
            raise ValueError(f"Limits(size_bytes={self.size_bytes}, seconds={self.seconds:g}): both must be above 0")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A row's video on local disk.

    Args:
        path: of the file.
        keeping: ``temporary`` for a copy that is deleted once its row is done, ``borrowed`` for the user's own file,
            which is never deleted or changed.
        begins_seconds: where the file's clock begins in the whole video, in seconds of the whole video. 0 for a whole
            video; more where only a span was fetched, whose frames count from 0 again.
    """

    path: Path
    keeping: Literal["borrowed", "temporary"]
    begins_seconds: float = 0.0


@runtime_checkable
class Named(Protocol):
    """What every engine has: the name that reports and sidecars record."""

    @property
    def name(self) -> str:
        """Of the engine and of the model where it has several, without paths and without secrets."""
        ...


@runtime_checkable
class Fetcher(Named, Protocol):
    """Brings the file behind a URI to local disk."""

    def accepts(self, uri: str) -> bool:
        """Whether this fetcher is for such a URI, judged by its text alone; nothing is opened."""
        ...

    def fetch(self, uri: str, folder: Path, *, limits: Limits, span: Span | None = None) -> Fetched:
        """Fetch into ``folder``, or name a file that is on local disk already.

        Args:
            folder: an existing folder for temporary files.
            span: what is wanted, in seconds of the whole video; its end may be infinite. None wants the whole video.
                A fetcher may bring more than the span, up to the whole. One that brings a part names its beginning in
                :attr:`Fetched.begins_seconds`.

        Raises:
            Reject: another attempt under the same limits would end the same way, as with ``not_found``,
                ``forbidden`` or ``too_large``. Each engine's ``fetch`` lists its reasons.
            TransientError: a failure that may pass, after the engine's own retries.
        """
        ...


@runtime_checkable
class Prober(Named, Protocol):
    """Reads what a file holds, without decoding more than a frame. Decoders follow what it says."""

    def probe(self, path: Path) -> Media:
        """Properties of the file's best video stream, as FFmpeg chooses it. Cover pictures do not count as video.

        Raises:
            Reject: ``undecodable``, ``no_video_stream``, or ``too_large`` (in pixels).
        """
        ...


@dataclass(frozen=True, slots=True)
class Frames:
    """Consecutive decoded frames: ``frames_THW3`` uint8 RGB, ``pts_T`` float64 presentation times in seconds.

    Times strictly increase. A :class:`Decoder` gives those of the file as a player counts them, from where its first
    stream starts; :func:`posecap.video.decode_span` those of the whole video.

    ``deinterlaced_T`` says of which frames only one field is shown; None of none. ``damaged`` are the times of frames
    that are damaged and left out, between the block before and this one, and within this one.
    """

    frames_THW3: Pixels
    pts_T: Seconds
    deinterlaced_T: NDArray[np.bool_] | None = None
    damaged: tuple[float, ...] = ()


@runtime_checkable
class Decoder(Named, Protocol):
    """Decodes the stream ``media.stream`` of a file to frames as displayed, in presentation order.

    The pixels' shape and the rotation are applied. A decoder that would take another stream, or give other times or
    another number of frames than the prober says, does not accept the file or gives it up.
    """

    def accepts(self, media: Media) -> bool:
        """Whether this decoder is for such files, judged by what :meth:`Prober.probe` says of them."""
        ...

    def frames(self, path: Path, media: Media, *, span: Span | None, size: tuple[int, int]) -> Iterator[Frames]:
        """Yield consecutive blocks of frames, each of one frame or more; one with ``damaged`` may hold none.

        Args:
            media: what :meth:`Prober.probe` says of the file.
            span: frames from its start up to, but not including, its end are given (:meth:`posecap.types.Span.holds`);
                None gives all. Seconds of *this file* as a player counts them, whatever it was cut from;
                the end may be infinite.
            size: (width, height) in pixels of the frames to give, exactly; frames are scaled to it.

        Raises:
            Reject, PermanentError: ``undecodable`` when the stream holds no usable frame, and other faults of the file;
                no other decoder is asked. A span without frames is no fault and yields nothing.
            DecoderGaveUpError: this decoder cannot read the file or not this span of it, before or after some
                blocks; the stage then asks the next decoder for what is left.
        """
        ...


class DecoderGaveUpError(Exception):
    """This decoder cannot read what it was asked for; the stage asks the next decoder in its list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """People found in one frame, best score first, in pixels of that frame; N is 0 where nobody is found.

    Boxes and joints may reach beyond the edges of the frame.

    ``boxes_N4`` float32 (x0, y0, x1, y1); ``scores_N`` float32 in [0, 1]. Single-stage pose models, which find people
    and their joints at once, add ``joints_NJ3`` float32 (x, y, score in [0, 1]); it is None for detectors of boxes.
    """

    boxes_N4: Floats
    scores_N: Floats
    joints_NJ3: Floats | None = None


@runtime_checkable
class Detector(Named, Protocol):
    """Finds people in frames; single-stage pose models also give their joints."""

    @property
    def layout(self) -> str | None:
        """Layout of the joints, a name in :data:`posecap.joints.LAYOUTS`; None for a detector of boxes."""
        ...

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """The people of each frame: one :class:`Detections` per frame, in the order of the frames.

        Args:
            frames_THW3: uint8 RGB.
        """
        ...


@runtime_checkable
class Tracker(Named, Protocol):
    """Decides which detections of consecutive frames are the same person."""

    def track(
        self, detections: Sequence[Detections], pts_T: Seconds, *, layout: str | None, frames_THW3: Pixels
    ) -> Tracks:
        """Tracks of a whole clip, the person seen in most frames first. A tracker keeps no state between clips.

        Args:
            detections: one per frame.
            pts_T: float64 seconds, strictly increasing; only differences matter.
            layout: of the detections' joints, None when they have none.
            frames_THW3: uint8 RGB, the frames themselves, for trackers that look at how the camera moves.

        Returns:
            (M, T) boxes and scores, and joints where the detections have them, in pixels of the frames given. M is 0
            when nobody is tracked.
        """
        ...


@runtime_checkable
class PoseEstimator(Named, Protocol):
    """Gives each tracked person's joints."""

    @property
    def layout(self) -> str:
        """Layout of the joints, a name in :data:`posecap.joints.LAYOUTS`."""
        ...

    def estimate(self, frames_THW3: Pixels, tracks: Tracks) -> Floats:
        """(M, T, J, 3) float32 joints (x, y, score in [0, 1]); (0, 0, 0) where a joint or its person is not seen.

        Args:
            frames_THW3: uint8 RGB.
            tracks: boxes, and joints where the detector gave some, in pixels of these frames. The people of the result
                are in the order of its people.
        """
        ...


@runtime_checkable
class VideoEmbedder(Named, Protocol):
    """Turns the frames of a clip into one vector, with a model that is not trained further."""

    @property
    def dimension(self) -> int:
        """D, the length of the vector."""
        ...

    def frame_indices(self, clip: Clip) -> list[int]:
        """Ascending indices into the clip's frames of those that the vector is made from; one or more."""
        ...

    def embed_video(self, frames_THW3: Pixels) -> Floats:
        """(D,) float32, L2-normalised, from the uint8 RGB frames that :meth:`frame_indices` named."""
        ...


@runtime_checkable
class TextEmbedder(Named, Protocol):
    """Turns sentences into vectors, with a model that is not trained further."""

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        ...

    def embed_text(self, sentences: Sequence[str]) -> Floats:
        """(C, D) float32, one L2-normalised row per sentence; (0, D) for no sentences."""
        ...


@runtime_checkable
class VideoEncoder(Named, Protocol):
    """Writes frames as an mp4."""

    def encode(self, frames_THW3: Pixels, pts_T: Seconds) -> bytes:
        """The bytes of an mp4 with every frame, each shown at its time. Equal input gives equal bytes.

        Args:
            frames_THW3: uint8 RGB, at least one frame.
            pts_T: float64 seconds, strictly increasing. The mp4 counts from its first frame.

        Raises:
            ShapeError: frames and times disagree, or times are too close for the file's clock.
        """
        ...


@runtime_checkable
class Captioner(Named, Protocol):
    """Describes a clip in sentences, from its frames and skeletons."""

    def write(self, clip: SkeletonClip) -> Sequence[str]:
        """Sentences as the model wrote them, those to keep first in front; none where it has nothing to say.

        Raises:
            TransientError: ``out_of_memory`` and other failures that may pass.
        """
        ...


@runtime_checkable
class SelectiveCaptioner(Captioner, Protocol):
    """A captioner that says what of a clip it looks at beside the frames, so that an update with
    ``keep_intermediates: all`` asks it again only where that has changed. Any other is asked again about every clip of
    which the row's text, the people who were kept, or their joints have changed."""

    def inputs(self, clip: SkeletonClip) -> Sequence[str | float]:
        """What shapes the sentences, beside the clip's frames and their times, and this captioner itself."""
        ...
