"""Small and large people, one close-up, and patterns that only look like people."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from posecap.engines.multi_scale import MultiScale
from posecap.interfaces import Detections
from posecap.types import Pixels

HEIGHT, WIDTH = 200, 300
LARGE, SMALL, PATTERN = (20, 10, 120, 190), (200, 100, 214, 140), (250, 20, 280, 60)


def detections(*boxes: Sequence[float], score: float = 0.6) -> Detections:
    """A person in each box: joints on its diagonal."""
    made = np.array(boxes, np.float32).reshape(-1, 4)
    along_J1 = np.linspace(0, 1, 17, dtype=np.float32)[:, None]
    joints = [np.hstack([box[:2] + along_J1 * (box[2:] - box[:2]), np.ones_like(along_J1)]) for box in made]
    return Detections(
        boxes_N4=made,
        scores_N=np.full(len(made), score, np.float32),
        joints_NJ3=np.array(joints, np.float32).reshape(-1, 17, 3),
    )


@dataclass
class Sees:
    """A detector that finds the same people in every frame, and remembers how many frames it was given."""

    people: Detections
    layout: str | None = "coco17"
    name: str = "sees"
    frames: list[Pixels] = field(default_factory=list)

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        self.frames += list(frames_THW3)
        return [self.people for _ in frames_THW3]


@dataclass
class CloseUp(Sees):
    """Finds somebody in the middle of the picture if it was cut out around the small person or a large one."""

    score: float = 0.4

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        super().detect(frames_THW3)
        return [self._one(frame) for frame in frames_THW3]

    def _one(self, frame_HW3: Pixels) -> Detections:
        height, width = frame_HW3.shape[:2]
        if frame_HW3.max() == 0:
            return detections()
        return detections((width * 0.3, height * 0.2, width * 0.7, height * 0.8), score=self.score)


def frames(count: int) -> Pixels:
    """Black, but for the small person."""
    made = np.zeros((count, HEIGHT, WIDTH, 3), np.uint8)
    x0, y0, x1, y1 = SMALL
    made[:, y0:y1, x0:x1] = 255
    return made


def boxes(found: Detections) -> list[tuple[float, ...]]:
    return [tuple(box) for box in found.boxes_N4.tolist()]


def from_close_up(box: Sequence[float]) -> list[float]:
    """The box that CloseUp gives for a slender person of this box, whose close-up lies within the frame."""
    (x0, y0, x1, y1), scale = box, 224 / (1.25 * max(box[2] - box[0], box[3] - box[1]))
    across, along = 128 / scale, 224 / scale
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return [x - 0.2 * across, y - 0.3 * along, x + 0.2 * across, y + 0.3 * along]


def test_a_clip_with_a_large_person_is_looked_at_once() -> None:
    small, large, close_up = Sees(detections(LARGE)), Sees(detections(SMALL)), CloseUp(detections())
    found = MultiScale(small=small, large=large, close_up=close_up).detect(frames(20))
    assert [boxes(people) for people in found] == [[LARGE]] * 20
    assert (len(small.frames), len(large.frames), len(close_up.frames)) == (20, 0, 0)


def test_a_small_person_is_seen_from_close_up_and_a_pattern_is_not() -> None:
    large, close_up = Sees(detections(PATTERN, SMALL)), CloseUp(detections())
    detector = MultiScale(small=Sees(detections()), large=large, close_up=close_up, probe_every=8)
    found = detector.detect(frames(20))
    assert [len(people.scores_N) for people in found] == [1] * 20
    for people in found:
        assert people.boxes_N4[0] == pytest.approx(from_close_up(SMALL), abs=1), "the close-up's box, in the frame"
        x0, y0, x1, y1 = people.boxes_N4[0]
        joints = people.joints_NJ3[0]  # type: ignore[index]
        assert joints[0].tolist() == pytest.approx([x0, y0, 1]), "its joints, too"
        assert joints[-1].tolist() == pytest.approx([x1, y1, 1])
        assert people.scores_N.tolist() == pytest.approx([0.6]), "the higher of both scores"
    assert len(large.frames) == 20, "probed frames are not looked at twice"
    assert len(close_up.frames) == 2 * 20
    assert {frame.shape[:2] for frame in close_up.frames} == {(224, 128), (224, 224)}


def test_scenery_costs_a_probe_now_and_then_and_has_nobody() -> None:
    large = Sees(detections(PATTERN))
    found = MultiScale(small=Sees(detections()), large=large, close_up=CloseUp(detections())).detect(frames(17))
    assert [boxes(people) for people in found] == [[]] * 17
    assert len(large.frames) == 3


def test_a_faint_close_up_confirms_nobody() -> None:
    large, close_up = Sees(detections(SMALL)), CloseUp(detections(), score=0.2)
    found = MultiScale(small=Sees(detections()), large=large, close_up=close_up, confirm=0.25).detect(frames(9))
    assert [boxes(people) for people in found] == [[]] * 9


def test_two_people_are_looked_at_one_by_one() -> None:
    near_large = tuple(side + 60 for side in LARGE)
    small, large, close_up = Sees(detections(LARGE, near_large)), Sees(detections()), CloseUp(detections())
    found = MultiScale(small=small, large=large, close_up=close_up).detect(np.full((3, 200, 300, 3), 255, np.uint8))
    assert (len(small.frames), len(large.frames), len(close_up.frames)) == (3, 0, 6)
    assert all(boxes(people) != [LARGE, near_large] and len(boxes(people)) == 2 for people in found)


def test_who_is_not_found_from_close_up_stays_as_the_small_input_saw_them() -> None:
    small, close_up = Sees(detections(SMALL)), Sees(detections())
    found = MultiScale(small=small, large=Sees(detections()), close_up=close_up).detect(frames(2))
    assert [boxes(people) for people in found] == [[SMALL]] * 2
    assert len(close_up.frames) == 2


def test_nobody_is_found_twice_and_the_better_detection_counts() -> None:
    near = tuple(side + 1 for side in SMALL)
    small = Sees(detections(near, SMALL, score=0.2))  # joints nearly where the others are: one person
    large = Sees(detections(SMALL, score=0.5))
    found = MultiScale(small=small, large=large, close_up=Sees(detections())).detect(frames(1))
    assert [boxes(people) for people in found] == [[near]]


def test_a_clear_person_who_is_small_does_not_settle_a_frame() -> None:
    large = Sees(detections(SMALL))
    MultiScale(small=Sees(detections(SMALL)), large=large, close_up=CloseUp(detections())).detect(frames(9))
    assert len(large.frames) == 2


@pytest.mark.parametrize("box", [(-30, -30, -10, -10), (299.5, 20, 320, 60), (0, 0, 300, 200), (40, 40, 40, 40)])
def test_boxes_at_the_border_of_the_frame_do_no_harm(box: tuple[float, ...]) -> None:
    large = Sees(detections(box))
    found = MultiScale(small=Sees(detections()), large=large, close_up=CloseUp(detections())).detect(frames(1))
    assert all(np.isfinite(people.boxes_N4).all() for people in found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"large": Sees(detections(), layout=None)}, "joints of one layout"),
        ({"close_up": Sees(detections(), layout="halpe26")}, "joints of one layout"),
        ({"probe_every": 0}, "probe_every is 0"),
        ({"close_up_sides": (128, 224)}, "longer side comes first"),
        ({"margin": 0.9}, "margin is 0.9"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, object], words: str) -> None:
    detectors = {"small": Sees(detections()), "large": Sees(detections()), "close_up": CloseUp(detections())}
    with pytest.raises(ValueError, match=words):
        MultiScale(**{**detectors, **change})  # type: ignore[arg-type]
