"""Actions of people in front of a camera, while they do them: what :mod:`tmor_train.recognition` finds in a video, from
a device, a stream, the standard input, or a file that is played at its own pace::

    camera = Camera("0")
    for moment in watch(tmor_train.recognizer("runs/stage2", texts=("squatting", "standing")), camera):
        for person in moment.people:
            print(moment.seconds, person.number, person.label, person.score, moment.latency_seconds)
    print(camera.dropped)

A thread reads the frames. Every stride's frames go through the pipeline's detector together, and what it found in the
last window goes through the stages behind it, tracking, choosing people and skeletons, as that of a clip: a moment's
scores are those that :meth:`~tmor_train.recognition.Recognizer.recognize` would give to a clip of those frames, but for
what the detector finds by comparing frames of a whole clip. Frames that the work cannot follow are dropped, the oldest
first, and counted, so that scores stay recent.

Arrays are named by their axes: T frames, M people, H by W pixels, K classes.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition, Thread
from time import perf_counter, sleep
from typing import Any, Literal

import numpy as np

from posecap.files import clip_id
from posecap.interfaces import Detections, Detector
from posecap.stage import Engine, Reject
from posecap.stages.decode import Decode
from posecap.stages.pose import Pose, Track
from posecap.types import Clip as VideoClip
from posecap.types import Floats, Media, Pixels, SkeletonClip, Span, Video
from posecap.uris import public_uri
from posecap.video import FrameRateLimiter, working_size
from tmor_train.recognition import Recognizer
from tmor_train.video_people import RecognitionError, box_numbers, embed_windows, seen_windows, video_row

FPS = 15.0
"""Frames a second that are looked at; a camera's others are passed over. Our choice: an exercise's repetition lasts a
second or more, and two cores follow (docs/results/recognition.md)."""

_PROTOCOLS = "file,pipe,fd,http,https,tcp,tls,udp,rtp,rtsp,rtsps,rtmp,srt"
"""Those that FFmpeg may use for a stream. A playlist cannot make it run anything else."""
_WAIT_SECONDS = 30.0  # for the first frame, and from one to the next: FFmpeg's own limits depend on the protocol
_NO_FILE = "0" * 64  # a camera's bytes have no hash


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """A frame with its time in seconds of the source, and the moment of this machine's clock when it was there."""

    frame_HW3: Pixels
    seconds: float
    arrived: float


