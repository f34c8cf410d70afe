from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from posecap.manifest import http_table
from posecap.manifest.http_table import fetch_table
from posecap.manifest.manifest_file import ManifestError, Table
from posecap.manifest.rows import Problems
from posecap.manifest.tables import read_table

BODY = b"video\na.mp4\n"
ASKED: list[dict[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ASKED.append({"path": self.path, **self.headers})
        answers = {
            "/t.csv": lambda: self.give(BODY),
            "/moved.csv": lambda: self.give(b"", status=302, Location=f"http://localhost:{PORT[0]}/t.csv"),
            "/out.csv": lambda: self.give(b"", status=302, Location="file:///etc/hostname"),
            "/short.csv": lambda: self.give(BODY, Content_Length=len(BODY) + 9),
            "/bomb.csv": lambda: self.give(gzip.compress(bytes(1 << 20)), Content_Encoding="gzip"),
            "/endless.csv": self.endless,
            "/secret.csv": lambda: self.give(b"", status=403),
        }
        answers.get(self.path.partition("?")[0], lambda: self.give(b"", status=404))()

    def give(self, body: bytes, *, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"a.mp4\n" * 10_000)
        except ConnectionError:
            pass

    def log_message(self, *_: object) -> None:
        pass


PORT: list[int] = []


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        PORT[:] = [http.server_address[1]]
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{PORT[0]}"
        http.shutdown()


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    ASKED.clear()


def table(location: str) -> Table:
    return Table(location=location, written="t.csv")


def refused(location: str) -> str:
    with pytest.raises(ManifestError) as caught:
        fetch_table(table(location))
    return str(caught.value)


def test_bytes_are_asked_for_uncompressed(server: str) -> None:
    with fetch_table(table(f"http://{server}/t.csv")) as file:
        assert file.read() == BODY
    assert ASKED[0]["Accept-Encoding"] == "identity"


def test_user_and_password_go_to_the_host_alone(server: str) -> None:
    fetch_table(table(f"http://me:pass%2Fword@{server}/moved.csv")).close()
    first, second = ASKED
    assert first["Authorization"] == f"Basic {base64.b64encode(b'me:pass/word').decode()}"
    assert "Authorization" not in second


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none.csv", "no such table"),
        ("secret.csv?sig=5ec4e7", "answered 403"),
        ("short.csv", "sent less than it announced"),
        ("bomb.csv", "encoded as gzip"),
        ("out.csv", "answered 302"),
    ],
)
def test_other_answers_are_errors_of_the_table(server: str, path: str, words: str) -> None:
    message = refused(f"http://me:5ec4e7@{server}/{path}")
    assert message.startswith("t.csv: ")
    assert words in message
    assert message.count("t.csv") == 1  # no error of its own is taken for one of the network
    assert "5ec4e7" not in message


def test_an_endless_answer_is_cut_off(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_table, "MOST_TABLE_BYTES", 1 << 20)
    assert "more than 1,048,576 bytes" in refused(f"http://{server}/endless.csv")


@pytest.mark.parametrize("address", ["http://me:5ec4e7@127.0.0.1:1/t.csv?sig=5ec4e7", "http://me:5ec4e7@[bad/t.csv"])
def test_an_address_that_does_not_answer(address: str) -> None:
    message = refused(address)
    assert "cannot be fetched" in message
    assert "5ec4e7" not in message


def test_a_table_is_fetched_once(server: str) -> None:
    (batch,) = read_table(table(f"http://{server}/t.csv"), media_root="", problems=Problems())
    assert batch.column("uri").to_pylist() == ["a.mp4"]
    assert len(ASKED) == 1
