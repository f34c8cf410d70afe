"""Stages and engines as data: how they are written down, and what they may hold."""

import gc
import pickle
import threading
import tomllib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from posecap import stage
from posecap.builtin import pipelines
from posecap.pipeline import load_pipeline
from posecap.stage import (
    Engine,
    PermanentError,
    Reject,
    Stage,
    TransientError,
    configuration,
    engines_of,
    take_engine_seconds,
)
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


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stage, "perf_counter", made)
    take_engine_seconds()
    return made


@dataclass(frozen=True)
class Slow(Engine):
    clock: Clock = field(default_factory=Clock)
    name: ClassVar[str] = "slow"

    def detect(self, frames: Any) -> str:
        """Takes 2 seconds."""
        self.clock.now += 2
        if frames is None:
            raise ValueError("no frames")
        return "found"

    def accepts(self, media: Any) -> bool:
        self.clock.now += 5
        return True


@dataclass(frozen=True)
class Caller(Engine):
    inner: Slow
    name: ClassVar[str] = "outer"

    def detect(self, frames: Any) -> str:
        self.inner.clock.now += 1
        return self.inner.detect(frames) + self.inner.detect(frames)


@dataclass(frozen=True)
class Decoder(Engine):
    clock: Clock
    closed: list[bool] = field(default_factory=list)
    name: ClassVar[str] = "decoder"

    def frames(self, count: int) -> Iterator[np.ndarray]:
        try:
            for _ in range(count):
                self.clock.now += 3
                yield np.zeros(1)
        finally:
            self.closed.append(True)


def test_working_methods_are_counted_and_others_are_not(clock: Clock) -> None:
    engine = Slow(clock)
    assert engine.detect("frames") == "found"
    assert engine.accepts(None)
    with pytest.raises(ValueError, match="no frames"):
        engine.detect(None)
    assert take_engine_seconds() == {"slow": 4.0}
    assert take_engine_seconds() == {}
    assert Slow.detect.__doc__ == "Takes 2 seconds."


def test_what_an_engine_asks_another_counts_for_the_other(clock: Clock) -> None:
    Caller(Slow(clock)).detect("frames")
    assert take_engine_seconds() == {"slow": 4.0, "outer": 1.0}


def test_an_iterator_is_counted_by_step_without_what_happens_in_between(clock: Clock) -> None:
    engine = Decoder(clock)
    for _ in engine.frames(3):
        clock.now += 100
    assert take_engine_seconds() == {"decoder": 9.0}
    assert engine.closed == [True]


def test_an_iterator_that_is_left_is_closed_and_holds_no_frames(clock: Clock) -> None:
    engine = Decoder(clock)
    steps = engine.frames(3)
    frame = next(steps)
    gone = weakref.ref(frame)
    del frame
    gc.collect()
    assert gone() is None
    steps.close()  # type: ignore[attr-defined]
    assert engine.closed == [True]


def test_each_thread_counts_by_itself(clock: Clock) -> None:
    engine = Slow(clock)
    thread = threading.Thread(target=engine.detect, args=("frames",))
    thread.start()
    thread.join()
    assert take_engine_seconds() == {}


def test_engines_can_be_pickled() -> None:
    pickle.loads(pickle.dumps(Slow())).detect("frames")
    assert take_engine_seconds() == {"slow": 0.0}
