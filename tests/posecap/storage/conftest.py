"""A store that fails on demand, and a dataset's place in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from posecap.storage import RemoteStorage, open_storage
from posecap.storage import remote as module
from tests import faulty_store
from tests.faulty_store import FaultyStore


@pytest.fixture
def store(bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    import s3fs

    monkeypatch.setattr(module, "_FIRST_WAIT_SECONDS", 0.05)
    with faulty_store.proxy(s3_endpoint) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        s3fs.S3FileSystem.clear_instance_cache()
        yield store


@pytest.fixture
def storage(bucket: str, store: FaultyStore) -> RemoteStorage:
    found = open_storage(f"{bucket}/poses")
    assert isinstance(found, RemoteStorage)
    return found
