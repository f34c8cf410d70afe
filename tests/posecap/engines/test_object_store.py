"""ObjectStore against fsspec's store in memory, and against one that fails as real ones do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from posecap.download.retry import RetryPolicy
from posecap.engines.object_store import ObjectStore
from posecap.interfaces import Limits
from posecap.stage import Reject, TransientError

BODY = bytes(range(256)) * 10_000
ENGINE = ObjectStore(schemes=("memory", "flaky"), retry_policy=RetryPolicy(attempts=3, base_seconds=0.01))


class FlakyStore(MemoryFileSystem):  # type: ignore[misc]
    """Raises ``troubles``, one a call, before it answers."""

    protocol = "flaky"
    cachable = False
    troubles: list[BaseException] = []  # noqa: RUF012  (shared on purpose: fsspec makes the instances)
    hold: threading.Event | None = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("flaky://", "memory://"))  # type: ignore[no-any-return]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if self.hold:
            self.hold.wait(5)
        if self.troubles:
            raise self.troubles.pop(0)
        return super().info(path, **options)  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def store() -> Iterator[MemoryFileSystem]:
    fsspec.register_implementation("flaky", FlakyStore, clobber=True)
    FlakyStore.troubles, FlakyStore.hold = [], None
    memory = fsspec.filesystem("memory")
    memory.pipe({"/b/a.mp4": BODY, "/b/empty.mp4": b""})
    yield memory
    memory.rm("/b", recursive=True)


def refusal(uri: str, folder: Path, *, engine: ObjectStore = ENGINE, limits: Limits | None = None) -> Reject:
    with pytest.raises(Reject) as caught:
        engine.fetch(uri, folder, limits=limits or Limits())
    assert list(folder.iterdir()) == []
    return caught.value


def test_copies_the_object(tmp_path: Path) -> None:
    fetched = ENGINE.fetch("memory://b/a.mp4", tmp_path, limits=Limits(size_bytes=len(BODY)))
    assert fetched.path.read_bytes() == BODY
    assert (fetched.keeping, fetched.path.suffix, list(tmp_path.iterdir())) == ("temporary", ".mp4", [fetched.path])


def test_only_its_schemes_and_no_chains() -> None:
    assert ObjectStore().accepts("s3://bucket/a.mp4")
    assert ObjectStore().accepts("GS://bucket/a.mp4")
    for uri in (
        "memory://b/a",
        "s3",
        "/s3/a",
        "http://h/a",
        "file:///a",
        "s3://b::zip://a",
        "zip::s3://b",
        "ftp://h/a",
    ):
        assert not ObjectStore().accepts(uri)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [("memory://b/none.mp4", "not_found"), ("memory://b", "not_a_file"), ("memory://b/empty.mp4", "empty_file")],
)
def test_refusals(tmp_path: Path, uri: str, reason: str) -> None:
    found = refusal(uri, tmp_path)
    assert (type(found), found.reason) == (Reject, reason)


def test_too_large_by_its_announcement_and_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Limits(size_bytes=len(BODY) - 1)
    assert refusal("memory://b/a.mp4", tmp_path, limits=small).reason == "too_large"
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_a, **_k: {"type": "file", "size": None})
    assert refusal("memory://b/a.mp4", tmp_path, limits=small).reason == "too_large"


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), RuntimeError("SlowDown, request id 4711")])
def test_passing_troubles_are_tried_again(tmp_path: Path, error: BaseException) -> None:
    FlakyStore.troubles = [error, error]
    assert ENGINE.fetch("flaky://b/a.mp4", tmp_path, limits=Limits()).path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (TimeoutError("4711"), TransientError, "timeout"),
        (OSError(28, "4711"), TransientError, "disk_full"),
        (RuntimeError("4711"), TransientError, "object_store"),
        (PermissionError("4711"), Reject, "forbidden"),
        (ValueError("4711"), Reject, "bad_uri"),
    ],
)
def test_errors_become_ours_without_their_words(
    tmp_path: Path, error: BaseException, kind: type[Reject], reason: str
) -> None:
    FlakyStore.troubles = [error] * 3
    found = refusal("flaky://b/a.mp4", tmp_path)
    assert (type(found), found.reason) == (kind, reason)
    assert "4711" not in found.detail
    assert len(FlakyStore.troubles) == (0 if kind is TransientError else 2)


def test_a_store_that_hangs_is_left_at_the_time_limit(tmp_path: Path) -> None:
    FlakyStore.hold = threading.Event()
    found = refusal("flaky://b/a.mp4", tmp_path, limits=Limits(seconds=0.2))
    FlakyStore.hold.set()
    assert (type(found), found.reason) == (TransientError, "timeout")


def test_a_missing_back_end_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_uri: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    found = refusal("s3://b/a.mp4", tmp_path, engine=ObjectStore())
    assert (type(found), found.reason, waits) == (TransientError, "missing_package", [])
    assert "s3://" in found.detail
