"""People of any size, with a one-pass pose model that finds only a range of sizes in one input.

A small input finds people who fill the picture and costs least; a large one finds those who are small in it, loses
those who fill it, and sees people in patterns of foliage or brickwork. So every frame is looked at in the small
input, and a larger one is tried only where that found no large person; what the larger one adds is looked at once
more, cut out and enlarged. A pattern is not found again there, a person is.
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
    """Detections of a small input, joined where people are small by confirmed ones of a large input.

    Frames in which ``small`` finds a person scoring at least ``clear`` whose box is at least ``large_person`` of the
    frame's longer side need nothing else. Of the others, every ``probe_every``-th is given to ``large`` too. Each
    person that only ``large`` finds is cut out of the frame, ``margin`` box sides wide, and given to ``close_up``; the
    person is confirmed if that finds one of at least ``confirm`` in the same place. If nobody is confirmed in the
    whole clip, the small input's detections stand. Otherwise ``large`` sees all frames that need it, and adds the
    people whose place was confirmed in the nearest probed frame where it was looked at.

    Of two detections of one person, that is with an object keypoint similarity of ``same_person`` or more, the one with
    the higher score is kept.

    Args:
        small, large, close_up: detectors that give joints of one layout.
        clear: score in [0, 1].
        large_person: share of the frame's longer side, in [0, 1].
        probe_every: frames.
        margin: width of the cut-out in sides of the box (the longer one).
        close_up_side: pixels that the cut-out's longer side is enlarged to.
        confirm: score in [0, 1].
        same_person: similarity in [0, 1].
        same_place: intersection over union of boxes, in [0, 1].
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
        """The people whom the large input finds in a frame, and which of them the small one did not."""
        (people,) = self.large.detect(frame_HW3[None])
        others = list(zip(_joints(known), known.boxes_N4, strict=True))
        return people, [
            i
            for i, joints in enumerate(_joints(people))
            if all(similarity(joints, other, box) < self.same_person for other, box in others)
        ]

    def _is_known(self, box_4: Floats, t: int, looks: dict[int, list[tuple[Floats, bool]]]) -> bool:
        """Whether the nearest frame in which somebody was looked for in this place showed a person."""
        for probe in sorted(looks, key=lambda probe: abs(probe - t)):
            there = [is_person for box, is_person in looks[probe] if box_iou(box_4, box) >= self.same_place]
            if there:
                return any(there)
        return False

    def _joined(self, small: Detections, large: Detections) -> Detections:
        """The people of both, best first; of two detections of one person the better."""
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
        """Whether the close-up of a box shows a person there."""
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
