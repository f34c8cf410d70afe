"""From a video to skeletons of its people, and to windows of each person's skeleton: what
:mod:`tmor_train.recognition` scores.

The stages of a pipeline of posecap run up to the skeletons, on one video, without storing anything. The video is worked
through clip by clip, as the pipeline splits it, so one clip's frames are in memory at a time. People are those that the
pipeline keeps of a clip: of the packaged default two, who move.

Arrays are named by their axes: N windows, M people of a clip, T frames, J joints, C = 3 numbers of a joint (x, y in
pixels of the source, and a score), H by W pixels, 4 corners (left, top, right, bottom).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posecap.models import weights_sha256
from posecap.pipeline import Pipeline
from posecap.skeletons import box_iou
from posecap.stage import Engine, PermanentError, Reject, Rejected, Stage, check_installed, engines_of
from posecap.stages.decode import Split
from posecap.types import Clip as VideoClip
from posecap.types import Pixels, Row, Seconds, SkeletonClip, Span, Video
from posecap.uris import hide_secrets, public_uri
from posecap.video import ShotDetector
from tmor_train.data import Clip
from tmor_train.data.dataset import Floats
from tmor_train.pretrained.encoder import Pretrained

_SEEN_SHARE = 0.5
"""Of a window's frames, in which a person must be seen for the window to be embedded. Our choice: with fewer, most of
the window would be filled in."""

_SAME_PERSON_IOU = 0.5
"""Overlap, intersection over union, from which two boxes of neighbouring clips are one person's: what detection
benchmarks count as a hit."""

_GAP_SECONDS = 1.0
"""The longest time between two clips over which a person keeps the number: as long as ByteTrack keeps a track that is
not seen (:attr:`posecap.engines.bytetrack.ByteTrack.track_buffer_seconds`)."""

_EPSILON = 1e-6  # seconds by which rounded times may miss each other, as in posecap.types.Span


class RecognitionError(ValueError):
    """A video, a folder of examples or a pipeline cannot be used as asked; the message says why and what to do."""


class SkeletonStages:
    """The stages of a pipeline from a video to its last stage that gives skeletons; later ones do not run. They are
    loaded when the first video is read, so that a command with wrong arguments ends before.

    Raises:
        RecognitionError: no stage of the pipeline gives skeletons.
        ModuleNotFoundError: a package of an engine is not installed; the message names the extra.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        stages = pipeline.stages
        last = max((n for n, stage in enumerate(stages) if stage.gives is SkeletonClip), default=-1)
        if last < 0:
            raise RecognitionError("the pipeline has no stage that gives a SkeletonClip, as Skeleton() does; add one")
        # A stage that gives clips splits the video: what comes after it may reject one clip of several.
        first = next(n for n, stage in enumerate(stages) if issubclass(stage.gives, VideoClip))
        self._before, self._after = stages[: first + 1], stages[first + 1 : last + 1]
        check_installed((*self._before, *self._after))
        self._loaded = False

    def models(self) -> dict[str, str]:
        """SHA-256 of the weights of the stages' engines, by file name.

        Raises:
            posecap.models.MissingWeightsError: weights are neither on this machine nor downloadable.
        """
        return weights_by_name(engine for stage in (*self._before, *self._after) for engine in engines_of(stage))

    def load(self) -> tuple[Stage, ...]:
        """All stages in order, loaded; the first call loads them.

        Raises:
            posecap.models.MissingWeightsError: weights are neither on this machine nor downloadable.
        """
        stages = (*self._before, *self._after)
        if not self._loaded:
            for stage in stages:
                stage.load()
            self._loaded = True
        return stages

    def clips(self, row: Row) -> Iterator[tuple[VideoClip | Span, Reject | None]]:
        """The clips of a video in order: a SkeletonClip and None; a clip without skeletons and why it has none; or a
        span that became no clip and why.

        Raises:
            RecognitionError: the video cannot be fetched or decoded, or an engine fails.
            posecap.models.MissingWeightsError: weights are neither on this machine nor downloadable.
        """
        self.load()
        try:
            for clip in _through(self._before, row):
                if isinstance(clip, Rejected):
                    yield clip.span, Reject(clip.reason, clip.detail)
                    continue
                try:
                    for seen in _through(self._after, clip):
                        yield seen, None
                        del seen  # its frames, before the next clip is decoded
                except PermanentError:  # an engine failed: nothing is known of the clip, or of later ones
                    raise
                except Reject as reason:
                    yield clip, reason
                del clip
        except Reject as error:
            raise RecognitionError(f"{row.uri}: {hide_secrets(str(error), row.location)}") from error