class Camera:
    """Frames of a source as they come, read by a thread that starts with :meth:`open`.

    Args:
        source: a device's number (``0`` is ``/dev/video0``), a URL that FFmpeg opens (``rtsp://``, ``http://`` …),
            ``-`` for a video on the standard input in any container that needs no seeking, or a file. A file is played
            at its own pace.
        fps: frames a second that are kept at most, above 0.
        late: ``drop`` leaves out frames that nobody took in time; ``wait`` reads a file or a pipe as fast as its frames
            are taken, each of them, so that what is seen depends on no clock.

    ``frames`` counts those that were kept, ``passed_over`` those above ``fps``, and ``dropped`` those of the kept ones
    that nobody took in time.
    """

    def __init__(self, source: str, *, fps: float = FPS, late: Literal["drop", "wait"] = "drop") -> None:
        if not fps > 0:
            raise RecognitionError(f"{fps:g} frames a second: give a number above 0")
        self.source, self.fps, self.late = source, fps, late
        self.frames = self.passed_over = self.dropped = 0
        self.media = Media(width=2, height=2, fps=fps, codec="", rotation_degrees=0, seconds=None)
        self._waiting: deque[_Frame] = deque()
        self._most = 1
        self._changed = Condition()
        self._state = "opened"  # then "ended", or what went wrong
        self._container: Any = None

    def open(self) -> None:
        """Open the source, so that ``media`` is known.

        Raises:
            RecognitionError: the source cannot be opened, or has no video.
        """
        import av

        number = self.source.isdecimal()
        place: Any = f"/dev/video{self.source}" if number else sys.stdin.buffer if self.source == "-" else self.source
        options = {"protocol_whitelist": _PROTOCOLS} if "://" in self.source else {}
        try:
            timeout = (_WAIT_SECONDS, _WAIT_SECONDS) if "://" in self.source else None
            self._container = av.open(place, format="v4l2" if number else None, options=options, timeout=timeout)
            stream = self._container.streams.video[0]
        except (av.FFmpegError, OSError, IndexError) as error:
            raise RecognitionError(
                f"{public_uri(self.source)}: no video can be read from it ({type(error).__name__})"
            ) from error
        stream.thread_type = "NONE"  # threads of the decoder hold frames back
        width, height = stream.codec_context.width, stream.codec_context.height
        self.media = replace(self.media, width=width, height=height, codec=stream.codec_context.name)

    def start(self, *, size: tuple[int, int], most: int) -> None:
        """Begin to read what :meth:`open` opened, as frames of ``size`` (width, height); at most ``most`` wait to be
        taken."""
        self._most = most
        is_file = self.source != "-" and not self.source.isdecimal() and "://" not in self.source
        paced = is_file and self.late == "drop"
        Thread(target=self._read, args=(size,), kwargs={"paced": paced}, daemon=True).start()

    def take(self, until: float) -> list[_Frame]:
        """Wait for a frame of ``until`` seconds or later, and take all that wait, up to that one where frames are not
        dropped; fewer or none at the end.

        Raises:
            RecognitionError: the source broke off with an error, and every frame before was taken.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._state != "opened" or (self._waiting and self._waiting[-1].seconds >= until)
            )
            early = sum(frame.seconds < until for frame in self._waiting)
            count = len(self._waiting) if self.late == "drop" else min(early + 1, len(self._waiting))
            taken = [self._waiting.popleft() for _ in range(count)]
            self._changed.notify_all()
            if not taken and self._state not in ("opened", "ended"):
                raise RecognitionError(f"{public_uri(self.source)} broke off: {self._state}")
            return taken

    def close(self) -> None:
        """Stop reading; the thread ends at its next frame."""
        with self._changed:
            self._state = "ended"
            self._changed.notify_all()

    def _read(self, size: tuple[int, int], *, paced: bool) -> None:
        """Read frames until the source ends or somebody closes; ``paced`` waits for each frame's time."""
        import av

        state = "ended"
        limiter, began, first = FrameRateLimiter(self.fps), perf_counter(), None
        try:
            for number, frame in enumerate(self._container.decode(video=0)):
                # Streams without times, as bare H.264 has none, are taken for as fast as is looked at.
                seconds = frame.time if frame.time is not None else number / self.fps
                first = seconds if first is None else first
                seconds -= first
                if paced:
                    sleep(max(0.0, began + seconds - perf_counter()))
                if not limiter.keeps(seconds):
                    self.passed_over += 1
                    continue
                picture = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
                with self._changed:
                    if self._state != "opened":
                        break
                    self._add(_Frame(frame_HW3=picture, seconds=seconds, arrived=perf_counter()))
        except (av.FFmpegError, OSError) as error:
            state = f"{type(error).__name__}: {error.strerror}"
        finally:
            self._container.close()
            with self._changed:
                self._state = state
                self._changed.notify_all()

    def _add(self, frame: _Frame) -> None:
        """Let a frame wait, in place of the oldest where there are too many; one that is no later than the last is
        passed over, as where a stream's clock began anew."""
        if self._waiting and frame.seconds <= self._waiting[-1].seconds:
            self.passed_over += 1
            return
        if self.late == "wait":
            self._changed.wait_for(lambda: len(self._waiting) < self._most or self._state != "opened")
        self.frames += 1
        self._waiting.append(frame)
        if len(self._waiting) > self._most:
            self._waiting.popleft()
            self.dropped += 1
        self._changed.notify_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One person in the last window: ``number`` from 1 on in the order of appearance, the best class and its score, and
    the scores of all classes in their order."""

    number: int
    label: str
    score: float
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is seen in the window that ends with the newest frame, at ``seconds`` of the source.

    ``people`` are those who are seen in half of its frames or more. ``latency_seconds`` is from when that frame was
    there until its scores were, ``busy_seconds`` the part of it in which the stride's frames were worked on.
    """

    seconds: float
    people: tuple[Seen, ...]
    frames: int
    latency_seconds: float
    busy_seconds: float


