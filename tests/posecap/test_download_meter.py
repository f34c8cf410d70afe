from __future__ import annotations

import io

import pytest
from rich.console import Console

from posecap.progress import Meter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def plain(clock: Clock) -> tuple[io.StringIO, Meter]:
    out = io.StringIO()
    return out, Meter("net", console=Console(file=out), clock=clock)


def test_a_plain_line_every_half_minute(clock: Clock) -> None:
    out, meter = plain(clock)
    with meter:
        for second in range(0, 61, 10):
            clock.now = second
            meter.told(second * 1_000_000, 120_000_000)
    assert out.getvalue().splitlines() == [
        "net  30.0 of 120.0 MB (25 %)  1.0 MB/s  ETA 1:30",
        "net  60.0 of 120.0 MB (50 %)  1.0 MB/s  ETA 1:00",
    ]


def test_bytes_of_an_earlier_run_are_in_no_rate(clock: Clock) -> None:
    out, meter = plain(clock)
    meter.told(90_000_000, 120_000_000)
    clock.now = 30
    meter.told(105_000_000, 120_000_000)
    assert out.getvalue() == "net  105.0 of 120.0 MB (88 %)  0.5 MB/s  ETA 0:30\n"


def test_a_start_over_starts_the_rate_over(clock: Clock) -> None:
    out, meter = plain(clock)
    meter.told(90_000_000, None)
    clock.now = 20
    meter.told(0, None)
    clock.now = 40
    meter.told(20_000_000, None)
    assert out.getvalue() == "net  20.0 MB  1.0 MB/s  ETA unknown\n"


def test_a_terminal_shows_one_line_and_clears_it(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    with Meter("net", console=console, clock=clock) as meter:
        meter.told(0, 10_000_000)
        clock.now = 2
        meter.told(5_000_000, 10_000_000)
    assert "net  5.0 of 10.0 MB (50 %)  2.5 MB/s  ETA 0:02" in out.getvalue()
