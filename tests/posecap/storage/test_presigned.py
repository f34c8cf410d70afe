"""What is read by presigned URLs, and what is left to s3fs."""

from __future__ import annotations

import io
import os
import traceback
from types import SimpleNamespace

import pytest
import urllib3

from posecap.files import ShardError
from posecap.storage import RemoteStorage, StorageError
from posecap.storage import presigned as module
from posecap.types import FileRange
from tests.faulty_store import Fault, FaultyStore, Kind

BODY = bytes(range(256)) * 1000


@pytest.fixture
def written(storage: RemoteStorage, store: FaultyStore) -> RemoteStorage:
    storage.write("data/tar", BODY)
    store.requests.clear()
    return storage


def reader(storage: RemoteStorage) -> module.PresignedReader:
    return module._READERS[storage.address, os.getpid()]


def signed(store: FaultyStore) -> list[bool]:
    """Of each request whether it was by a presigned URL, with the signature that every store takes."""
    return ["X-Amz-Algorithm=AWS4-HMAC-SHA256" in path for _, path in store.requests]


def test_ranges_are_read_by_urls(written: RemoteStorage, store: FaultyStore) -> None:
    assert written.read_range("data/tar", 1000, 500) == BODY[1000:1500]
    ranges = [FileRange("data/tar", start, 70_000) for start in (0, 180_000)]
    assert [bytes(found) for found in written.read_ranges(ranges)] == [BODY[:70_000], BODY[180_000:250_000]]
    assert written.read("data/tar", limit=len(BODY)) == BODY
    assert signed(store) == [True] * 4
    assert len({path for _, path in store.requests}) == 1  # signed once


def test_what_is_not_there_is_said_by_s3fs_and_is_no_failure(written: RemoteStorage, store: FaultyStore) -> None:
    with pytest.raises(FileNotFoundError):
        written.read_range("data/nothing", 0, 10)
    with pytest.raises(ShardError, match="ends before byte"):
        written.read_range("data/tar", len(BODY) + 5, 2)
    assert signed(store) == [True, False] * 2
    assert written.read_range("data/tar", 0, 5) == BODY[:5]
    assert signed(store)[-1]


@pytest.mark.parametrize("kind", ["denied", "unavailable", "answer_lost"])
def test_after_a_failure_s3fs_alone_is_asked_for_a_while(
    written: RemoteStorage, store: FaultyStore, kind: Kind
) -> None:
    store.faults.append(Fault("GET", "X-Amz-Signature", kind))
    assert written.read_range("data/tar", 7, 100) == BODY[7:107]
    assert written.read_range("data/tar", 8, 100) == BODY[8:108]
    assert signed(store) == [True, False, False]
    reader(written)._not_before -= module._PAUSE_SECONDS
    assert written.read_range("data/tar", 9, 100) == BODY[9:109]
    assert signed(store)[3:] == [True]


def test_a_url_is_signed_anew_after_a_while(written: RemoteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    written.read_range("data/tar", 0, 10)
    monkeypatch.setattr(module, "_SIGNED_SECONDS", 1)  # so that another period has begun
    written.read_range("data/tar", 0, 10)
    assert reader(written)._signed.cache_info().misses == 2


def test_an_answer_that_is_larger_than_what_was_asked_for_is_not_read(written: RemoteStorage) -> None:
    written.read_range("data/tar", 0, 10)
    body = io.BytesIO(BODY)
    headers = {"Content-Length": str(len(BODY))}
    answer = urllib3.HTTPResponse(body, headers=headers, status=206, preload_content=False)
    asked = reader(written)
    asked._pool = SimpleNamespace(request=lambda *_, **__: answer)
    assert asked.read(f"{written.address.removeprefix('s3://')}/data/tar", 0, 10) is None
    assert body.closed or body.tell() == 0


def test_errors_hold_no_signature(written: RemoteStorage, store: FaultyStore) -> None:
    store.faults += [Fault("GET", "data/tar", "reset"), Fault("GET", "data/tar", "denied", times=1000)]
    with pytest.raises(StorageError) as raised:
        written.read_range("data/tar", 0, 10)
    assert signed(store)[0]
    assert "Signature" not in "".join(traceback.format_exception(raised.value))


def test_a_proxy_of_the_environment_is_left_to_s3fs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert not module._needs_proxy("https://bucket.s3.amazonaws.com/key?X-Amz-Signature=0")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    assert module._needs_proxy("https://bucket.s3.amazonaws.com/key?X-Amz-Signature=0")
    monkeypatch.setenv("NO_PROXY", "s3.amazonaws.com")
    assert not module._needs_proxy("https://bucket.s3.amazonaws.com/key?X-Amz-Signature=0")
