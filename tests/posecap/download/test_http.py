"""What transfers do beyond what the engine of videos needs of them; the rest is in engines/test_http.py."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from posecap.download.http import HttpDownload, HttpOptions, Session
from posecap.interfaces import Limits

BODY = bytes(range(256)) * 4096


@pytest.fixture
def asked() -> list[dict[str, str]]:
    return []


@pytest.fixture
def url(asked: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of BODY as version "one", which knows ranges."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(dict(self.headers))
            current = self.headers.get("If-Range") == '"one"'
            first = int(self.headers["Range"][6:-1]) if current else 0
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(BODY) - 1}/{len(BODY)}")
            self.send_header("ETag", '"one"')
            self.send_header("Content-Length", str(len(BODY) - first))
            self.end_headers()
            self.wfile.write(BODY[first:])

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/x"
        server.shutdown()


def transfer(url: str, file: io.BytesIO, **known: object) -> HttpDownload:
    limits = Limits(size_bytes=1 << 24, seconds=10)
    return HttpDownload(Session(), url, file, limits, time.monotonic() + 10, **known)  # type: ignore[arg-type]


def test_bytes_that_are_here_are_gone_on_from(url: str, asked: list[dict[str, str]]) -> None:
    file = io.BytesIO(BODY[:1000])
    file.seek(1000)
    heard: list[tuple[int, int | None]] = []
    transfer(url, file, validator='"one"', on_progress=lambda here, whole: heard.append((here, whole))).attempt()
    assert file.getvalue() == BODY
    assert asked[0]["Range"] == "bytes=1000-"
    assert heard[-1] == (len(BODY), len(BODY))
    assert heard[0][0] > 1000


@pytest.mark.parametrize("validator", [None, '"another"'])
def test_bytes_of_another_version_are_not(url: str, validator: str | None) -> None:
    file = io.BytesIO(bytes(1000))
    file.seek(1000)
    going = transfer(url, file, validator=validator)
    going.attempt()
    assert file.getvalue() == BODY
    assert going.validator == '"one"'


def test_headers_of_ones_own(url: str, asked: list[dict[str, str]]) -> None:
    transfer(url, io.BytesIO(), options=HttpOptions(headers={"X-Mine": "1"})).attempt()
    assert asked[0]["X-Mine"] == "1"
    assert asked[0]["Accept-Encoding"] == "identity"
