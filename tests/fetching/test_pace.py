"""Turns shared by everything on a machine."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from posecap.fetching import pace
from posecap.fetching.pace import wait_for_turn
from posecap.stage import Retry


class Clock:
    """Stands still but for the sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def test_turns_come_one_after_another(tmp_path: Path, clock: Clock) -> None:
    for _ in range(3):
        wait_for_turn(tmp_path / "book", per_minute=20, until=2000.0)
    assert clock.slept == [0.0, 3.0, 6.0]
    clock.now += 60
    wait_for_turn(tmp_path / "book", per_minute=20, until=2000.0)
    assert clock.slept[-1] == 0.0


def test_a_turn_that_comes_too_late_is_left_to_others(tmp_path: Path, clock: Clock) -> None:
    wait_for_turn(tmp_path / "book", per_minute=1, until=2000.0)
    for _ in range(2):
        with pytest.raises(Retry) as caught:
            wait_for_turn(tmp_path / "book", per_minute=1, until=1059.0)
        assert caught.value.reason == "no_turn"
    wait_for_turn(tmp_path / "book", per_minute=1, until=2000.0)
    assert clock.slept == [0.0, 60.0]


@pytest.mark.parametrize("content", ["", "tomorrow", "nan", "inf", "9e99", "-5", "\udcff"])
def test_a_spoilt_book_is_begun_again(tmp_path: Path, clock: Clock, content: str) -> None:
    (tmp_path / "book").write_bytes(content.encode(errors="surrogateescape"))
    wait_for_turn(tmp_path / "book", per_minute=20, until=2000.0)
    assert clock.slept == [0.0]


def test_threads_share_the_book(tmp_path: Path) -> None:
    since = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        turns = [pool.submit(wait_for_turn, tmp_path / "book", per_minute=1200, until=since + 60) for _ in range(6)]
        for turn in turns:
            turn.result()
    assert time.monotonic() - since >= 5 * 60 / 1200 - 0.01
