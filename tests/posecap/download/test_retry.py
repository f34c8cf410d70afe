"""Rate limits that a machine shares, retries, time limits, and limits on what is asked of a host."""

from __future__ import annotations

import math
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from posecap.download import retry as retry_module
from posecap.download.retry import (
    HostLimits,
    HostSlot,
    RetryAfter,
    RetryPolicy,
    host_of,
    retry,
    wait_for_rate_limit,
    with_timeout,
)
from posecap.stage import PermanentError, Reject, TransientError
from tests.concurrency import AtOnce


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
    monkeypatch.setattr(retry_module, "time", clock)
    return clock


def test_turns_come_one_after_another(tmp_path: Path, clock: Clock) -> None:
    for _ in range(3):
        wait_for_rate_limit(tmp_path / "book", per_minute=20, until=2000.0)
    assert clock.slept == [0.0, 3.0, 6.0]
    clock.now += 60
    wait_for_rate_limit(tmp_path / "book", per_minute=20, until=2000.0)
    assert clock.slept[-1] == 0.0


def test_a_turn_that_comes_too_late_is_left_to_others(tmp_path: Path, clock: Clock) -> None:
    wait_for_rate_limit(tmp_path / "book", per_minute=1, until=2000.0)
    for _ in range(2):
        with pytest.raises(TransientError) as caught:
            wait_for_rate_limit(tmp_path / "book", per_minute=1, until=1059.0)
        assert caught.value.reason == "no_turn"
    wait_for_rate_limit(tmp_path / "book", per_minute=1, until=2000.0)
    assert clock.slept == [0.0, 60.0]


def test_a_queue_of_hours_is_kept_in_order(tmp_path: Path, clock: Clock) -> None:
    for _ in range(3):
        wait_for_rate_limit(tmp_path / "book", per_minute=1 / 120, until=1e6)
    assert clock.slept == [0.0, 7200.0, 14400.0]


def test_turns_given_before_the_clock_was_set_back_are_forgotten(tmp_path: Path, clock: Clock) -> None:
    for _ in range(3):
        wait_for_rate_limit(tmp_path / "book", per_minute=20, until=2000.0)
    clock.now -= 500
    wait_for_rate_limit(tmp_path / "book", per_minute=20, until=2000.0)
    assert clock.slept[-1] == 0.0


@pytest.mark.parametrize(
    "content", ["", "tomorrow", "nan nan", "1003 nan", "inf 1000", "9e99", "-5 1000", "1 2 3", "\udcff"]
)
def test_a_spoilt_book_is_begun_again(tmp_path: Path, clock: Clock, content: str) -> None:
    (tmp_path / "book").write_bytes(content.encode(errors="surrogateescape"))
    wait_for_rate_limit(tmp_path / "book", per_minute=20, until=2000.0)
    assert clock.slept == [0.0]


def test_threads_share_the_book(tmp_path: Path) -> None:
    since = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        turns = [
            pool.submit(wait_for_rate_limit, tmp_path / "book", per_minute=1200, until=since + 60) for _ in range(6)
        ]
        for turn in turns:
            turn.result()
    assert time.monotonic() - since >= 5 * 60 / 1200 - 0.01


# .


class Attempts:
    """Raises the troubles given, one a call, then returns ``here``; remembers when sleep was asked for."""

    def __init__(self, *troubles: Reject) -> None:
        self.troubles, self.calls = list(troubles), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.troubles:
            raise self.troubles.pop(0)
        return "here"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def test_waits_double_up_to_the_longest(slept: list[float]) -> None:
    attempt = Attempts(*[TransientError("busy")] * 5)
    retry_policy = RetryPolicy(attempts=6, base_seconds=1.0, longest_wait_seconds=5.0)
    assert retry(attempt, policy=retry_policy, until=time.monotonic() + 100) == "here"
    assert slept == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_last_trouble_is_raised_when_attempts_are_used_up(slept: list[float]) -> None:
    attempt = Attempts(TransientError("first"), TransientError("second"), TransientError("third"))
    with pytest.raises(TransientError, match="second"):
        retry(attempt, policy=RetryPolicy(attempts=2), until=time.monotonic() + 100)
    assert (attempt.calls, slept) == (2, [1.0])


@pytest.mark.parametrize("final", [Reject("gone"), PermanentError("broken")])
def test_only_retries_are_tried_again(slept: list[float], final: Reject) -> None:
    attempt = Attempts(final)
    with pytest.raises(type(final)):
        retry(attempt, policy=RetryPolicy(), until=time.monotonic() + 100)
    assert (attempt.calls, slept) == (1, [])


def test_a_wait_that_was_asked_for_is_kept(slept: list[float]) -> None:
    attempt = Attempts(RetryAfter("busy", seconds=30))
    assert retry(attempt, policy=RetryPolicy(), until=time.monotonic() + 100) == "here"
    assert slept == [30]


@pytest.mark.parametrize(("asked", "left"), [(61, 1000), (30, 20)])
def test_too_long_a_wait_gives_up_at_once(slept: list[float], asked: float, left: float) -> None:
    attempt = Attempts(RetryAfter("busy", seconds=asked))
    with pytest.raises(RetryAfter):
        retry(attempt, policy=RetryPolicy(longest_wait_seconds=60), until=time.monotonic() + left)
    assert (attempt.calls, slept) == (1, [])


