"""A folder, fsspec's store in memory and servers of S3, Google and Azure keep the same contract."""

from __future__ import annotations

import hashlib
import pickle
import secrets
import threading
from pathlib import Path

import numpy as np
import pytest
from fsspec.registry import _registry, known_implementations

from posecap.files import ShardError, scratch_folder
from posecap.storage import LocalStorage, RemoteStorage, Storage, StorageError, is_attempt, open_storage, shown
from posecap.storage import remote as module
from posecap.types import FileRange

NAME = "data/train/pose-00000.tar"
BODY = bytes(range(256)) * 5000


@pytest.fixture(params=["folder", "memory", "bucket", "google_bucket", "azure_container"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "dataset")
    if request.param == "memory":
        return f"memory://{tmp_path.name}-{secrets.token_hex(4)}/dataset"
    return f"{request.getfixturevalue(request.param)}/deep/dataset"


@pytest.fixture
def storage(location: str) -> Storage:
    return open_storage(location)


def written(storage: Storage, name: str = NAME, body: bytes = BODY) -> None:
    with storage.writer(name) as file:
        file.write(body)
        file.finish()
        file.publish()


def names(storage: Storage, folder: str = "") -> list[str]:
    return [file.name for file in storage.list(folder)]


def test_what_is_written_is_read(storage: Storage) -> None:
    written = storage.write("a/b.json", b"one")
    assert (written.sha256, written.size_bytes) == (hashlib.sha256(b"one").hexdigest(), 3)
    assert storage.write("a/b.json", b"three").size_bytes == 5
    assert storage.read("a/b.json", limit=5) == b"three"
    assert storage.size("a/b.json") == 5
    assert names(storage) == ["a/b.json"]


def test_a_file_without_bytes_is_read(storage: Storage) -> None:
    storage.write("empty", b"")
    assert storage.read("empty", limit=10) == b""
    assert storage.size("empty") == 0


def test_what_is_not_there(storage: Storage) -> None:
    assert storage.size(NAME) is None
    assert names(storage, "data") == []
    for call in (lambda: storage.read(NAME, limit=1), lambda: storage.read_range(NAME, 0, 1)):
        with pytest.raises(FileNotFoundError, match="pose-00000"):
            call()
    storage.remove(NAME, "other")
    written(storage)
    assert storage.size("data") is None  # a folder is no file


def test_no_more_is_read_than_the_limit(storage: Storage) -> None:
    written(storage)
    with pytest.raises(ShardError, match="larger than 100 bytes"):
        storage.read(NAME, limit=100)


def test_ranges_and_maps_are_those_of_the_file(storage: Storage) -> None:
    written(storage)
    assert storage.read_range(NAME, 1000, 500) == BODY[1000:1500]
    with pytest.raises(ShardError, match=f"ends before byte {len(BODY) + 1}"):
        storage.read_range(NAME, len(BODY) - 1, 2)
    mapped = storage.map(NAME)
    mapped[0] = 255
    assert np.array_equal(mapped[1:], np.frombuffer(BODY, np.uint8)[1:])
    assert storage.read(NAME, limit=len(BODY)) == BODY
    with storage.open(NAME) as file:
        assert file.read(100) == BODY[:100]
        file.seek(-10, 2)
        assert file.read() == BODY[-10:]


def test_a_file_is_listed_with_its_size_and_time(storage: Storage) -> None:
    before = storage.now()
    written(storage)
    storage.write("index/train-00000.parquet", b"x")
    (found,) = storage.list("data")
    assert (found.name, found.size_bytes) == (NAME, len(BODY))
    assert found.modified is not None
    assert before - 2 <= found.modified <= storage.now() + 2
    assert names(storage) == [NAME, "index/train-00000.parquet"]


def test_of_several_who_create_a_file_one_succeeds(storage: Storage) -> None:
    outcomes: list[str] = []

    def create(number: int) -> None:
        try:
            storage.create("data/train/pose-00000.json", b"%d" % number)
            outcomes.append(str(number))
        except FileExistsError:
            outcomes.append("refused")

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 3
    (winner,) = {*outcomes} - {"refused"}
    assert storage.read("data/train/pose-00000.json", limit=10) == winner.encode()
    assert names(storage) == ["data/train/pose-00000.json"]


def test_where_the_store_cannot_refuse_claims_decide(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ATOMIC_CREATE", frozenset())
    test_of_several_who_create_a_file_one_succeeds(storage)


def test_a_file_that_is_being_written_is_not_there(storage: Storage) -> None:
    written(storage, body=b"old")
    with storage.writer(NAME) as file:
        for start in range(0, len(BODY), 1000):
            file.write(BODY[start : start + 1000])
        assert file.tell() == file.size == len(BODY)
        assert file.finish().sha256 == hashlib.sha256(BODY).hexdigest()
        assert storage.read(NAME, limit=3) == b"old"
        assert all(name == NAME or is_attempt(name) for name in names(storage))
        file.publish()
        assert storage.read(NAME, limit=len(BODY)) == BODY
    assert names(storage) == [NAME]


@pytest.mark.parametrize("finished", [False, True])
def test_a_block_that_fails_leaves_nothing(storage: Storage, finished: bool) -> None:
    def fail() -> None:
        with storage.writer(NAME) as file:
            file.write(BODY)
            if finished:
                file.finish()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(storage) == []


def test_what_one_process_kept_another_publishes(storage: Storage) -> None:
    with storage.writer(NAME) as file:
        file.write(BODY)
        file.finish()
        kept = file.keep()
    assert names(storage) == [kept]
    assert is_attempt(kept)
    other = pickle.loads(pickle.dumps(storage))
    assert list(other.leftovers("data", older_than_seconds=60)) == []
    assert list(other.leftovers("data", older_than_seconds=-60)) == [kept]
    other.publish({NAME: kept})
    assert names(storage) == [NAME]
    assert storage.read(NAME, limit=len(BODY)) == BODY


def test_many_ranges_come_in_order(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    written(storage)
    wanted = [FileRange(NAME, start, size) for start, size in ((0, 10), (500, 3000), (3, 1), (9, 20), (100, 0))] * 20
    for most in (64 << 20, 3005, 1):
        monkeypatch.setattr(module, "_MOST_BYTES_AHEAD", most)
        expected = [BODY[one.offset : one.offset + one.size] for one in wanted]
        assert list(storage.read_ranges(iter(wanted))) == expected
    with pytest.raises(ShardError, match="ends before byte"):
        list(storage.read_ranges([FileRange(NAME, 0, 5), FileRange(NAME, len(BODY) - 1, 2)]))
    with pytest.raises(FileNotFoundError):
        list(storage.read_ranges([FileRange("nothing", 0, 1)]))


def test_a_scratch_file_is_complete_after_the_block_or_not_there(storage: Storage) -> None:
    storage.write("scratch/mark", b"")
    with storage.scratch_file("scratch/one") as file:
        file.write(BODY)
    assert storage.read("scratch/one", limit=len(BODY)) == BODY
    with pytest.raises(KeyError), storage.scratch_file("scratch/two") as file:  # noqa: PT012 - the block's failure
        file.write(BODY)
        raise KeyError
    assert names(storage, "scratch") == ["scratch/mark", "scratch/one"]
    storage.discard(["scratch/one", "scratch/nothing"])
    assert names(storage, "scratch") == ["scratch/mark"]


def test_a_folder_goes_with_all_that_is_in_it(storage: Storage) -> None:
    for name in ("a/1", "a/b/2", "ab/3", "c"):
        storage.write(name, b"x")
    storage.remove_folder("a")
    storage.remove_folder("nothing")
    assert sorted(names(storage)) == ["ab/3", "c"]


def test_a_folder_or_an_address_is_opened_by_its_look(tmp_path: Path) -> None:
    assert open_storage(tmp_path) == open_storage(str(tmp_path)) == LocalStorage(tmp_path)
    assert open_storage(f"file://{tmp_path}") == LocalStorage(tmp_path)
    store = open_storage("s3://bucket/poses/")
    assert store == RemoteStorage("s3://bucket/poses")
    assert open_storage(store) is store


def test_passwords_are_refused_and_never_shown() -> None:
    with pytest.raises(StorageError, match="holds a password") as caught:
        open_storage("s3://AKIA:hunter2@bucket/poses")
    assert "hunter2" not in str(caught.value)
    assert "AKIA" not in str(caught.value)
    assert shown("https://host/a?X-Amz-Signature=abc") == "https://host/a"
    assert shown("https://hunter2@host/a?v=1") == "https://host/a"
    assert shown("abfs://box@account.dfs.core.windows.net/a") == "abfs://box@account.dfs.core.windows.net/a"
    assert shown("/data/100%?/a") == "/data/100%?/a"
    assert open_storage("abfs://container@account.dfs.core.windows.net/x").location.startswith("abfs://container@")


def test_a_missing_bucket_and_a_missing_package_are_named(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = open_storage(f"{bucket}-not-there/poses")
    assert list(missing.list()) == []
    with pytest.raises(StorageError, match=r"s3://bucket-.*-not-there/poses/a: there is no such bucket"):
        missing.write("a", b"")
    # Whether gcsfs is installed or not.
    monkeypatch.delitem(_registry, "gs", raising=False)
    monkeypatch.setitem(known_implementations, "gs", {"class": "not_installed.Files", "err": "install it"})
    with pytest.raises(StorageError, match=r"pip install 'posecap\[gcs\]'"):
        open_storage("gs://bucket/poses").write("a", b"")


def test_a_scratch_file_of_any_size_can_be_cut_and_is_complete(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(storage, LocalStorage):
        storage.write("scratch/mark", b"")  # a folder for it must be there
    for most in (1 << 20, 10):
        monkeypatch.setattr(module, "_MOST_BYTES_IN_MEMORY", most)
        name = f"scratch/{most}"
        with storage.scratch_file(name) as file:
            file.write(b"0123456789")
            file.write(b"abc")
            file.seek(5)
            file.truncate()
            file.write(b"xyz")
        assert storage.read(name, limit=100) == b"01234xyz"

        def write() -> None:
            with storage.scratch_file("scratch/failed") as file:
                file.write(bytes(20))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write()
        assert storage.size("scratch/failed") is None
    assert [path for path in scratch_folder().iterdir() if path.is_file() and path.name != "in-use"] == []
