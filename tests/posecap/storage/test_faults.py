"""A store that is throttled, slow, breaks connections off or refuses: what is repeated, how long, and what is said."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest

from posecap.shards import ShardError, commit_part, committed, read_part, write_files, write_part
from posecap.storage import RemoteStorage, StorageError, open_storage
from posecap.storage import remote as module
from posecap.types import FileRange
from posecap.verify import verify
from tests import built, object_store
from tests.built import FIRST
from tests.faulty_store import Fault, FaultyStore, Kind

BODY = bytes(range(256)) * (48 << 12)  # 48 MiB, three pieces of an upload


def slowly(kind: Kind) -> object:
    return pytest.param(kind, marks=pytest.mark.slow)


@pytest.mark.parametrize("kind", [slowly("throttled"), slowly("unavailable"), slowly("error"), "reset", "answer_lost"])
def test_what_passes_is_repeated(storage: RemoteStorage, store: FaultyStore, kind: Kind) -> None:
    store.faults += [Fault("PUT", "poses/a", kind, times=3), Fault("GET", "poses/a", kind, times=3)]
    storage.write("a", b"one")
    assert storage.read("a", limit=10) == b"one"
    assert [fault.times for fault in store.faults] == [0, 0]


@pytest.mark.parametrize(("refused", "one_by_one"), [(0, 0), (1, 3)])
def test_many_files_are_deleted_in_one_request_or_one_by_one_where_the_store_refuses_that(
    storage: RemoteStorage, store: FaultyStore, refused: int, one_by_one: int
) -> None:
    for name in ("a", "b", "c"):
        storage.write(f"scratch/{name}", b"x")
    store.faults.append(Fault("POST", "delete", "denied", times=refused))
    storage.discard(["scratch/a", "scratch/b", "scratch/nothing"])
    assert [file.name for file in storage.list("scratch")] == ["scratch/c"]
    assert [method for method, _ in store.requests].count("DELETE") == one_by_one


def test_a_store_that_does_not_list_unfinished_uploads_keeps_them(storage: RemoteStorage, store: FaultyStore) -> None:
    store.faults.append(Fault("GET", "uploads", "unknown"))
    storage.remove_unfinished_uploads()
    assert store.faults[0].times == 0


def test_a_lost_answer_to_a_creation_is_no_refusal(storage: RemoteStorage, store: FaultyStore) -> None:
    storage.create("before", b"finds out that the store can refuse")
    store.faults.append(Fault("PUT", "poses/once", "answer_lost", times=2))
    storage.create("once", b"mine")
    with pytest.raises(FileExistsError):
        storage.create("once", b"another's")
    assert storage.read("once", limit=10) == b"mine"


def test_a_refusal_that_does_not_name_the_condition_is_one(
    storage: RemoteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SeaweedFS answers, which s3fs does not take for a file that exists."""
    import s3fs.core

    translate = s3fs.core.translate_boto_error

    def unnamed(error: Any, *args: Any, **options: Any) -> Any:
        error.response["Error"].pop("Condition", None)
        return translate(error, *args, **options)

    monkeypatch.setattr(s3fs.core, "translate_boto_error", unnamed)
    storage.create("once", b"mine")
    with pytest.raises(FileExistsError):
        storage.create("once", b"another's")
    assert storage.read("once", limit=10) == b"mine"
    assert storage._creates_atomically


def test_ranges_that_follow_each_other_cost_one_request(storage: RemoteStorage, store: FaultyStore) -> None:
    body = bytes(range(256)) * 1000
    storage.write("tar", body)
    storage.write("other", body)
    wanted = [FileRange("tar", 0, 100), FileRange("tar", 512, 1000), FileRange("other", 5, 7), FileRange("tar", 200, 9)]
    store.requests.clear()
    found = list(storage.read_ranges(wanted))
    assert found == [body[one.offset : one.offset + one.size] for one in wanted]
    assert [method for method, _ in store.requests] == ["GET"] * 3
    cut = [FileRange("tar", len(body) - 10, 10), FileRange("tar", len(body), 10)]
    beginning = storage.read_ranges(cut)
    assert next(beginning) == body[-10:]  # though the second one is not there
    with pytest.raises(ShardError, match="ends before byte"):
        next(beginning)