def _through(stages: Sequence[Stage], item: Any) -> Iterator[Any]:
    """What becomes of an item in stages, depth first: each result passes all of them before the next one is made.
    Spans that a stage rejects come out as they are. A temporary video file is deleted after the stages that read it.
    Raises what the stages raise."""
    if not stages:
        yield item
        return
    for given in stages[0](item):
        if isinstance(given, Rejected):
            yield given
            continue
        try:
            yield from _through(stages[1:], given)
        finally:
            if isinstance(given, Video) and given.keeping == "temporary":
                given.path.unlink(missing_ok=True)
        del given  # frames are large: this clip's go before the next one's come


def weights_by_name(engines: Iterable[Engine]) -> dict[str, str]:
    """SHA-256 of the weights of engines, by file name. Raises posecap.models.MissingWeightsError as
    :func:`~posecap.models.weights_sha256` does."""
    return {Path(name).name: weights_sha256(name) for engine in engines for name in engine.weights}


class PersonNumbers:
    """Numbers of people over the clips of a video, from 1 on; ``count`` is the last one given.

    Somebody of a clip is a person of the clip before, the last one with skeletons, where that ended a second or less
    earlier, its last frame and this one's first are of one shot, and the person's last box and this one's first overlap
    by half or more; of several the pair that overlaps most. All others are new. Clips come in order.
    """

    def __init__(self) -> None:
        self.count = 0
        # Of the last clip with skeletons: when it ended in seconds, its last frame, and people's last boxes by number.
        self._before: tuple[float, Pixels, dict[int, Floats]] | None = None

    def numbers(self, clip: SkeletonClip) -> list[int]:
        """The number of each of the clip's people, in their order; remembers the clip for the next call."""
        box_MT4, seen_MT = clip.tracks.boxes_MT4, clip.tracks.scores_MT > 0
        first_M, last_M = seen_MT.argmax(1), seen_MT.shape[1] - 1 - seen_MT[:, ::-1].argmax(1)
        known: dict[int, int] = {}
        if self._continues(clip) and self._before is not None:
            last = {number: {0.0: box_4} for number, box_4 in self._before[2].items()}
            known = box_numbers(last, [{0.0: box_MT4[person, first_M[person]]} for person in range(len(box_MT4))])
        found = []
        for person in range(len(box_MT4)):
            self.count += person not in known
            found.append(known.get(person, self.count))
        boxes = {number: box_MT4[person, last_M[person]].copy() for person, number in enumerate(found)}
        self._before = clip.span.end_seconds, clip.frames_THW3[-1].copy(), boxes
        return found

    def _continues(self, clip: SkeletonClip) -> bool:
        """Whether the clip begins soon after the one before and in its shot; False for a video's first clip."""
        if self._before is None or clip.span.start_seconds - self._before[0] > _GAP_SECONDS:
            return False
        # As Split() of the packaged pipeline tells shots apart, whatever the pipeline at hand sets.
        two = np.stack([self._before[1], clip.frames_THW3[0]])
        return not bool(ShotDetector(Split.threshold).begins(two)[1])


