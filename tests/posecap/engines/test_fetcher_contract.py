"""What every fetcher must do, whatever it fetches from."""

from __future__ import annotations

import functools
import hashlib
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from posecap.download.package_index import PackageFile
from posecap.engines.http import Http
from posecap.engines.local_file import LocalFile
from posecap.engines.object_store import ObjectStore
from posecap.engines.registry_package import RegistryPackage
from posecap.engines.ytdlp import YtDlp
from posecap.interfaces import Fetcher, Limits
from posecap.stage import Engine, Reject, configuration

BODY = b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 100
SHA = hashlib.sha256(BODY).hexdigest()


@dataclass(frozen=True)
class Case:
    """A fetcher and two URIs: a file with BODY, and one that is gone for good."""

    fetcher: Fetcher
    here: str
    gone: str
    keeping: str


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def local_file(tmp_path: Path, _monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    (tmp_path / "a.mp4").write_bytes(BODY)
    yield Case(LocalFile(), f"{tmp_path}/a.mp4", f"{tmp_path}/b.mp4", "borrowed")


def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "a.mp4").write_bytes(BODY)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield Case(Http(), f"{url}/a.mp4", f"{url}/b.mp4", "temporary")
        server.shutdown()


def object_store(tmp_path: Path, _monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    store = fsspec.filesystem("memory")
    store.pipe("/contract/a.mp4", BODY)
    yield Case(ObjectStore(schemes=("memory",)), "memory://contract/a.mp4", "memory://contract/b.mp4", "temporary")
    store.rm("/contract", recursive=True)


def registry_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """From the cache; the way through pip is tested in tests/posecap/download/test_package_index.py."""
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    here, gone = (f"pypi://demo/1.0/{name}.mp4?sha256={sha}" for name, sha in (("a", SHA), ("b", "0" * 64)))
    place, wheel = PackageFile.parse(here).cached, PackageFile.parse(here).wheel
    place.parent.mkdir(parents=True)
    place.write_bytes(BODY)
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"PK\x05\x06" + bytes(18))  # an empty zip: it holds no b.mp4
    yield Case(RegistryPackage(), here, gone, "borrowed")


def ytdlp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    pytest.importorskip("yt_dlp")
    from tests.played_youtube import PlayedYouTube

    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    with PlayedYouTube(monkeypatch) as youtube:
        youtube.shows("here_______", BODY)
        youtube.refuses("gone_______", "ERROR", "Video unavailable", "This video has been removed by the uploader")
        fetcher = YtDlp(requests_per_minute=60_000)
        yield Case(fetcher, "https://www.youtube.com/watch?v=here_______", "youtube:gone_______", "temporary")


@pytest.fixture(params=[local_file, http, object_store, registry_package, ytdlp], ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    (tmp_path / "source").mkdir()
    make: Callable[[Path, pytest.MonkeyPatch], Iterator[Case]] = request.param
    yield from make(tmp_path / "source", monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scratch = tmp_path / "temporary"
    scratch.mkdir()
    return scratch


def test_is_an_engine_behind_the_port(case: Case) -> None:
    assert isinstance(case.fetcher, Engine)
    assert isinstance(case.fetcher, Fetcher)
    assert configuration(case.fetcher)["name"] == case.fetcher.name
    assert pickle.loads(pickle.dumps(case.fetcher)) == case.fetcher
    assert hash(case.fetcher) == hash(pickle.loads(pickle.dumps(case.fetcher)))


def test_brings_the_bytes(case: Case, folder: Path) -> None:
    assert case.fetcher.accepts(case.here)
    fetched = case.fetcher.fetch(case.here, folder, limits=Limits())
    assert fetched.path.read_bytes() == BODY
    assert fetched.path.suffix == ".mp4"
    assert fetched.keeping == case.keeping
    assert list(folder.iterdir()) == ([fetched.path] if case.keeping == "temporary" else [])


def test_threads_share_it(case: Case, folder: Path) -> None:
    assert isinstance(case.fetcher, Engine)
    assert case.fetcher.thread_safe
    with ThreadPoolExecutor(6) as threads:
        fetched = list(threads.map(lambda _: case.fetcher.fetch(case.here, folder, limits=Limits()), range(12)))
    assert all(each.path.read_bytes() == BODY for each in fetched)
    assert len({each.path for each in fetched}) == (12 if case.keeping == "temporary" else 1)


def test_deleting_a_scratch_file_leaves_the_source(case: Case, folder: Path) -> None:
    first = case.fetcher.fetch(case.here, folder, limits=Limits())
    second = case.fetcher.fetch(case.here, folder, limits=Limits())
    if case.keeping == "temporary":
        assert first.path != second.path
        first.path.unlink()
    assert second.path.read_bytes() == BODY
    assert case.fetcher.fetch(case.here, folder, limits=Limits()).path.read_bytes() == BODY


def test_gone_for_good_is_not_found(case: Case, folder: Path) -> None:
    details = set()
    for _ in range(2):
        with pytest.raises(Reject) as caught:
            case.fetcher.fetch(case.gone, folder, limits=Limits())
        assert type(caught.value) is Reject
        assert caught.value.reason in ("not_found", "no_such_package", "removed")
        details.add(caught.value.detail)
    assert len(details) == 1
    assert str(folder) not in details.pop()
    assert list(folder.iterdir()) == []


def test_size_limit_is_inclusive(case: Case, folder: Path) -> None:
    assert case.fetcher.fetch(case.here, folder, limits=Limits(size_bytes=len(BODY))).path.is_file()
    before = set(folder.iterdir())
    with pytest.raises(Reject) as caught:
        case.fetcher.fetch(case.here, folder, limits=Limits(size_bytes=len(BODY) - 1))
    assert (type(caught.value), caught.value.reason) == (Reject, "too_large")
    assert set(folder.iterdir()) == before


def test_exactly_one_default_fetcher_takes_each_uri() -> None:
    fetchers = (LocalFile(), Http(), RegistryPackage(), ObjectStore())
    uris = [
        "a.mp4",
        "/a.mp4",
        "file:///a",
        "http://h/a",
        "HTTPS://h/a",
        "s3://b/a",
        "gs://b/a",
        f"pypi://a/1/b?sha256={SHA}",
    ]
    assert [sum(f.accepts(uri) for f in fetchers) for uri in uris] == [1] * len(uris)
    assert not any(f.accepts("gopher://h/a") for f in fetchers)


def test_youtubes_addresses_are_taken_by_ytdlp_alone() -> None:
    fetchers = (LocalFile(), Http(), YtDlp(), RegistryPackage(), ObjectStore())
    chosen = {
        "https://www.youtube.com/watch?v=here_______": "ytdlp",
        "https://youtu.be/here_______": "ytdlp",
        "https://www.youtube.com/playlist?list=PL1": "http",
        "https://h/watch?v=here_______": "http",
        "a/watch?v=here_______": "local_file",
    }
    for uri, name in chosen.items():
        assert [f.name for f in fetchers if f.accepts(uri)] == [name]
    # ``youtube:ID`` has no "://", so LocalFile takes it for a path unless YtDlp stands before LocalFile too.
    assert YtDlp().accepts("youtube:here_______")
