from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from posecap.download import host_limits
from posecap.download.host_limits import HostLimits, HostSlot, host_of
from posecap.stage import TransientError
from tests.concurrency import AtOnce


@pytest.fixture(autouse=True)
def nothing_is_known_of_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests before these may have made hosts of theirs ask for long pauses."""
    monkeypatch.setattr(host_limits, "_hosts", {})


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
    assert host_limits._hosts == {}  # a host that is done with is forgotten


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
    assert host_limits._hosts == {}


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
    host_limits._hosts.clear()
