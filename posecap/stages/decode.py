"""Decides which spans of a video become clips, and decodes these, whose frames are held in memory, in one pass."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import ClassVar, Literal

import numpy as np

from posecap.files import clip_id
from posecap.interfaces import Decoder, DecoderGaveUpError, Frames, Prober
from posecap.signatures import make_signature
from posecap.stage import PermanentError, Reject, Rejected, Stage
from posecap.types import Clip, CutVideo, Media, Row, ShotRule, Span, Video
from posecap.video import FrameBuffer, FrameRateLimiter, ShotDetector, decode_span, shift_media, working_size

_EPSILON = 1e-6
"""Tolerance of timestamps, seconds, as that of :meth:`posecap.types.Span.holds`."""


@dataclass(frozen=True)
class Split(Stage):
    """A row's span becomes one clip; the video of a row without one is split into shots while it is decoded.

    A row may give only a start (to the video's end) or only an end (from its beginning). A shot longer than
    ``longest_seconds`` becomes several clips, one shorter than ``shortest_seconds`` becomes none; neither limits a
    row's span. That may be up to ``row_longest_seconds`` long, which is not checked where the row gives no end: there
    the decode stage's ``frames_at_most`` limits it. Where ``shortest_seconds`` is above half of ``longest_seconds``, a
    shot just above the latter gives two halves that are too short, and no clip. ``threshold`` is that of
    :class:`posecap.types.ShotRule`, in grey levels.

    Rejects with ``bad_span`` (negative, empty or not finite) and ``span_too_long``.

    Raises:
        ValueError: a number is out of its range.
    """

    name: ClassVar[str] = "split"
    takes: ClassVar[type] = Video
    gives: ClassVar[type] = CutVideo

    threshold: float = 42.0
    """From a first look at real footage, of which no benchmark was kept: camera motion and flashes made differences up
    to 40, nearly all hard cuts 66 and more."""
    shortest_seconds: float = 1.0
    """Our choice: a clip in which an action can be seen."""
    longest_seconds: float = 12.0
    """Our choice: about what one caption describes."""
    row_longest_seconds: float = 60.0
    """Our choice, 1800 frames (the decode stage's ``frames_at_most``) at 30 a second: a worker holds all frames of a
    clip at once. It is above ``longest_seconds`` since a row's span was chosen by someone."""

    def __post_init__(self) -> None:
        if not 0 <= self.shortest_seconds <= self.longest_seconds:
            raise ValueError(
                f"Split(shortest_seconds={self.shortest_seconds:g}, longest_seconds={self.longest_seconds:g}): "
                "the shortest clip must be no longer than the longest"
            )
        if self.longest_seconds <= 0 or self.row_longest_seconds <= 0 or self.threshold < 0:
            raise ValueError(
                f"Split(longest_seconds={self.longest_seconds:g}, row_longest_seconds={self.row_longest_seconds:g}, "
                f"threshold={self.threshold:g}): both lengths must be above 0, and the threshold 0 or more"
            )

    def __call__(self, item: Video) -> Iterator[CutVideo]:
        yield CutVideo(
            video=item,
            span=self._span(item.row),
            shots=ShotRule(
                threshold=self.threshold,
                shortest_seconds=self.shortest_seconds,
                longest_seconds=self.longest_seconds,
            ),
        )

    def check_row(self, row: Row) -> None:
        """
        Raises:
            Reject: ``bad_span``, ``span_too_long``.
        """
        self._span(row)

    def _span(self, row: Row) -> Span | None:
        """The row's span; None where it has neither start nor end, and the video is split into shots."""
        if row.start_seconds is None and row.end_seconds is None:
            return None
        start = row.start_seconds or 0.0
        end = math.inf if row.end_seconds is None else row.end_seconds
        if not 0 <= start < end or math.isinf(row.end_seconds or 0.0):
            raise Reject(
                "bad_span", f"start_seconds={row.start_seconds}, end_seconds={row.end_seconds}: needs 0 <= start < end"
            )
        # Of spans whose ends are decimal numbers, as 4.4 and 64.4, the difference is a little above 60.
        if math.isfinite(end) and end - start > self.row_longest_seconds + _EPSILON:
            raise Reject(
                "span_too_long",
                f"{end - start:g} s, at most {self.row_longest_seconds:g}: "
                "shorten the row's span or raise row_longest_seconds",
            )
        return Span(start, end)


@dataclass(frozen=True)
class Decode(Stage):
    """Decodes at working size, with the first of ``decoders`` that can read the video.

    A row's span becomes one clip. The clip's span has the row's times where the video reaches them, and ends with the
    video otherwise. Rejected with ``span_outside_video``, ``truncated`` (frames cover less than ``least_share`` of the
    span), ``damaged`` (more than ``most_damaged`` of its frames are), ``too_many_frames`` or ``too_short`` (under
    ``fewest_frames``). Gaps without frames stay inside the clip and only count as not covered.

    A video without a span is read once, from front to end, and split at every shot boundary, and where two recordings
    were joined (``Media.joins``). A shot longer than the rule's longest clip (:class:`posecap.types.ShotRule`) gives
    clips of that length; where the last of them would be shorter than the rule's shortest, it and the clip before it
    are made equally long. What gives no clip is yielded as :class:`~posecap.stage.Rejected`: shots that are too short
    (``too_short``), gaps of more than ``gap_seconds`` without frames (``no_frames``; at the end ``truncated``), and
    clips of which too many frames are damaged (``damaged``).

    Either kind of row is rejected with ``undecodable`` where no decoder can read it, and with what the prober rejects.
    Of a video that is rejected after its first clips, the clips stay, and the rest is yielded as Rejected; what fails
    (:class:`~posecap.stage.PermanentError`, as ``decode_timeout``) is raised.

    Memory holds one clip, at most a shortest clip beyond it, and a block of frames.

    Args:
        prober: reads size, frame rate and duration before anything is decoded.
        decoders: asked in this order: the next one when one does not accept the file, or gives it up
            (:class:`~posecap.interfaces.DecoderGaveUpError`).
        long_side: longer side of the frames in pixels; smaller videos keep their size
            (:func:`posecap.video.working_size`).
        fps_at_most: frames per second of a clip; slower videos keep their frames.
        frames_at_most: of a clip, after ``fps_at_most``. A row's span with more is rejected, a shot with more gives
            several clips.
        fewest_frames: of a clip, after ``fps_at_most``; shots with fewer are yielded as Rejected.
        least_share: share of a row's span, in [0, 1], that frames must cover. A span without an end reaches to the end
            that the container states.
        gap_seconds: a longer interval between two frames is a gap; no clip of a shot reaches across one.
        most_damaged: share, in [0, 1], of a clip's frames that may be missing since they are damaged.
        signature: ``"perceptual"`` gives each clip a signature, by which near-duplicates of it are found
            (:mod:`posecap.signatures`).

    The defaults are our choices. 512 pixels: models see 224 to 640. 60 frames a second: all of most cameras; slow
    motion has more. 1,800 frames: 1.4 GB of pixels at 512 x 512, which a worker holds. 2 frames: one shows no
    movement. Half of a span: less is another clip than was asked for. Gaps of 1 second (what happened in them cannot
    be told from the frames beside them) and a quarter damaged: by no measurement.

    Raises:
        ValueError: there is no decoder, or a number is out of its range.
    """

    name: ClassVar[str] = "decode"
    takes: ClassVar[type] = CutVideo
    gives: ClassVar[type] = Clip

    prober: Prober
    decoders: tuple[Decoder, ...]
    long_side: int = 512
    fps_at_most: float = 60.0
    frames_at_most: int = 1800
    fewest_frames: int = 2
    least_share: float = 0.5
    gap_seconds: float = 1.0
    most_damaged: float = 0.25
    signature: Literal["none", "perceptual"] = "none"

    def __post_init__(self) -> None:
        if not self.decoders:
            raise ValueError("decode: decoders is empty; name at least one, as PyAV()")
        if self.long_side < 2 or self.fps_at_most <= 0 or self.gap_seconds <= 0:
            raise ValueError(
                f"decode: long_side is {self.long_side}, fps_at_most {self.fps_at_most:g} and gap_seconds "
                f"{self.gap_seconds:g}; needs long_side >= 2, fps_at_most > 0 and gap_seconds > 0"
            )
        if not 1 <= self.fewest_frames <= self.frames_at_most or not 0 <= self.least_share <= 1:
            raise ValueError(
                f"decode: fewest_frames is {self.fewest_frames}, frames_at_most {self.frames_at_most} and least_share "
                f"{self.least_share:g}; needs 1 <= fewest_frames <= frames_at_most and 0 <= least_share <= 1"
            )
        if not 0 <= self.most_damaged <= 1:
            raise ValueError(f"decode: most_damaged is {self.most_damaged:g}, needs 0 <= most_damaged <= 1")

    def __call__(self, item: CutVideo) -> Iterator[Clip | Rejected]:
        media = self.prober.probe(item.video.path)
        done, gave_up = 0.0, []  # where the last result ended, in seconds of the whole video; why decoders gave up
        try:
            for decoder in self.decoders:
                if not decoder.accepts(media):
                    continue
                try:
                    for result in _DecoderRun(self, item, media, decoder).results(done):
                        done = result.span.end_seconds
                        yield result
                        del result  # free its frames before the next clip is decoded
                    return
                except DecoderGaveUpError as reason:  # the next decoder continues after the last yielded clip
                    gave_up.append(f"{decoder.name}: {reason}")
            raise Reject("undecodable", "; ".join(gave_up) or "no decoder of the pipeline accepts it")
        except PermanentError:
            raise
        except Reject as rejected:
            if not done:
                raise
            media = shift_media(media, item.video.begins_seconds)
            end = max(media.seconds or 0.0, done + _frame_seconds([], media))
            yield Rejected(Span(done, end), rejected.reason, rejected.detail)


class _DecoderRun:
    """Decoding of one video by one decoder."""

    def __init__(self, stage: Decode, cut: CutVideo, media: Media, decoder: Decoder) -> None:
        self._stage, self._cut, self._decoder = stage, cut, decoder
        self._file, self._media = media, shift_media(media, cut.video.begins_seconds)
        self._damaged: list[float] = []

    def results(self, start: float) -> Iterator[Clip | Rejected]:
        """The row's span as one clip, or clips of the shots from ``start`` seconds on, and rejected spans.

        ``start`` is where an earlier decoder's last result ended, in seconds of the whole video; 0 if none did.

        Raises:
            Reject: the video does not hold the span, or cannot be decoded.
            DecoderGaveUpError: another decoder may.
        """
        if self._cut.span is None:
            yield from self._shots(start)
        else:
            yield self._whole(self._cut.span)

    def _whole(self, span: Span) -> Clip:
        """The row's span as one clip; raises what :class:`Decode` says."""
        stage, video_end = self._stage, self._media.seconds
        if video_end is not None and span.start_seconds >= video_end:
            raise Reject(
                "span_outside_video", f"starts at {span.start_seconds:g} s, the video ends at {video_end:.3f} s"
            )
        buffer = FrameBuffer()
        for block in self._blocks(span):
            if len(buffer) + len(block.pts_T) > stage.frames_at_most:
                raise Reject(
                    "too_many_frames",
                    f"more than {stage.frames_at_most} in the span: shorten it or raise frames_at_most",
                )
            for frame, pts, field in zip(block.frames_THW3, block.pts_T.tolist(), _fields(block), strict=True):
                buffer.append(frame, pts, deinterlaced=field)
        self._check_damage(span, len(buffer))
        if not len(buffer):
            raise Reject("span_outside_video", f"no frame from {span.start_seconds:g} s on")
        if len(buffer) < stage.fewest_frames:
            raise Reject("too_short", f"{len(buffer)} frames, at least {stage.fewest_frames}")
        covered = self._covered(span, buffer.pts)
        return self._clip(buffer.pop(len(buffer)), covered)

    def _covered(self, wanted: Span, pts: list[float]) -> Span:
        """The part of a span that frames cover: its own ends where frames reach them, else those of the frames.

        Raises:
            Reject: ``truncated`` or ``span_outside_video``: they cover too little of it.
        """
        step = _frame_seconds(pts, self._media)
        # A frame this close to an end of the span reaches it: at a constant rate it is one step away at most; half a
        # step more is for times that vary.
        near = 1.5 * step
        start = wanted.start_seconds if pts[0] - wanted.start_seconds <= near else pts[0]
        end = wanted.end_seconds if wanted.end_seconds - pts[-1] <= near else pts[-1] + step
        missing = sum(gap for gap in np.diff(pts).tolist() if gap > self._stage.gap_seconds)
        promised = wanted.end_seconds if math.isfinite(wanted.end_seconds) else (self._media.seconds or end)
        decoded, whole = end - start - missing, promised - wanted.start_seconds
        if decoded < self._stage.least_share * whole:
            video_end = self._media.seconds
            reason = "span_outside_video" if video_end is not None and video_end < promised - near else "truncated"
            raise Reject(
                reason,
                f"frames cover {decoded:.3f} s of the span's {whole:.3f} s, needs {self._stage.least_share:.0%}",
            )
        return Span(start, end)

    def _shots(self, start: float) -> Iterator[Clip | Rejected]:
        """Clips of the shots, and what gives none."""
        rule, stage = self._cut.shots, self._stage
        detector, buffer, end = ShotDetector(rule.threshold), FrameBuffer(), start
        joined = -1  # joins that the last frame has passed; below 0 before the first frame, which begins a shot anyway
        for block in self._blocks(Span(start, math.inf) if start else None):
            passed_T = np.searchsorted(self._media.joins, block.pts_T + _EPSILON)
            begins = detector.begins(block.frames_THW3) | (np.diff(passed_T, prepend=joined) > 0)
            joined = int(passed_T[-1]) if len(passed_T) else joined
            frames = zip(block.frames_THW3, block.pts_T.tolist(), begins.tolist(), _fields(block), strict=True)
            for frame, pts, new, field in frames:
                if not len(buffer):
                    pass
                elif pts - buffer.last_pts > stage.gap_seconds:
                    # Frames may last longer than gap_seconds each; then there is no gap between two of them.
                    end = min(buffer.last_pts + _frame_seconds(buffer.pts, self._media), pts)
                    yield from self._finish(buffer, end)
                    if end < pts:
                        yield self._hole(Span(end, pts), "no_frames", f"{pts - end:.3f} s without a usable frame")
                elif new or len(buffer) == stage.frames_at_most:
                    yield from self._finish(buffer, pts)
                elif pts - buffer.first_pts >= rule.longest_seconds + rule.shortest_seconds - _EPSILON:
                    yield self._part(buffer, buffer.first_pts + rule.longest_seconds, pts)
                buffer.append(frame, pts, deinterlaced=field)
        if len(buffer):
            end = buffer.last_pts + _frame_seconds(buffer.pts, self._media)
            yield from self._finish(buffer, end)
        promised = self._media.seconds or end
        if promised - end > stage.gap_seconds:
            more = f"the container promises {promised - end:.3f} s more"
            yield self._hole(Span(end, promised), "truncated", more)

    def _finish(self, buffer: FrameBuffer, end: float) -> Iterator[Clip | Rejected]:
        """Empty the buffer, whose last frame lasts until ``end`` (seconds), into one clip, or two halves if one would
        exceed the longest clip.
        """
        if end - buffer.first_pts > self._cut.shots.longest_seconds + _EPSILON and len(buffer) > 1:
            yield self._part(buffer, (buffer.first_pts + end) / 2, end)
        yield self._part(buffer, end, end)

    def _part(self, buffer: FrameBuffer, until: float, end: float) -> Clip | Rejected:
        """Take the buffered frames before ``until`` seconds. Their span ends at the next frame, or at ``end``."""
        rule, stage, pts = self._cut.shots, self._stage, buffer.pts
        count = max(1, bisect_left(pts, until - _EPSILON))
        span = Span(pts[0], pts[count] if count < len(pts) else end)
        if span.seconds >= rule.shortest_seconds - _EPSILON and count >= stage.fewest_frames:
            try:
                self._check_damage(span, count)
            except Reject as damaged:
                buffer.drop(count)
                return Rejected(span, damaged.reason, damaged.detail)
            return self._clip(buffer.pop(count), span)
        buffer.drop(count)
        least = f"{rule.shortest_seconds:g} s and {stage.fewest_frames} frames"
        return Rejected(span, "too_short", f"{span.seconds:.3f} s and {count} frames, at least {least}")

    def _blocks(self, span: Span | None) -> Iterator[Frames]:
        """Decoded frames, of a video that is faster on average limited to the stage's frame rate."""
        limit = self._stage.fps_at_most
        # In one that is not, neighbours may be closer than the limit's period, as in phones' videos: all are kept.
        limiter = FrameRateLimiter(limit if self._media.fps > limit or self._media.fps <= 0 else math.inf)
        size = working_size(self._media, self._stage.long_side)
        video = self._cut.video
        begins = video.begins_seconds
        for block in decode_span(self._decoder, video.path, self._file, begins_seconds=begins, span=span, size=size):
            # A damaged frame takes the place that it would have had, so that it counts as a frame of the stored rate.
            passed = {t for t in sorted((*block.pts_T.tolist(), *block.damaged)) if limiter.keeps(t)}
            self._damaged += [t for t in block.damaged if t in passed]
            kept = np.array([pts in passed for pts in block.pts_T.tolist()], np.bool_)
            if kept.all():
                yield block
            elif kept.any():
                fields = block.deinterlaced_T
                yield Frames(block.frames_THW3[kept], block.pts_T[kept], None if fields is None else fields[kept])

    def _check_damage(self, span: Span, frames: int) -> None:
        """Raise ``damaged`` where too large a share of the span's frames was left out; ``frames`` were not."""
        lost = self._damaged_in(span)
        if lost > self._stage.most_damaged * (lost + frames):
            most = f"at most {self._stage.most_damaged:.0%}"
            raise Reject("damaged", f"{lost} of {lost + frames} frames are damaged and left out, {most} may be")

    def _hole(self, span: Span, reason: str, detail: str) -> Rejected:
        """A span without frames; ``damaged`` where that many were left out that they would fill half of it or more."""
        lost = self._damaged_in(span)
        if 2 * lost * _frame_seconds([], self._media) < span.seconds:
            return Rejected(span, reason, detail)
        return Rejected(span, "damaged", f"{lost} frames are damaged and left out")

    def _damaged_in(self, span: Span) -> int:
        """Number of damaged frames whose times are in the span."""
        return sum(span.holds(seconds) for seconds in self._damaged)

    def _clip(self, frames: Frames, span: Span) -> Clip:
        """The clip of these frames, with its id and, where one is asked for, its signature."""
        video = self._cut.video
        return Clip(
            video=video,
            clip_id=clip_id(video.source_id, video.row.row_id, span),
            span=span,
            media=self._media,
            decoder=self._decoder.name,
            frames_THW3=frames.frames_THW3,
            pts_T=frames.pts_T,
            deinterlaced_frames=sum(_fields(frames)),
            damaged_frames=self._damaged_in(span),
            signature=self._signature(frames),
        )

    def _signature(self, frames: Frames) -> str:
        """By which near-duplicates are found; empty where the stage makes none."""
        return make_signature(frames.frames_THW3, frames.pts_T) if self._stage.signature == "perceptual" else ""


def _fields(block: Frames) -> list[bool]:
    """Of each frame whether only one field of it is shown."""
    return [False] * len(block.pts_T) if block.deinterlaced_T is None else block.deinterlaced_T.tolist()


def _frame_seconds(pts: list[float], media: Media) -> float:
    """Seconds that a frame lasts: the median interval, or for a single frame what the container says (else 1/25 s)."""
    if len(pts) > 1:
        return float(median(after - before for before, after in pairwise(pts)))
    return 1 / media.fps if media.fps > 0 else 0.04
