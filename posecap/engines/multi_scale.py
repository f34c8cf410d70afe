"""Detects people of any size, with a single-stage pose model that finds only a range of sizes at one input size.

With a small input the model finds people who fill the picture, at the lowest cost. With a large one it finds those who
are small in the picture, misses those who fill it, and takes patterns of foliage or brickwork for people. So every
frame is given to a detector with a small input, and to one with a large input only where that found no large person.
People whom the large input adds are confirmed by a third detector in an enlarged cut-out: it finds a person again, a
pattern not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from posecap.interfaces import Detections, Detector
from posecap.skeletons import box_iou, distinct, similarity
from posecap.stage import Engine
from posecap.types import Floats, Pixels


@dataclass(frozen=True, kw_only=True)
class MultiScale(Engine):
    """Detections of a small input and, in frames without a large person, confirmed ones of a large input.

    A frame has a large person when ``small`` finds one with a score of ``clear`` or more whose box is
    ``large_person`` of the frame's longer side or more; its detections are then the frame's. Of the other frames,
    those whose index is a multiple of ``probe_every`` are probed: they are given to ``large`` too, and each person
    whom only that finds is cut out of the frame and given to ``close_up``. The person is confirmed if that finds one
    with a score of ``confirm`` or more at the same place. If nobody is confirmed in the whole clip, the detections of
    ``small`` are the result. Otherwise ``large`` is given all frames without a large person, and adds the people at
    whose place somebody was confirmed in the nearest probed frame that had a detection there.

    Of two detections of one person, that is with an object keypoint similarity of ``same_person`` or more, the one with
    the higher score is kept.

    Args:
        small, large, close_up: detectors that give joints of one layout.
        clear: least score, in [0, 1], of a large person.
        large_person: least longer side of a large person's box, as a share of the frame's longer side.
        probe_every: frames from one probed frame to the next.
        margin: side of the square cut-out, as a multiple of the box's longer side.
        close_up_side: pixels that the cut-out's longer side is enlarged to.
        confirm: least score, in [0, 1], of a person in a cut-out.
        same_person: similarity (:func:`posecap.skeletons.similarity`) from which two detections are one person.
        same_place: least intersection over union, in [0, 1], of two boxes at the same place.
    """

    name: ClassVar[str] = "multi-scale"
    packages: ClassVar[tuple[str, ...]] = ("pillow",)

    small: Detector
    large: Detector
    close_up: Detector
    clear: float = 0.3
    large_person: float = 0.35
    probe_every: int = 8
    margin: float = 1.6
    close_up_side: int = 192
    confirm: float = 0.25
    same_person: float = 0.6
    same_place: float = 0.3

    def __post_init__(self) -> None:
        layouts = {detector.layout for detector in (self.small, self.large, self.close_up)}
        if len(layouts) > 1 or None in layouts:
            raise ValueError(f"multi-scale: its detectors must all give joints of one layout, not {layouts}")
        if self.probe_every < 1:
            raise ValueError(f"multi-scale: probe_every is {self.probe_every}; it must be at least 1")

    @property
    def layout(self) -> str | None:
        return self.small.layout

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """People of each frame, best first; boxes and joints in pixels of the given frames."""
        found = self.small.detect(frames_THW3)
        longer = max(frames_THW3.shape[1:3])
        unclear = [t for t, people in enumerate(found) if not self._has_large_person(people, longer)]
        probes = {t: self._larger(frames_THW3[t], found[t]) for t in unclear if t % self.probe_every == 0}
        looks = {
            t: [(people.boxes_N4[i], self._is_person(frames_THW3[t], people.boxes_N4[i])) for i in new]
            for t, (people, new) in probes.items()
        }
        if not any(is_person for look in looks.values() for _, is_person in look):
            return found
        for t in unclear:
            people, new = probes[t] if t in probes else self._larger(frames_THW3[t], found[t])
            rows = [
                i for i in range(len(people.scores_N)) if i not in new or self._is_known(people.boxes_N4[i], t, looks)
            ]
            found[t] = self._joined(found[t], _rows(people, rows))
        return found

    def _larger(self, frame_HW3: Pixels, known: Detections) -> tuple[Detections, list[int]]:
        """The people whom the large input finds in a frame, and the indices of those whom the small one did not."""
        (people,) = self.large.detect(frame_HW3[None])
        others = list(zip(_joints(known), known.boxes_N4, strict=True))
        return people, [
            i
            for i, joints in enumerate(_joints(people))
            if all(similarity(joints, other, box) < self.same_person for other, box in others)
        ]

    def _is_known(self, box_4: Floats, t: int, looks: dict[int, list[tuple[Floats, bool]]]) -> bool:
        """Whether somebody was confirmed at this place in the nearest probed frame that had a detection there.

        Args:
            looks: by probed frame, the box of each new detection and whether it was confirmed.
        """
        for probe in sorted(looks, key=lambda probe: abs(probe - t)):
            confirmed = [is_person for box, is_person in looks[probe] if box_iou(box_4, box) >= self.same_place]
            if confirmed:
                return any(confirmed)
        return False

    def _joined(self, small: Detections, large: Detections) -> Detections:
        """The people of both, best first; of two detections of one person only the one with the higher score."""
        both = Detections(
            boxes_N4=np.concatenate([small.boxes_N4, large.boxes_N4]),
            scores_N=np.concatenate([small.scores_N, large.scores_N]),
            joints_NJ3=np.concatenate([_joints(small), _joints(large)]),
        )
        ranked = _rows(both, np.argsort(-both.scores_N, kind="stable").tolist())
        return _rows(ranked, distinct(_joints(ranked), ranked.boxes_N4, same_person=self.same_person))

    def _has_large_person(self, people: Detections, longer: int) -> bool:
        sides_N = (people.boxes_N4[:, 2:] - people.boxes_N4[:, :2]).max(-1, initial=0)
        return bool(((people.scores_N >= self.clear) & (sides_N >= self.large_person * longer)).any())

    def _is_person(self, frame_HW3: Pixels, box_4: Floats) -> bool:
        """Whether the close-up detector finds a person in the box."""
        from PIL import Image

        height, width = frame_HW3.shape[:2]
        centre, side = (box_4[:2] + box_4[2:]) / 2, self.margin * float((box_4[2:] - box_4[:2]).max())
        x0, y0 = np.floor(np.maximum(centre - side / 2, 0)).astype(int)
        x1, y1 = np.ceil(np.minimum(centre + side / 2, (width, height))).astype(int)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return False
        enlarged = max(1.0, self.close_up_side / max(x1 - x0, y1 - y0))
        size = max(1, round((x1 - x0) * enlarged)), max(1, round((y1 - y0) * enlarged))
        cut = np.asarray(Image.fromarray(frame_HW3[y0:y1, x0:x1]).resize(size, Image.Resampling.BILINEAR))
        (people,) = self.close_up.detect(cut[None])
        boxes_N4 = people.boxes_N4 / enlarged + np.array([x0, y0, x0, y0], np.float32)
        return any(
            score >= self.confirm and box_iou(box_4, box) >= self.same_place
            for score, box in zip(people.scores_N, boxes_N4, strict=True)
        )


def _joints(people: Detections) -> Floats:
    if people.joints_NJ3 is None:
        raise TypeError("multi-scale: a detector gave boxes without joints")
    return people.joints_NJ3


def _rows(people: Detections, rows: list[int]) -> Detections:
    return Detections(boxes_N4=people.boxes_N4[rows], scores_N=people.scores_N[rows], joints_NJ3=_joints(people)[rows])
