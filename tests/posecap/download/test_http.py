"""What transfers do beyond what the engine of videos needs of them; the rest is in engines/test_http.py."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from posecap.download import http
from posecap.download.http import HttpDownload, HttpOptions, PrivateAddressError, Session, is_public
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


def test_bytes_that_are_here_are_resumed_from(url: str, asked: list[dict[str, str]]) -> None:
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


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "::7f00:1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo of 192.0.2.45
    ],
)
def test_addresses_that_the_internet_does_not_reach(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Answers of the resolver by name, one for each time that it is asked."""
    answers: dict[str, list[list[str]]] = {}

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host not in answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port)) for found in answers[host].pop(0)]

    monkeypatch.setattr(http.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("NO_PROXY", "*")
    return answers


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a connection was tried to; none is made."""
    tried: list[str] = []

    def create_connection(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(http, "create_connection", create_connection)
    return tried


def get(url: str) -> None:
    with Session(private_addresses="refuse") as session:
        session.get(url, timeout=1)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_address_that_was_checked_is_the_one_connected_to(
    names: dict[str, list[list[str]]], connected: list[str], scheme: str
) -> None:
    """The name's second answer, for whoever asks twice, is this machine."""
    names["rebinds.example"] = [["8.8.8.8", "8.8.4.4"], ["127.0.0.1"]]
    with pytest.raises(requests.ConnectionError):
        get(f"{scheme}://rebinds.example/")
    assert connected == ["8.8.8.8", "8.8.4.4"]
    with pytest.raises(PrivateAddressError):
        get(f"{scheme}://rebinds.example/")
    assert connected == ["8.8.8.8", "8.8.4.4"]


def test_one_private_address_among_public_ones_is_enough(
    names: dict[str, list[list[str]]], connected: list[str]
) -> None:
    names["both.example"] = [["8.8.8.8", "10.0.0.1"]]
    with pytest.raises(PrivateAddressError):
        get("http://both.example/")
    assert connected == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]"]
)
def test_every_spelling_of_this_machine(host: str, connected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(PrivateAddressError):
        get(f"http://{host}:1/")
    assert connected == []


def test_a_name_that_does_not_exist_is_an_error_of_the_connection(names: dict[str, list[list[str]]]) -> None:
    with pytest.raises(requests.ConnectionError):
        get("http://nowhere.example/")


def test_a_proxy_is_not_asked_for_private_addresses(
    names: dict[str, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    names["10.0.0.1"] = [["10.0.0.1"]]
    with pytest.raises(PrivateAddressError):
        get("http://10.0.0.1/")
    with pytest.raises(OSError, match="proxy"):  # the proxy, which is not there, may resolve the name
        get("http://known-to-the-proxy.example/")
