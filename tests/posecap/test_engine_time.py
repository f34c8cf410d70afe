import gc
import pickle
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from posecap import engine_time
from posecap.stage import Engine


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(engine_time, "perf_counter", made)
    engine_time.take()
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
class Outer(Engine):
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
    assert engine_time.take() == {"slow": 4.0}
    assert engine_time.take() == {}
    assert Slow.detect.__doc__ == "Takes 2 seconds."


def test_what_an_engine_asks_another_counts_for_the_other(clock: Clock) -> None:
    Outer(Slow(clock)).detect("frames")
    assert engine_time.take() == {"slow": 4.0, "outer": 1.0}


def test_an_iterator_is_counted_by_step_without_what_happens_in_between(clock: Clock) -> None:
    engine = Decoder(clock)
    for _ in engine.frames(3):
        clock.now += 100
    assert engine_time.take() == {"decoder": 9.0}
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
    assert engine_time.take() == {}


def test_engines_can_be_pickled() -> None:
    pickle.loads(pickle.dumps(Slow())).detect("frames")
    assert engine_time.take() == {"slow": 0.0}
