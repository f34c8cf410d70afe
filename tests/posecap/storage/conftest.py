"""A store that fails on demand, and a dataset's place in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from posecap.storage import RemoteStorage, open_storage
from posecap.storage import remote as module
from tests import faulty_store, object_store
from tests.faulty_store import FaultyStore


@pytest.fixture(scope="session")
def faulty(s3_endpoint: str) -> Iterator[FaultyStore]:
    """In front of the S3 server, for the session."""
    with faulty_store.proxy(s3_endpoint) as store:
        yield store


@pytest.fixture(scope="session")
def faulty_clients() -> dict[str, Any]:
    """Of the proxy, which tests share (:func:`tests.object_store.clients`)."""
    return {}


@pytest.fixture
def store(
    bucket: str, faulty: FaultyStore, faulty_clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyStore]:
    """Without a fault and without a request so far."""
    monkeypatch.setattr(module, "_FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.endpoint)
    faulty.requests.clear()
    with object_store.clients(faulty_clients):
        yield faulty
    faulty.faults.clear()


@pytest.fixture
def storage(bucket: str, store: FaultyStore) -> RemoteStorage:
    found = open_storage(f"{bucket}/poses")
    assert isinstance(found, RemoteStorage)
    return found
