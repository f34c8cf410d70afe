"""Detects people of any size, with a single-stage pose model that finds only a range of sizes at one input size.

With a small input the model finds people who fill the picture, at the lowest cost. With a large one it finds those who
are small in the picture, misses those who fill it, and takes patterns of foliage or brickwork for people. So every
frame is given to a detector with a small input, and to one with a large input only where that found no large person.
Small people, and several people in one picture, are given to a third detector in close-ups: cut out one by one and
scaled to the size that the model knows best. Their joints are those of the close-up, and whom only the large input
found counts only if the close-up shows them too: it shows a person again, a pattern not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from posecap.interfaces import Detections, Detector
from posecap.skeletons import box_iou, distinct, similarity
from posecap.stage import Engine
from posecap.types import Floats, Pixels

_BLOCK = 16
"""Frames of which close-ups are in memory. Our choice."""


@dataclass(frozen=True, kw_only=True)
class MultiScale(Engine):
    """Detections of a small input, of a large one in frames without a large person, and of close-ups.

    A frame has a large person when ``small`` finds one with a score of ``clear`` or more whose box is
    ``large_person`` of the frame's longer side or more. Of the other frames, those whose index is a multiple of
    ``probe_every`` are probed: they are given to ``large`` too, and each person whom only that finds is cut out of the
    frame and given to ``close_up``. The person is confirmed if that finds one with a score of ``confirm`` or more at
    the same place. If anybody is confirmed in the clip, ``large`` is given all frames without a large person, and the
    people who are confirmed in their own frame are added to it.

    Close-ups of all people are taken in the whole clip if half of its frames or more have no large person, or have two
    clear or confirmed people or more, so that a track's joints come from one kind of input; and in frames to which
    somebody was added. Box and joints of the close-up replace those it was made from, with the higher of both scores.
    Where it finds nobody at the same place, the detection of ``small`` stays as it is.

    Of two detections of one person, that is with an object keypoint similarity of ``same_person`` or more, the one with
    the higher score is kept.

    The default numbers were chosen on one half of the footage of docs/results/people.md, for MoveNet.

    Args:
        small, large, close_up: detectors that give joints of one layout.
        clear: least score, in [0, 1], of a clear or large person.
        large_person: least longer side of a large person's box, as a share of the frame's longer side.
        probe_every: frames from one probed frame to the next.
        margin: longer side of what is cut out, as a multiple of the box's longer side.
        close_up_sides: longer and shorter side of a close-up, pixels. It is square, or for a slender box as narrow as
            the shorter side, which costs less. What lies outside the frame is black.
        confirm: least score, in [0, 1], of a person in a close-up.
        same_person: similarity (:func:`posecap.skeletons.similarity`) from which two detections are one person.
        same_place: least intersection over union, in [0, 1], of two boxes at the same place.

    Raises:
        ValueError: the detectors give no joints or those of several layouts, or a number is out of its range.
    """

    name: ClassVar[str] = "multi-scale"
    packages: ClassVar[tuple[str, ...]] = ("pillow",)

    small: Detector
    large: Detector
    close_up: Detector
    clear: float = 0.3
    large_person: float = 0.35
    probe_every: int = 8
    margin: float = 1.25
    close_up_sides: tuple[int, int] = (224, 128)
    confirm: float = 0.25
    same_person: float = 0.6
    same_place: float = 0.3

    def __post_init__(self) -> None:
        layouts = {detector.layout for detector in (self.small, self.large, self.close_up)}
        if len(layouts) > 1 or None in layouts:
            raise ValueError(f"multi-scale: its detectors must all give joints of one layout, not {layouts}")
        if self.probe_every < 1:
            raise ValueError(f"multi-scale: probe_every is {self.probe_every}; it must be at least 1")
        longer, shorter = self.close_up_sides
        if not 1 <= shorter <= longer:
            raise ValueError(f"multi-scale: close_up_sides is {self.close_up_sides}; the longer side comes first")
        if self.margin < 1:
            raise ValueError(f"multi-scale: margin is {self.margin:g}; below 1 the close-up would not hold the box")

    @property
    def layout(self) -> str | None:
        return self.small.layout

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """People of each frame, best first; boxes and joints in pixels of the given frames."""
        found = self.small.detect(frames_THW3)
        longer = max(frames_THW3.shape[1:3])
        without = [t for t, people in enumerate(found) if not self._has_large_person(people, longer)]
        added = self._small_people(frames_THW3, [t for t in without if t % self.probe_every == 0], found)
        if any(map(_count, added.values())):
            added |= self._small_people(frames_THW3, [t for t in without if t not in added], found)
        # Frames with several clear or confirmed people.
        several = sum(
            int((people.scores_N >= self.clear).sum()) + (_count(added[t]) if t in added else 0) >= 2
            for t, people in enumerate(found)
        )
        # Close-ups are taken in the whole clip, or where somebody was added.
        throughout = 2 * max(several, len(without)) >= len(found)
        closer = [t for t in range(len(found)) if throughout or (t in added and _count(added[t]))]
        for block in _blocks(closer):
            people = [_Person(t, one) for t in block for one in _one_by_one(found[t])]
            shown = self._close_ups(frames_THW3, people, least=0.0)
            for t in block:
                there = [made or one.seen for one, made in zip(people, shown, strict=True) if one.frame == t]
                more = [added[t]] if t in added else []
                # The first has no rows: it stands for the arrays' shapes where nobody is left.
                found[t] = self._distinct([_rows(found[t], []), *there, *more])
        return found

    def _small_people(
        self, frames_THW3: Pixels, wanted: Sequence[int], found: Sequence[Detections]
    ) -> dict[int, Detections]:
        """By frame, of those ``wanted``: people whom the large input finds and the small one did not (``found``, of all
        frames), as their close-ups show them.
        """
        seen: dict[int, Detections] = {}
        for block in _blocks(wanted):
            large = dict(zip(block, self.large.detect(frames_THW3[block]), strict=True))
            people = [
                _Person(t, one)
                for t in block
                for one in _one_by_one(large[t])
                if all(
                    similarity(_joints(one)[0], other, box) < self.same_person
                    for other, box in zip(_joints(found[t]), found[t].boxes_N4, strict=True)
                )
            ]
            shown = self._close_ups(frames_THW3, people, least=self.confirm)
            for t in block:
                there = [made for one, made in zip(people, shown, strict=True) if made and one.frame == t]
                seen[t] = _together([_rows(large[t], []), *there])
        return seen

    def _distinct(self, people: Sequence[Detections]) -> Detections:
        """All of them, best first; of two detections of one person the better."""
        every = _together(people)
        ranked = _rows(every, np.argsort(-every.scores_N, kind="stable").tolist())
        return _rows(ranked, distinct(_joints(ranked), ranked.boxes_N4, same_person=self.same_person))

    def _has_large_person(self, people: Detections, longer: int) -> bool:
        """Whether a frame has one, as the class describes it; ``longer`` is the frame's longer side in pixels."""
        sides_N = (people.boxes_N4[:, 2:] - people.boxes_N4[:, :2]).max(-1, initial=0)
        return bool(((people.scores_N >= self.clear) & (sides_N >= self.large_person * longer)).any())

    def _close_ups(self, frames_THW3: Pixels, people: Sequence[_Person], *, least: float) -> list[Detections | None]:
        """Each of the people as the close-up shows them there with at least this score; None if it does not."""
        shown: list[Detections | None] = [None] * len(people)
        cuts = [self._cut_out(frames_THW3[one.frame], one.seen.boxes_N4[0]) for one in people]
        for shape in dict.fromkeys(cut.pixels_HW3.shape for cut in cuts if cut):
            same = [(i, cut) for i, cut in enumerate(cuts) if cut and cut.pixels_HW3.shape == shape]
            found = self.close_up.detect(np.stack([cut.pixels_HW3 for _, cut in same]))
            for (i, cut), detections in zip(same, found, strict=True):
                shown[i] = self._shown(people[i].seen, cut, detections, least=least)
        return shown

    def _shown(self, person: Detections, cut: _CutOut, people: Detections, *, least: float) -> Detections | None:
        """Of the people found in a close-up, the one whom it was made for; None where that is nobody."""
        (box_4,) = person.boxes_N4
        scale_2, corner_2 = cut.scale_2, cut.corner_2
        boxes_N4: Floats = people.boxes_N4 / np.concatenate([scale_2, scale_2]) + np.concatenate([corner_2, corner_2])
        joints_NJ3 = _joints(people).copy()
        joints_NJ3[..., :2] = joints_NJ3[..., :2] / scale_2 + corner_2
        nearness = [
            (box_iou(box_4, box), similarity(joints, _joints(person)[0], box_4))
            for box, joints in zip(boxes_N4, joints_NJ3, strict=True)
        ]
        there = [i for i, (overlap, _) in enumerate(nearness) if overlap >= self.same_place]
        if not there:
            return None
        best = max(there, key=lambda i: sum(nearness[i]))
        if people.scores_N[best] < least:
            return None
        return Detections(
            boxes_N4=boxes_N4[[best]],
            scores_N=np.maximum(people.scores_N[[best]], person.scores_N),
            joints_NJ3=joints_NJ3[[best]],
        )

    def _cut_out(self, frame_HW3: Pixels, box_4: Floats) -> _CutOut | None:
        """A box with its margin; None for a box of which less than two pixels lie in the frame."""
        from PIL import Image

        longer, shorter = self.close_up_sides
        sides_2 = box_4[2:] - box_4[:2]
        # Pixels of the frame with the margin; the longer side fills the longer one of the close-up.
        wanted_2 = sides_2 + (self.margin - 1) * sides_2.max()
        scale = longer / max(float(wanted_2.max()), 1.0)
        size_2 = np.where(wanted_2 * scale <= shorter, shorter, longer)
        centre_2, half_2 = (box_4[:2] + box_4[2:]) / 2, size_2 / scale / 2
        frame_2 = np.array(frame_HW3.shape[1::-1])
        x0, y0 = np.floor(np.clip(centre_2 - half_2, 0, frame_2)).astype(int).tolist()
        x1, y1 = np.ceil(np.clip(centre_2 + half_2, 0, frame_2)).astype(int).tolist()
        if x1 - x0 < 2 or y1 - y0 < 2:
            return None
        width = min(int(size_2[0]), max(1, round((x1 - x0) * scale)))
        height = min(int(size_2[1]), max(1, round((y1 - y0) * scale)))
        cut = np.zeros((int(size_2[1]), int(size_2[0]), 3), np.uint8)
        part = Image.fromarray(frame_HW3[y0:y1, x0:x1])
        cut[:height, :width] = np.asarray(part.resize((width, height), Image.Resampling.BILINEAR))
        scale_2 = np.array([width / (x1 - x0), height / (y1 - y0)], np.float32)
        return _CutOut(cut, scale_2, np.array([x0, y0], np.float32))