def test_no_attempt_is_refused() -> None:
    with pytest.raises(ValueError, match="attempts is 0"):
        RetryPolicy(attempts=0)


@pytest.mark.parametrize("fields", [{"base_seconds": -1.0}, {"longest_wait_seconds": -1.0}])
def test_a_negative_wait_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))} (is )?-1"):
        RetryPolicy(**fields)


def test_asked_to_wait_travels_between_processes() -> None:
    there = pickle.loads(pickle.dumps(RetryAfter("http_503", "answered 503", seconds=9)))
    assert (type(there), there.reason, there.detail) == (RetryAfter, "http_503", "answered 503")


def test_within_gives_results_and_errors_as_they_are() -> None:
    assert with_timeout(5, lambda: 42, what="sum") == 42
    with pytest.raises(ZeroDivisionError):
        with_timeout(5, lambda: 1 // 0, what="division")


def test_within_tells_its_own_timeout_from_one_inside() -> None:
    def inner() -> None:
        raise TimeoutError("inside")

    with pytest.raises(TimeoutError, match="inside"):
        with_timeout(5, inner, what="work")
    hold = threading.Event()
    with pytest.raises(TransientError, match=r"timeout: work: not finished within 0\.05 s"):
        with_timeout(0.05, lambda: hold.wait(5), what="work")
    hold.set()


@pytest.fixture(autouse=True)
def nothing_is_known_of_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests before these may have made hosts of theirs ask for long pauses."""
    monkeypatch.setattr(retry_module, "_hosts", {})


def slot(limits: HostLimits | None = None, *, longest: float = 60.0) -> HostSlot:
    return HostSlot(limits or HostLimits(), longest_pause_seconds=longest)


def soon(seconds: float = 0.05) -> float:
    return time.monotonic() + seconds


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://Example.org/a", "example.org:80"),
        ("https://me:word@example.org/a?b#c", "example.org:443"),
        ("http://[::1]:8080/", "::1:8080"),
        ("http://example.org:port/", ""),
        ("http://[bad/", ""),
        ("rows.mp4", ""),
    ],
)
def test_a_host_is_a_name_and_a_port(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize("wrong", [{"connections": 0}, {"requests_per_second": 0.0}, {"requests_per_second": math.nan}])
def test_limits_that_let_nothing_through_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs connections >= 1"):
        HostLimits(**wrong)  # type: ignore[arg-type]


def test_no_more_connections_than_allowed_over_all_threads() -> None:
    at_once = AtOnce()

    def download(_: int) -> None:
        with slot(HostLimits(connections=3)) as mine:
            mine.take("a:80")
            with at_once:
                time.sleep(0.005)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(download, range(36)))
    assert at_once.most == 3
    assert retry_module._hosts == {}  # a host that is done with is forgotten


def test_another_host_is_not_waited_for() -> None:
    with slot(HostLimits(connections=1)) as one, slot(HostLimits(connections=1)) as other:
        one.take("a:80")
        other.take("b:80", until=soon())


def test_a_connection_that_is_not_free_in_time() -> None:
    with slot(HostLimits(connections=1)) as one, slot(HostLimits(connections=1)) as other:
        one.take("a:80")
        with pytest.raises(TransientError) as caught:
            other.take("a:80", until=soon())
        assert caught.value.reason == "no_turn"
        one.take("b:80")  # gives the first one back
        other.take("a:80", until=soon())


def test_a_download_that_is_over_takes_none() -> None:
    with slot() as late:
        pass
    with pytest.raises(TransientError, match="no_turn"):
        late.take("a:80", until=soon())
    assert retry_module._hosts == {}


def test_an_interrupted_wait_is_not_counted_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    with slot(HostLimits(connections=1)) as one:
        one.take("a:80")
        monkeypatch.setattr(retry_module._changed, "wait_for", interrupted)
        with slot(HostLimits(connections=1)) as other, pytest.raises(KeyboardInterrupt):
            other.take("a:80")
        assert retry_module._hosts["a:80"].waiting == 0
    assert retry_module._hosts == {}  # the host can be forgotten


def test_requests_are_spaced() -> None:
    with slot(HostLimits(requests_per_second=50)) as mine:
        mine.take("a:80")
        since = time.monotonic()
        for _ in range(4):
            mine.wait_for_turn(until=math.inf)
        assert 0.055 <= time.monotonic() - since < 1
        with pytest.raises(TransientError, match="no_turn"):
            mine.wait_for_turn(until=soon(0.001))


def test_a_pause_holds_for_every_download_of_the_host() -> None:
    with slot() as asked, slot() as other, slot() as elsewhere:
        asked.take("a:80")
        asked.pause(0.08)
        since = time.monotonic()
        elsewhere.take("b:80")
        elsewhere.wait_for_turn(until=soon(0.01))
        other.take("a:80")
        other.wait_for_turn(until=math.inf)
        assert time.monotonic() - since >= 0.07


def test_a_long_pause_is_not_waited_for() -> None:
    with slot() as asked:
        asked.take("a:80")
        asked.pause(0.2)
    with slot(longest=0.1) as other:  # also when nobody holds a connection any more
        other.take("a:80")
        with pytest.raises(TransientError) as caught:
            other.wait_for_turn(until=math.inf)
    assert caught.value.reason == "host_paused"
    retry_module._hosts.clear()
