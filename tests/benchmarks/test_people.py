"""The benchmark of everyday footage: its halves, and settings from a command line."""

from pathlib import Path
from types import ModuleType

import pytest

from posecap.engines.movenet import MoveNet
from tests import ROOT
from tests.programs import program


@pytest.fixture(scope="module")
def detectors() -> ModuleType:
    return program(ROOT / "benchmarks" / "detectors.py")


def test_halves_depend_on_the_name_alone() -> None:
    people = program(ROOT / "benchmarks" / "people.py")
    names = [f"clip_{number}.mp4" for number in range(200)]
    halves = [people.half_of(Path("somewhere") / name) for name in names]
    assert halves == [people.half_of(Path("elsewhere") / name) for name in names]
    assert 70 < halves.count("choose") < 130


def test_a_setting_is_an_engine_with_its_parameters(detectors: ModuleType) -> None:
    chosen = detectors.setting("movenet:imgsz=256,conf=0.2")
    assert chosen.timed.detector == MoveNet(imgsz=256, conf=0.2)


@pytest.mark.parametrize("words", ["no_such_engine", "movenet:no_such_field=1", "movenet:imgsz"])
def test_what_is_no_setting_is_refused(detectors: ModuleType, words: str) -> None:
    with pytest.raises(detectors.SettingError):
        detectors.setting(words)