@dataclass(frozen=True, slots=True)
class _Person:
    """One person whom a detector found in a frame (its index)."""

    frame: int
    seen: Detections


@dataclass(frozen=True, slots=True)
class _CutOut:
    """A close-up, its pixels per pixel of the frame (x, y), and its corner (x, y) in the frame."""

    pixels_HW3: Pixels
    scale_2: Floats
    corner_2: Floats


def _blocks(frames: Sequence[int]) -> Iterator[list[int]]:
    """Several frames at a time: a detector is faster with many pictures, and only theirs are in memory."""
    for first in range(0, len(frames), _BLOCK):
        yield list(frames[first : first + _BLOCK])


def _joints(people: Detections) -> Floats:
    if people.joints_NJ3 is None:
        raise TypeError("multi-scale: a detector gave boxes without joints")
    return people.joints_NJ3


def _count(people: Detections) -> int:
    return len(people.scores_N)


def _rows(people: Detections, rows: list[int]) -> Detections:
    return Detections(boxes_N4=people.boxes_N4[rows], scores_N=people.scores_N[rows], joints_NJ3=_joints(people)[rows])


def _one_by_one(people: Detections) -> list[Detections]:
    return [_rows(people, [i]) for i in range(_count(people))]


def _together(people: Sequence[Detections]) -> Detections:
    return Detections(
        boxes_N4=np.concatenate([each.boxes_N4 for each in people]),
        scores_N=np.concatenate([each.scores_N for each in people]),
        joints_NJ3=np.concatenate([_joints(each) for each in people]),
    )