def test_large_files_are_copied_in_pieces_at_a_time(
    storage: RemoteStorage, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES_COPIED_WHOLE", 11 << 20)
    monkeypatch.setattr(module, "_COPIED_PIECE_BYTES", 5 << 20)
    body = os.urandom(11 << 20) + b"and some more"
    storage.write("large", body)
    store.faults.append(Fault("PUT", "partNumber=2", "throttled", times=1))
    storage.copy("large", "copy")
    assert storage.read("copy", limit=12 << 20) == body
    assert sum("partNumber" in path for _, path in store.requests) == 4  # three pieces, one of them twice
    failing = replace(storage, longest_seconds=0.2)
    store.faults.append(Fault("POST", "uploadId", "denied", times=10**6))
    with pytest.raises(StorageError):
        failing.copy("large", "second")
    store.faults.clear()
    assert [file.name for file in storage.list()] == ["copy", "large"]
    import s3fs

    assert s3fs.S3FileSystem().list_multipart_uploads(storage.address.split("/")[2]) == []


def test_a_store_that_ignores_conditions_is_found_out(storage: RemoteStorage, store: FaultyStore) -> None:
    store.faults.append(Fault("PUT", "poses/", "unconditional", times=10**6))
    storage.create("once", b"mine")
    with pytest.raises(FileExistsError):
        storage.create("once", b"another's")
    assert storage.read("once", limit=10) == b"mine"
    assert [file.name for file in storage.list()] == ["once"]


@pytest.mark.parametrize("kind", ["reset", slowly("throttled"), slowly("answer_lost")])
def test_an_upload_in_pieces_survives(storage: RemoteStorage, store: FaultyStore, kind: Kind) -> None:
    store.faults.append(Fault("PUT", "partNumber=2", kind, times=2))
    store.faults.append(Fault("POST", "uploadId", kind, times=1))
    with storage.writer("large") as file:
        file.write(BODY)
        written = file.finish()
        file.publish()
    assert store.faults[0].times == 0
    assert written.size_bytes == storage.size("large") == len(BODY)
    assert storage.read_range("large", len(BODY) - 1000, 1000) == BODY[-1000:]
    assert [file.name for file in storage.list()] == ["large"]


@pytest.mark.slow
def test_an_upload_that_cannot_be_finished_leaves_nothing(storage: RemoteStorage, store: FaultyStore) -> None:
    import s3fs

    short = replace(storage, longest_seconds=1.0)
    store.faults.append(Fault("PUT", "partNumber=2", "reset", times=10**6))

    def upload() -> None:
        with short.writer("large") as file:
            file.write(BODY)
            file.finish()

    since = time.monotonic()
    with pytest.raises(StorageError, match=r"large.*: the store failed to write for 1 s .*run the same command again"):
        upload()
    assert time.monotonic() - since < 60
    assert list(storage.list()) == []
    assert s3fs.S3FileSystem().list_multipart_uploads(storage.address.split("/")[2]) == []


def test_uploads_of_killed_processes_are_forgotten(storage: RemoteStorage, bucket: str) -> None:
    import s3fs

    files = s3fs.S3FileSystem()
    name = bucket.removeprefix("s3://")
    for key in ("poses/data/left", "another/left"):
        files.call_s3("create_multipart_upload", Bucket=name, Key=key)
    storage.remove_unfinished_uploads()
    assert [upload["Key"] for upload in files.list_multipart_uploads(name)] == ["another/left"]


@pytest.mark.slow
def test_a_slow_store_is_waited_for(storage: RemoteStorage, store: FaultyStore) -> None:
    store.faults.append(Fault("PUT", "poses/a", "slow", seconds=3.0))
    storage.write("a", b"one")
    assert storage.size("a") == 3


@pytest.mark.parametrize("kind", [slowly("throttled"), slowly("error"), slowly("reset")])
def test_a_store_that_stays_down_is_named_with_the_remedy(
    storage: RemoteStorage, store: FaultyStore, kind: Kind
) -> None:
    store.faults.append(Fault("GET", "poses/a", kind, times=10**6))
    short = replace(storage, longest_seconds=0.5)
    since = time.monotonic()
    with pytest.raises(StorageError, match=r"/poses/a: the store failed to read for 0.5 s .*it is throttled, down"):
        short.read("a", limit=10)
    assert time.monotonic() - since < 60


def test_a_refusal_is_not_repeated_and_shows_no_credentials(storage: RemoteStorage, store: FaultyStore) -> None:
    store.faults.append(Fault("PUT", "poses/a", "denied", times=10**6))
    with pytest.raises(StorageError, match=r"does not let this user write .*check the credentials") as caught:
        storage.write("a", b"one")
    assert 10**6 - store.faults[0].times == 1
    for secret in (*object_store.ENVIRONMENT.values(),):
        if "127.0.0.1" not in secret:
            assert secret not in str(caught.value)


def test_missing_credentials_are_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with (
        object_store.clients({}),
        pytest.raises(StorageError, match="check the credentials in the environment"),
    ):
        open_storage(f"{bucket}/poses").write("a", b"one")


@pytest.mark.parametrize("kind", [slowly("throttled"), slowly("reset"), slowly("answer_lost")])
def test_a_part_is_committed_through_faults_byte_for_byte(
    storage: RemoteStorage, store: FaultyStore, kind: Kind, tmp_path: object
) -> None:
    samples = built.parts()[FIRST]
    record = built.record(samples)
    for method, fragment in (("PUT", "pose-00000"), ("GET", "poses"), ("DELETE", "tmp"), ("HEAD", "pose")):
        store.faults.append(Fault(method, fragment, kind, times=2))
    commit_part(storage, FIRST, write_files(storage, FIRST, samples, record=record), record=record)
    write_part(str(tmp_path), FIRST, samples, record=record)
    assert built.files(storage) == built.files(str(tmp_path))
    assert [sample.key for sample in read_part(storage, FIRST)] == [sample.key for sample in samples]
    assert committed(storage) == [FIRST]
    assert {problem.file for problem in verify(storage).problems} == {"dataset.json"}


@pytest.mark.parametrize(("status", "passes"), [(403, False), (404, False), (416, False), (429, True), (503, True)])
def test_what_azures_library_says_passes_by_its_status(status: int, passes: bool) -> None:
    class HttpResponseError(Exception):
        __module__ = "azure.core.exceptions"
        status_code = status

    assert module._may_pass(HttpResponseError()) is passes
    if status == 404:
        said = str(RemoteStorage("az://poses/a")._error("write", "b", HttpResponseError()))
        assert said.startswith("az://poses/a/b: there is no such bucket or container")
