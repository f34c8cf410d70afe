"""The server of a page: what it gives, and to whom."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from posecap.explore.contents import CLIPS_SCHEMA, Choice
from posecap.explore.serve import HOST, ExploreServer
from posecap.shards import write_dataset_list, write_part
from posecap.types import PartName
from tests import built
from tests.posecap.explore.test_contents import table_in


class Client:
    """Asks a server, with or without the secret of its address."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host, self.port, self.secret = str(parts.hostname), int(parts.port or 0), parts.path.strip("/")

    def ask(
        self, path: str, headers: dict[str, str] | None = None, *, method: str = "GET"
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with names in small letters, and content; ``path`` goes out as it is."""
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=10)) as connection:
            connection.putrequest(method, path, skip_host=bool(headers and "Host" in headers))
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def get(self, name: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        return self.ask(f"/{self.secret}/{name}", headers)


@contextmanager
def serving(location: object, choice: Choice | None = None) -> Iterator[Client]:
    with closing(ExploreServer(str(location), choice or Choice())) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield Client(server.address)
        finally:
            server.stop()
            thread.join()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    built.build(tmp_path / "d")
    (tmp_path / "secret.txt").write_text("not to be read")
    with serving(tmp_path / "d") as one:
        yield one


def test_page_and_tables(client: Client) -> None:
    status, headers, page = client.get("")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'data-source="server"' in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
    status, _, content = client.get("tables/clips")
    assert status == 200
    assert table_in(content).schema.equals(CLIPS_SCHEMA)


def test_ranges_of_tars(client: Client, tmp_path: Path) -> None:
    tar = (tmp_path / "d/data/train/pose-00000.tar").read_bytes()
    name = "files/data/train/pose-00000.tar"
    for header, status, content in (
        ("bytes=512-1023", 206, tar[512:1024]),
        (f"bytes={len(tar) - 5}-", 206, tar[-5:]),
        (f"bytes=7-{10 * len(tar)}", 206, tar[7:]),
        ("bytes=9-3", 416, None),
        (f"bytes={len(tar)}-", 416, None),
        ("bytes=-5", 200, tar),  # forms that the page does not ask in are passed over, as HTTP allows
        ("bytes=0-1,5-6", 200, tar),
        ("pages=0-1", 200, tar),
        ("bytes=٣-٥", 200, tar),
    ):
        found = client.get(name, {"Range": header.encode().decode("latin1")})
        assert (header, found[0]) == (header, status)
        if content is not None:
            assert found[2] == content
        if status == 206:
            assert found[1]["content-range"].endswith(f"/{len(tar)}")
    with closing(http.client.HTTPConnection(client.host, client.port, timeout=10)) as connection:
        connection.request("HEAD", f"/{client.secret}/{name}")
        head = connection.getresponse()
        assert (head.status, head.getheader("Content-Length"), head.read()) == (200, str(len(tar)), b"")


def test_a_sample_is_where_the_table_says(client: Client) -> None:
    _, _, content = client.get("tables/clips")
    row = table_in(content).to_pylist()[1]
    first, size = int(row["joints_offset"]), int(row["joints_size"])
    _, _, npy = client.get("files/data/train/pose-00000.tar", {"Range": f"bytes={first}-{first + size - 1}"})
    values = np.frombuffer(npy[-row["M"] * row["T"] * row["J"] * 12 :], "<f4")
    assert npy.startswith(b"\x93NUMPY")
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    "path",
    [
        "files/secret.txt",
        "files/../secret.txt",
        "files/data/../../secret.txt",
        "files/data/train/../../../secret.txt",
        "files/%2e%2e/secret.txt",
        "files/data/train/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret.txt",
        "files/data/train/..%5c..%5csecret.txt",
        "files//etc/passwd",
        "//etc/passwd",
        "files/data/train/pose-00000.tar/",
        "files/data/train/pose-00000.tar\\..\\x",
        "files/data/train/pose-00000.json",
        "files/dataset.json",
        "files/data/train/pose-00001.tar",
        "files/preview/train-00000/x.jpg",
        "tables/",
        "page.py",
    ],
)
def test_nothing_else_is_found(client: Client, path: str) -> None:
    status, _, content = client.get(path)
    assert status == 404
    assert b"not to be read" not in content


def test_without_the_secret_there_is_nothing(client: Client) -> None:
    for path in (
        "/",
        "/tables/clips",
        f"/{client.secret[:-1]}/",
        f"/{client.secret}x/",
        "//",
        "/%C3%A9/",
    ):
        assert client.ask(path)[0] == 404


def test_only_this_machine_is_answered(client: Client) -> None:
    assert client.host == HOST == "127.0.0.1"
    for host in (f"localhost:{client.port}", f"LOCALHOST:{client.port}", f"127.0.0.1:{client.port}"):
        assert client.get("", {"Host": host})[0] == 200
    elsewhere = ("evil.example", f"evil.example:{client.port}", f"127.0.0.1.evil.example:{client.port}")
    for host in (*elsewhere, "127.0.0.1", "127.0.0.1:1", ""):
        assert client.get("", {"Host": host})[0] == 403
    outside = [
        address[4][0]
        for address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        if not str(address[4][0]).startswith("127.")
    ]
    for address in outside[:1]:
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection((str(address), client.port), timeout=2)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_only_reads(client: Client, tmp_path: Path, method: str) -> None:
    before = built.files(tmp_path / "d")
    assert client.ask(f"/{client.secret}/files/data/train/pose-00000.tar", method=method)[0] == 501
    assert built.files(tmp_path / "d") == before


def test_looking_again_shows_what_was_built_since(tmp_path: Path) -> None:
    samples = built.samples(4)
    write_part(tmp_path, PartName("train", 0), samples[:1], record=built.record(samples[:1]))
    with serving(tmp_path, Choice(projection=None)) as client:
        assert table_in(client.get("tables/clips")[2]).num_rows == 1
        write_part(tmp_path, PartName("train", 1), samples[1:], record=built.record(samples[1:]))
        write_dataset_list(tmp_path)
        assert table_in(client.get("tables/clips")[2]).num_rows == 1  # of the page that is open
        assert client.get("files/data/train/pose-00001.tar")[0] == 404
        client.get("")
        assert table_in(client.get("tables/clips")[2]).num_rows == 4
        assert client.get("files/data/train/pose-00001.tar")[0] == 200


def test_a_file_that_has_gone(client: Client, tmp_path: Path) -> None:
    (tmp_path / "d/data/train/pose-00000.tar").unlink()
    assert client.get("files/data/train/pose-00000.tar")[0] == 404


def test_previews_unless_blank(tmp_path: Path) -> None:
    one, *_ = built.build(tmp_path)[built.FIRST]
    name = f"preview/train-00000/{one.key}.jpg"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"a picture")
    with serving(tmp_path) as client:
        assert client.get(f"files/{name}")[::2] == (200, b"a picture")
    with serving(tmp_path, Choice(background="blank")) as client:
        assert client.get(f"files/{name}")[0] == 404


def test_a_dataset_in_a_store(bucket: str) -> None:
    built.build(f"{bucket}/d")
    with serving(f"{bucket}/d", Choice(projection=None)) as client:
        assert table_in(client.get("tables/clips")[2]).num_rows == 5
        status, _, content = client.get("files/data/train/pose-00000.tar", {"Range": "bytes=0-15"})
        assert (status, len(content)) == (206, 16)
