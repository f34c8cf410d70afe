from __future__ import annotations

import gzip
import threading
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from posecap.storage import StorageError, open_storage
from posecap.storage.remote import RemoteStorage

BODY = bytes(range(256)) * 16
BOMB = gzip.compress(bytes(64 << 20))


class Handler(BaseHTTPRequestHandler):
    """``/ranges`` knows ranges and ``/whole`` does not; ``/bomb`` is compressed; ``/endless`` never ends, and does not
    say how large it is."""

    def do_GET(self) -> None:
        getattr(self, self.path.strip("/"))()

    def do_HEAD(self) -> None:
        if self.path == "/endless":
            self.send_response(200)
            self.end_headers()
        else:
            self.whole()

    def ranges(self) -> None:
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        if first >= len(BODY):
            self.give(b"", status=416)
        else:
            self.give(BODY[first : last + 1], status=206)

    def whole(self) -> None:
        self.give(BODY)

    def bomb(self) -> None:
        self.give(BOMB, encoding="gzip")

    def endless(self) -> None:
        self.send_response(206)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(1 << 16))
        except ConnectionError:
            pass

    def give(self, body: bytes, *, status: int = 200, encoding: str = "identity") -> None:
        self.send_response(status)
        self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("name", ["ranges", "whole"])
def test_reads_what_is_asked_for(url: str, name: str) -> None:
    storage = open_storage(url)
    assert storage.read(name, limit=1 << 20) == BODY
    assert storage.read_range(name, 300, 500) == BODY[300:800]
    assert storage.read_range(name, 5, 0) == b""


def test_a_compressed_answer_is_not_unpacked(url: str) -> None:
    tracemalloc.start()
    with pytest.raises(StorageError, match="the server sent gzip"):
        RemoteStorage(url).read("bomb", limit=1 << 30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_an_endless_answer_is_cut_off(url: str) -> None:
    with pytest.raises(Exception, match=r"endless.*(more|larger|over)"):
        RemoteStorage(url).read("endless", limit=1 << 20)
    assert len(open_storage(url).read_range("endless", 1 << 20, 1000)) == 1000


def test_a_file_whose_size_the_server_does_not_say_has_none(url: str) -> None:
    storage = open_storage(url)
    with pytest.raises(StorageError, match=r"/endless: the server does not say how large"):
        storage.size("endless")
    with pytest.raises(StorageError, match=r"/endless: the server does not say how large"):
        storage.open("endless")
    assert storage.size("whole") == len(BODY)