def watch(recognizer: Recognizer, camera: Camera) -> Generator[Moment, None, None]:
    """Open a camera, and give a moment for every stride from its first window on, until it ends or the iterator is
    closed. Window and stride are the recognizer's.

    Raises:
        RecognitionError: the camera cannot be opened or breaks off, or the pipeline has no ``Track``, or joints of
            another engine than its detector's: estimating those of a whole window for every stride takes too long.
        UnusableEncoderError, posecap.joints.LayoutError: the encoder does not take such skeletons.
        posecap.models.MissingWeightsError: weights are neither on this machine nor downloadable.
    """
    stages = recognizer.stages.load()
    track = next((stage for stage in stages if isinstance(stage, Track)), None)
    if track is None or any(isinstance(stage, Pose) and stage.estimator != "detector" for stage in stages):
        raise RecognitionError(
            "live recognition needs a pipeline with Track(detector=…) whose detector gives joints, and "
            'Pose(estimator="detector"), as the default pipeline'
        )
    long_side = next((stage.long_side for stage in stages if isinstance(stage, Decode)), Decode.long_side)
    behind = stages[stages.index(track) :]
    window: deque[tuple[_Frame, Detections]] = deque()
    people = _LivePeople()
    stride, length = recognizer.stride_seconds, recognizer.window_seconds
    camera.open()
    width, height = size = working_size(camera.media, long_side)
    track.detector.detect(np.zeros((1, height, width, 3), np.uint8))  # what is made for the first frame of a size
    # Two strides: one that waits while the one before is worked on.
    camera.start(size=size, most=max(2, round(2 * stride * camera.fps)))
    due = stride
    try:
        while taken := camera.take(due):
            began = perf_counter()
            found = track.detector.detect(np.stack([frame.frame_HW3 for frame in taken]))
            window.extend(zip(taken, found, strict=True))
            newest = taken[-1]
            while window[0][0].seconds <= newest.seconds - length:
                window.popleft()
            clip = _clip(camera, [frame for frame, _ in window], behind, [found for _, found in window])
            seen = () if clip is None else _seen(recognizer, clip, people.numbers(clip))
            due = newest.seconds + stride
            now = perf_counter()
            yield Moment(
                seconds=round(newest.seconds, 3),
                people=seen,
                frames=len(window),
                latency_seconds=now - newest.arrived,
                busy_seconds=now - began,
            )
    finally:
        camera.close()


class _Remembered(Engine):
    """A detector of frames that were seen before: it gives what another one, ``of``, found in them."""

    name, layout = "remembered", None

    def __init__(self, of: Detector, found: Sequence[Detections]) -> None:
        self.name, self.layout, self._found = of.name, of.layout, found  # type: ignore[misc]

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        return list(self._found)


def _clip(
    camera: Camera, frames: Sequence[_Frame], stages: Sequence[Any], found: Sequence[Detections]
) -> SkeletonClip | None:
    """The window as the ``stages`` from Track on make it of detections; None where one rejects it."""
    pts_T = np.array([frame.seconds for frame in frames])
    row = video_row(camera.source)
    span = Span(float(pts_T[0]), float(pts_T[-1]) + 1 / camera.fps)
    clip: Any = VideoClip(
        video=Video(row=row, path=Path(camera.source), source_id=_NO_FILE, size_bytes=0),
        clip_id=clip_id(_NO_FILE, _NO_FILE, span),
        span=span,
        media=camera.media,
        decoder="pyav",
        frames_THW3=np.stack([frame.frame_HW3 for frame in frames]),
        pts_T=pts_T,
    )
    try:
        for stage in stages:
            one = replace(stage, detector=_Remembered(stage.detector, found)) if isinstance(stage, Track) else stage
            (clip,) = one(clip)
    except Reject:
        return None
    return clip if isinstance(clip, SkeletonClip) else None


def _seen(recognizer: Recognizer, clip: SkeletonClip, numbers: Sequence[int]) -> tuple[Seen, ...]:
    """Scores of the people of a window, the first number first; without those who are seen too little."""
    chosen = seen_windows(clip, range(len(numbers)), length=clip.span.seconds + 1.0, stride=1.0)
    if not chosen:
        return ()
    scores_MK = recognizer.classes.scores(embed_windows(recognizer.encoder, clip, chosen))
    seen = []
    for (person, _, _), scores_K in zip(chosen, scores_MK, strict=True):
        best = int(scores_K.argmax())
        scores = tuple(round(float(score), 4) for score in scores_K)
        label = recognizer.classes.names[best]
        seen.append(Seen(number=numbers[person], label=label, score=scores[best], scores=scores))
    return tuple(sorted(seen, key=lambda one: one.number))


class _LivePeople:
    """Numbers of people over windows that overlap: somebody is who has the same boxes in the frames that both have."""

    def __init__(self) -> None:
        self._count = 0
        self._boxes: dict[int, dict[float, Floats]] = {}  # by number and time, of the last window

    def numbers(self, clip: SkeletonClip) -> list[int]:
        """The number of each of the window's people, in their order; remembers the window for the next call."""
        times = clip.pts_T.tolist()
        boxes = [
            {times[t]: clip.tracks.boxes_MT4[person, t] for t in np.flatnonzero(clip.tracks.scores_MT[person] > 0)}
            for person in range(clip.tracks.people)
        ]
        known = box_numbers(self._boxes, boxes)
        found = []
        for person in range(len(boxes)):
            self._count += person not in known
            found.append(known.get(person, self._count))
        # Who is not seen in this window keeps the number for as long as boxes of the last one can overlap with it.
        kept = {number: {t: box for t, box in old.items() if t >= times[0]} for number, old in self._boxes.items()}
        self._boxes = {number: old for number, old in kept.items() if old} | dict(zip(found, boxes, strict=True))
        return found
