"""The benchmark of everyday footage: its halves, and settings from a command line."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from posecap.engines.movenet import MoveNet
from posecap.engines.oc_sort import OCSort
from posecap.interfaces import Detections
from posecap.stages.filter_people import FilterPeople
from tests import ROOT
from tests.building import posed, tracks_of, walkers
from tests.programs import program


@pytest.fixture(scope="module")
def people() -> ModuleType:
    return program(ROOT / "benchmarks" / "people.py")


@pytest.fixture(scope="module")
def detectors() -> ModuleType:
    return program(ROOT / "benchmarks" / "detectors.py")


def test_halves_depend_on_the_name_alone(people: ModuleType) -> None:
    names = [f"clip_{number}.mp4" for number in range(200)]
    halves = [people.half_of(Path("somewhere") / name) for name in names]
    assert halves == [people.half_of(Path("elsewhere") / name) for name in names]
    assert 70 < halves.count("choose") < 130


def test_a_setting_is_an_engine_with_its_parameters(detectors: ModuleType) -> None:
    chosen = detectors.setting("movenet:imgsz=256,conf=0.2")
    assert chosen.timed.detector == MoveNet(imgsz=256, conf=0.2)


def test_a_setting_may_name_a_tracker(detectors: ModuleType) -> None:
    def tracker(words: str) -> object:
        (track,) = (stage for stage in detectors.setting(words).posing if stage.name == "track")
        return track.tracker

    assert tracker("movenet+oc_sort:inertia=0.1") == OCSort(inertia=0.1)
    assert tracker("movenet").name == "bytetrack"


@pytest.mark.parametrize(
    "words",
    [
        "no_such_engine",
        "movenet:no_such_field=1",
        "movenet:imgsz",
        "movenet+movenet",
        "movenet+oc_sort+bytetrack",
        "oc_sort",
    ],
)
def test_what_is_no_setting_is_refused(detectors: ModuleType, words: str) -> None:
    with pytest.raises(detectors.SettingError):
        detectors.setting(words)


def test_people_found_and_kept_are_compared_with_marks(people: ModuleType, tmp_path: Path) -> None:
    joints = walkers(people=3, frames=24)
    item = posed(joints_MTJ3=joints, tracks=tracks_of(joints))
    picture = np.array(item.frames_THW3.shape[2:0:-1]) * item.source_per_working
    trunk = joints[:, 0, [5, 6, 11, 12], :2].mean(1) / picture
    table = tmp_path / "marks.csv"
    rows = [f"clip,{item.pts_T[0]},{x},{y}" for x, y in (trunk[0], trunk[2], trunk[0] + 5)]
    table.write_text("\n".join(["video,seconds,x,y", *rows, "other,0,0,0", "clip,1000,0,0"]))
    marks = people.read_marks(table)["clip"]
    filtering = FilterPeople(people=2)
    every = people.at_marks(item, item, marks, filtering)
    assert (every.found, every.kept, every.others) == (2, 2, 1)
    first = replace(item, joints_MTJ3=joints[:1], tracks=tracks_of(joints[:1]))
    some = people.at_marks(item, first, marks, filtering)
    assert (some.found, some.kept, some.others) == (2, 1, 0)
    nobody = people.at_marks(item, None, marks, filtering)
    assert (nobody.found, nobody.kept, nobody.others) == (2, 0, 0)
    assert people.at_marks(item, item, {1000.0: trunk}, filtering) == people.MarkedPeople()


def test_marks_lie_in_the_picture(people: ModuleType) -> None:
    marks = people.read_marks(people.MARKS)
    assert len(marks) == 16
    places = np.concatenate([places for times in marks.values() for places in times.values()])
    assert ((places >= 0) & (places <= 1)).all()


class Middle:
    """Finds one person with a trunk in the middle of what it is given, a quarter of its side tall."""

    name, layout = "middle", "coco17"

    def detect(self, frames_THW3: np.ndarray) -> list[Detections]:
        height, width = frames_THW3.shape[1:3]
        box = np.array([[0.45 * width, 0.375 * height, 0.55 * width, 0.625 * height]], np.float32)
        joints = np.full((1, 17, 3), 0.9, np.float32)
        joints[..., :2] = width / 2, height / 2
        return [Detections(boxes_N4=box, scores_N=np.array([width / 1000], np.float32), joints_NJ3=joints)]


def test_the_best_score_at_a_mark_is_that_of_a_cut_out_around_it(people: ModuleType, detectors: ModuleType) -> None:
    item = posed(frames_THW3=np.zeros((24, 300, 400, 3), np.uint8))
    chosen = replace(detectors.setting("movenet"), timed=detectors.Timed(Middle()))
    marks = {float(item.pts_T[0]): np.array([[0.5, 0.5], [0.2, 0.8]]), 1000.0: np.array([[0.5, 0.5]])}
    assert people.best_scores(chosen, item, marks) == pytest.approx([0.4, 0.256])  # the whole frame, a close-up