def box_numbers(
    known: Mapping[int, Mapping[float, Floats]], people: Sequence[Mapping[float, Floats]]
) -> dict[int, int]:
    """Which of ``people``, by their places, are which of the ``known``, by their numbers: those whose boxes (4,)
    overlap by half or more in the mean of the times that both have; of several the pair that overlaps most."""
    pairs = []
    for number, before in known.items():
        for person, boxes in enumerate(people):
            both = before.keys() & boxes.keys()
            overlap = sum(box_iou(before[time], boxes[time]) for time in both) / max(len(both), 1)
            pairs.append((-overlap, number, person))
    found: dict[int, int] = {}
    for overlap, number, person in sorted(pairs):
        if -overlap >= _SAME_PERSON_IOU and person not in found and number not in found.values():
            found[person] = number
    return found


def windows(pts_T: Seconds, span: Span, *, length: float, stride: float) -> list[tuple[int, int]]:
    """Windows of a clip as frames ``begin`` up to but not including ``end``, each of one frame or more.

    They begin every ``stride`` seconds and are ``length`` seconds long; the last one ends with the clip, so it may
    begin sooner. A clip that is no longer than one has one. A window in which no frame begins is left out, and one with
    the same frames as the window before.

    Args:
        pts_T: the frames' times, float64 seconds, ascending; one or more.
        span: of the clip.
        length, stride: seconds, above 0.
    """
    first, last = float(pts_T[0]), max(span.end_seconds, float(pts_T[-1]))
    room = last - first - length
    starts = [0.0] if room <= _EPSILON else [*np.arange(0.0, room, stride).tolist(), room]
    found: list[tuple[int, int]] = []
    for start in starts:
        begin = int(np.searchsorted(pts_T, first + start - _EPSILON))
        end = int(np.searchsorted(pts_T, first + start + length - _EPSILON)) if room > _EPSILON else len(pts_T)
        if begin < end and (begin, end) not in found[-1:]:
            found.append((begin, end))
    return found


def seen_windows(
    clip: SkeletonClip, people: Iterable[int], *, length: float, stride: float
) -> list[tuple[int, int, int]]:
    """The :func:`windows` of some ``people`` of a clip, by their places in its arrays, in at least half of whose frames
    the person has a joint with a score above 0: (person, first frame, frame after the last)."""
    spans = windows(clip.pts_T, clip.span, length=length, stride=stride)
    seen_MT: NDArray[np.bool_] = np.any(clip.joints_MTJ3[..., 2] > 0, axis=-1)
    return [
        (person, begin, end)
        for person in people
        for begin, end in spans
        if np.count_nonzero(seen_MT[person, begin:end]) >= _SEEN_SHARE * (end - begin)
    ]


def embed_windows(encoder: Pretrained, clip: SkeletonClip, chosen: Sequence[tuple[int, int, int]]) -> Floats:
    """E_M of windows (person, first frame, frame after the last) of a clip, each of the person alone: (N, 256) float32.

    Raises:
        UnusableEncoderError, posecap.joints.LayoutError: the encoder does not take such skeletons.
    """
    return encoder.embed_clips(
        Clip(
            key=str(number),
            joints_MTJC=np.ascontiguousarray(clip.joints_MTJ3[person : person + 1, begin:end]),
            layout=clip.layout,
            width=float(clip.media.width),
            height=float(clip.media.height),
        )
        for number, (person, begin, end) in enumerate(chosen)
    )


def frame_end(clip: SkeletonClip, end: int) -> float:
    """When the frame before number ``end`` ends, in seconds of the video: with the next one, or with the clip."""
    return float(clip.pts_T[end]) if end < len(clip.pts_T) else max(clip.span.end_seconds, float(clip.pts_T[-1]))


def video_row(video: str | Path) -> Row:
    """The video, a path or a URI, as a row of a manifest: the whole of it, to be split into shots."""
    where = str(video) if "://" in str(video) else str(Path(video).absolute())
    return Row(row_id="video", uri=public_uri(str(video)), location=where)
