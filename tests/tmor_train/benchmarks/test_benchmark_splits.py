"""Splits re-derived from rules, compared with the official lists where those are at hand."""

import json

import numpy as np
import pytest

from tests import DATA
from tmor_train.benchmarks import charades, smarthome, tsu

OFFICIAL = DATA / "benchmarks"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"the official lists are not at {OFFICIAL}"),
]


@pytest.mark.parametrize(
    ("protocol", "counts"), [("CS", (8831, 1854, 5444)), ("CV1", (1877, 3539, 1901)), ("CV2", (7806, 3539, 1901))]
)
def test_smarthome_lists_follow_from_the_rules(protocol: str, counts: tuple[int, int, int]) -> None:
    listed = {p.stem.split("_")[0]: p.read_text().split() for p in OFFICIAL.glob(f"smarthome/*_{protocol}.txt")}
    assert tuple(len(listed[part]) for part in ("train", "validation", "test")) == counts
    everything = {clip.removesuffix(".mp4") for p in OFFICIAL.glob("smarthome/*.txt") for clip in p.read_text().split()}
    for part, clips in listed.items():
        derived = {clip for clip in everything if smarthome.part_of(clip, protocol) == part}
        assert derived == {clip.removesuffix(".mp4") for clip in clips}


def test_smarthome_subjects_and_classes_are_those_of_the_lists() -> None:
    official = json.loads((OFFICIAL / "class_lists.json").read_text())["smarthome"]
    everything = {clip.removesuffix(".mp4") for p in OFFICIAL.glob("smarthome/*.txt") for clip in p.read_text().split()}
    trained = {clip for clip in everything if smarthome.part_of(clip, "CS") in ("train", "validation")}
    assert {int(clip.split("_p")[1][:2]) for clip in trained} == set(official["cs_train_subjects"])
    assert sum(official["videos_per_class"].values()) == smarthome.SMARTHOME.clips
    assert all(smarthome.part_of(clip, "CS") for clip in everything)


@pytest.mark.parametrize(("protocol", "train", "test", "tested_classes"), [("CS", 351, 185, 51), ("CV", 369, 167, 33)])
def test_tsu_lists_follow_from_the_rules(protocol: str, train: int, test: int, tested_classes: int) -> None:
    known = tsu.read_annotations(OFFICIAL / f"tsu/smarthome_{protocol}_51.json")
    tested = {name for name, (subset, _, _) in known.items() if subset == "testing"}
    assert (len(known) - len(tested), len(tested)) == (train, test)
    place, numbers = {"CS": (slice(1, 3), {2, 10, 11, 14, 16, 18, 20}), "CV": (slice(7, 9), {2, 5})}[protocol]
    assert tested == {name for name in known if int(name[place]) in numbers}  # P11T13C03: person 11, camera 3
    assert sum(len(events) for _, _, events in known.values()) == 41288
    assert len({label for name in tested for label, _, _ in known[name][2]}) == tested_classes


def test_charades_annotations_have_the_published_counts() -> None:
    train, test = (charades.actions(OFFICIAL / "charades" / name) for name in charades.FILES.values())
    assert (len(train), len(test)) == (7985, 1863)
    assert [sum(not found for found in part.values()) for part in (train, test)] == [174, 49]
    timed = [event for part in (train, test) for found in part.values() for event in found]
    assert len(timed) == 66500
    assert sum(end < begin for _, begin, end in timed) == 7


def test_published_counts_are_those_of_the_annotations() -> None:
    for protocol in tsu.TSU.protocols:
        found = tsu.timelines(OFFICIAL / f"tsu/smarthome_{protocol}_51.json")
        assert sum(map(len, found.values())) == tsu.TSU.clips
        frames_N = np.concatenate([part.frames_N for part in found.values()])
        assert (int(frames_N.max()), round(float(frames_N.mean()))) == (50541, 25018)
    parts = [charades.timelines(OFFICIAL / "charades" / name) for name in charades.FILES.values()]
    assert sum(map(len, parts)) == charades.CHARADES.clips


def test_class_lists_are_the_official_ones() -> None:
    official = json.loads((OFFICIAL / "class_lists.json").read_text())
    assert list(smarthome.CLASSES) == official["smarthome"]["cs_classes"]
    assert list(smarthome.CV_CLASSES) == official["smarthome"]["cv_classes"]
    assert list(tsu.CLASSES) == official["tsu"]["classes"]
    assert charades.class_names(OFFICIAL / "charades/Charades_v1_classes.txt")[156] == "Someone is eating something"
