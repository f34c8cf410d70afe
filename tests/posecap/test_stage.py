"""Stages and engines as data: how they are written down, and what they may hold."""

import pickle
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from posecap.builtin import pipelines
from posecap.pipeline import load_pipeline
from posecap.stage import Engine, PermanentError, Reject, Stage, TransientError, configuration, engines_of
from posecap.types import Row
from tests import ROOT

WARMED: list[str] = []


@dataclass(frozen=True)
class Inner(Engine):
    name: ClassVar[str] = "inner"
    size: int = 3

    def load(self) -> None:
        WARMED.append("inner")


@dataclass(frozen=True)
class Outer(Engine):
    name: ClassVar[str] = "outer"
    inside: Inner = field(default_factory=Inner)

    def load(self) -> None:
        WARMED.append("outer")


@dataclass(frozen=True)
class Step(Stage):
    name: ClassVar[str] = "step"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Row

    one: Engine
    several: tuple[Engine, ...] = ()
    settings: Any = None

    def __call__(self, item: Row) -> Iterator[Row]:
        yield item


def test_every_field_is_written_engines_with_their_names() -> None:
    assert configuration(Step(one=Inner(size=5), several=(Outer(),))) == {
        "name": "step",
        "one": {"name": "inner", "size": 5},
        "several": [{"name": "outer", "inside": {"name": "inner", "size": 3}}],
        "settings": None,
    }


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Path("a/b"), "a/b"),
        ({"b": 1, "a": (2.5, None)}, {"a": [2.5, None], "b": 1}),
        ([True, "x"], [True, "x"]),
    ],
)
def test_data_has_a_written_form(value: Any, written: Any) -> None:
    assert configuration(value) == written


@pytest.mark.parametrize("value", [object(), lambda: 1, {1, 2}, Inner], ids=["object", "function", "set", "class"])
def test_what_no_fingerprint_could_cover_is_rejected(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be recorded"):
        configuration(Step(one=Inner(), settings=value))


def test_engines_within_engines_and_tuples_are_found() -> None:
    found = engines_of(Step(one=Outer(Inner(1)), several=(Inner(2), Inner(3))))
    assert found == (Outer(Inner(1)), Inner(1), Inner(2), Inner(3))


def test_warming_up_a_stage_warms_its_engines() -> None:
    WARMED.clear()
    Step(one=Inner(), several=(Outer(),)).load()
    assert WARMED == ["inner", "outer", "inner"]


@pytest.mark.parametrize("kind", [Reject, PermanentError, TransientError])
def test_rejections_travel_between_processes(kind: type[Reject]) -> None:
    back = pickle.loads(pickle.dumps(kind("no_person_found", "nobody")))
    assert type(back) is kind
    assert (back.reason, back.detail, str(back)) == ("no_person_found", "nobody", "no_person_found: nobody")
    assert back.machine_dependent == (kind is not Reject)
    for either in (True, False):
        assert pickle.loads(pickle.dumps(kind("not_found", machine_dependent=either))).machine_dependent == either


def test_a_passing_trouble_is_a_failure_and_a_failure_is_told_from_a_rejection() -> None:
    assert issubclass(TransientError, PermanentError)
    assert issubclass(PermanentError, Reject)
    assert str(Reject("no_person_found")) == "no_person_found"


def test_places_of_files_are_recorded_by_their_names_only() -> None:
    @dataclass(frozen=True)
    class Loads(Engine):
        name: ClassVar[str] = "loads"
        path_fields: ClassVar[tuple[str, ...]] = ("weights_from", "cookies")

        weights_from: str = "yolo11m"
        cookies: str | None = None

    assert configuration(Loads()) == {"name": "loads", "weights_from": "yolo11m", "cookies": None}
    here, there = Loads("/mine/best.pt", "/home/me/cookies.txt"), Loads("weights/best.pt", "cookies.txt")
    assert configuration(here) == configuration(there)
    assert configuration(here)["weights_from"] == "best.pt"


def test_the_modules_that_shipped_pipelines_need_are_top_level_and_have_an_extra() -> None:
    found = {
        engine.name: engine
        for path in pipelines().values()
        for stage in load_pipeline(path).stages
        for engine in engines_of(stage)
        if engine.modules
    }
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert found
    for engine in found.values():
        assert engine.extra in extras
        assert not any("." in module for module in engine.modules)
