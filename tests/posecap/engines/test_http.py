"""Http against a real server on the loopback that misbehaves in the ways that real ones do."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from posecap.download.http import without_secrets
from posecap.download.retry import HostLimits, RetryPolicy
from posecap.engines.http import Http
from posecap.interfaces import Limits
from posecap.stage import Reject, TransientError
from tests.concurrency import AtOnce

BODY = b"\x00\x00\x00\x20ftypisom" + hashlib.sha256(b"posecap").digest() * 8192  # 256 KiB and a little
QUICK = Http(retry_policy=RetryPolicy(attempts=3, base_seconds=0.01), connect_seconds=2, read_seconds=2)

Answer = Callable[[BaseHTTPRequestHandler, int], None]


@dataclass
class Server:
    """``answers`` by path; each is given how often its path was asked for before."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def plays(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return self.url + path

    def visits(self, path: str) -> list[dict[str, str]]:
        return [headers for asked, headers in self.asked if asked == path]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            before = len(play.visits(path))
            play.asked.append((path, dict(self.headers)))
            play.answers[path](self, before)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.block_on_close = False
        play = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield play
        httpd.shutdown()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: object) -> None:
    handler.send_response(status)
    for name, value in ({"Content_Length": len(body)} | headers).items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def always(status: int, body: bytes = b"", **headers: object) -> Answer:
    return lambda handler, _: send(handler, status, body, **headers)


def range_start(headers: dict[str, str]) -> int:
    return int(headers["Range"].removeprefix("bytes=").rstrip("-"))


def outcome(uri: str, folder: Path, *, engine: Http = QUICK, limits: Limits | None = None) -> Reject:
    with pytest.raises(Reject) as caught:
        engine.fetch(uri, folder, limits=limits or Limits())
    assert list(folder.iterdir()) == []  # nothing half-done stays
    return caught.value


def test_whole_file(server: Server, tmp_path: Path) -> None:
    fetched = QUICK.fetch(server.plays("/a.MP4", always(200, BODY)), tmp_path, limits=Limits())
    assert fetched.path.read_bytes() == BODY
    assert (fetched.keeping, fetched.path.suffix, list(tmp_path.iterdir())) == ("temporary", ".mp4", [fetched.path])
    assert server.visits("/a.MP4")[0]["Accept-Encoding"] == "identity"


def test_same_uri_twice_gives_two_files(server: Server, tmp_path: Path) -> None:
    uri = server.plays("/a.mp4", always(200, BODY))
    assert len({QUICK.fetch(uri, tmp_path, limits=Limits()).path for _ in range(2)}) == 2


@pytest.mark.parametrize("validator", ["ETag", "Last_Modified"])
def test_cut_connection_resumes_where_it_stopped(server: Server, tmp_path: Path, validator: str) -> None:
    version = {"ETag": '"v1"', "Last_Modified": "Mon, 23 Nov 2026 10:00:00 GMT"}[validator]

    def answer(handler: BaseHTTPRequestHandler, before: int) -> None:
        if before == 0:
            send(handler, 200, BODY[:100_000], Content_Length=len(BODY), **{validator: version})
            return
        start = range_start(dict(handler.headers))
        span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        send(handler, 206, BODY[start:], Content_Range=span)

    fetched = QUICK.fetch(server.plays("/cut.mp4", answer), tmp_path, limits=Limits())
    assert fetched.path.read_bytes() == BODY
    first, second = server.visits("/cut.mp4")
    assert "Range" not in first
    assert (second["Range"], second["If-Range"]) == ("bytes=100000-", version)


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_cut_connection_without_a_version_starts_again(server: Server, tmp_path: Path, etag: str | None) -> None:
    def answer(handler: BaseHTTPRequestHandler, before: int) -> None:
        sent = BODY[:100_000] if before == 0 else BODY
        send(handler, 200, sent, Content_Length=len(BODY), **({"ETag": etag} if etag else {}))

    fetched = QUICK.fetch(server.plays("/cut.mp4", answer), tmp_path, limits=Limits())
    assert fetched.path.read_bytes() == BODY
    assert ["Range" in headers for headers in server.visits("/cut.mp4")] == [False, False]


def test_file_that_changed_meanwhile_is_taken_whole(server: Server, tmp_path: Path) -> None:
    newer = BODY[::-1]

    def answer(handler: BaseHTTPRequestHandler, before: int) -> None:
        if before == 0:
            send(handler, 200, BODY[:100_000], Content_Length=len(BODY), ETag='"v1"')
        else:
            send(handler, 200, newer, ETag='"v2"')

    fetched = QUICK.fetch(server.plays("/new.mp4", answer), tmp_path, limits=Limits())
    assert fetched.path.read_bytes() == newer


def test_another_range_than_asked_for_is_not_glued_on(server: Server, tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, before: int) -> None:
        if before == 0:
            send(handler, 200, BODY[:100_000], Content_Length=len(BODY), ETag='"v1"')
        elif before == 1:
            send(handler, 206, BODY[5:], Content_Range=f"bytes 5-{len(BODY) - 1}/{len(BODY)}")
        else:
            send(handler, 200, BODY)

    fetched = QUICK.fetch(server.plays("/odd.mp4", answer), tmp_path, limits=Limits())
    assert fetched.path.read_bytes() == BODY
    assert "Range" not in server.visits("/odd.mp4")[2]


def test_lying_content_length_is_truncated_after_all_attempts(server: Server, tmp_path: Path) -> None:
    uri = server.plays("/short.mp4", always(200, BODY, Content_Length=len(BODY) + 10))
    trouble = outcome(uri, tmp_path)
    assert (type(trouble), trouble.reason, len(server.visits("/short.mp4"))) == (TransientError, "truncated", 3)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "http_400"), (401, "forbidden"), (403, "forbidden"), (404, "not_found"), (410, "not_found"), (451, "legal")],
)
def test_refusals_are_final(server: Server, tmp_path: Path, status: int, reason: str) -> None:
    trouble = outcome(server.plays("/x.mp4", always(status, b"no")), tmp_path)
    assert (type(trouble), trouble.reason, len(server.visits("/x.mp4"))) == (Reject, reason, 1)
    assert f"{server.url}/x.mp4 answered {status}" in trouble.detail


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_troubles_are_tried_again_then_left_for_later(server: Server, tmp_path: Path, status: int) -> None:
    trouble = outcome(server.plays("/busy.mp4", always(status)), tmp_path)
    assert isinstance(trouble, TransientError)
    assert (trouble.reason, len(server.visits("/busy.mp4"))) == (f"http_{status}", 3)


def test_retry_after_is_heeded(server: Server, tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, before: int) -> None:
        if before == 0:
            send(handler, 429, Retry_After="1")
        else:
            send(handler, 200, BODY)

    began = time.monotonic()
    fetched = QUICK.fetch(server.plays("/wait.mp4", answer), tmp_path, limits=Limits())
    assert fetched.path.read_bytes() == BODY
    assert time.monotonic() - began >= 1.0  # a lower bound: what was asked for, not how fast we are


@pytest.mark.parametrize(
    "asked", ["86400", format_datetime(datetime.now(UTC) + timedelta(days=2))], ids=["seconds", "date"]
)
def test_retry_after_of_a_day_is_left_for_the_next_build(server: Server, tmp_path: Path, asked: str) -> None:
    trouble = outcome(server.plays("/day.mp4", always(503, Retry_After=asked)), tmp_path)
    assert (trouble.reason, len(server.visits("/day.mp4"))) == ("http_503", 1)


def test_drip_ends_at_the_time_limit(server: Server, tmp_path: Path) -> None:
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not stop.wait(0.02):
            handler.wfile.write(b"x")

    try:
        trouble = outcome(server.plays("/drip.mp4", drip), tmp_path, limits=Limits(seconds=0.3))
    finally:
        stop.set()
    assert (type(trouble), trouble.reason) == (TransientError, "timeout")


def test_dripping_headers_end_at_the_time_limit(server: Server, tmp_path: Path) -> None:
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not stop.wait(0.02):
            handler.wfile.write(b"x")

    try:
        trouble = outcome(server.plays("/drip.mp4", drip), tmp_path, limits=Limits(seconds=0.3))
    finally:
        stop.set()
    assert (type(trouble), trouble.reason) == (TransientError, "timeout")


def test_silence_is_a_timeout(server: Server, tmp_path: Path) -> None:
    stop = threading.Event()
    engine = Http(retry_policy=RetryPolicy(attempts=1), read_seconds=0.2)

    def mute(_handler: BaseHTTPRequestHandler, _before: int) -> None:
        stop.wait(5)

    uri = server.plays("/mute.mp4", mute)
    trouble = outcome(uri, tmp_path, engine=engine)
    stop.set()
    assert (type(trouble), trouble.reason) == (TransientError, "timeout")


def test_announced_oversize_is_refused_unread(server: Server, tmp_path: Path) -> None:
    uri = server.plays("/big.mp4", always(200, b"", Content_Length=10**12))
    trouble = outcome(uri, tmp_path)
    assert (type(trouble), trouble.reason, len(server.visits("/big.mp4"))) == (Reject, "too_large", 1)


def test_unannounced_oversize_is_refused_on_the_way(server: Server, tmp_path: Path) -> None:
    def endless(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        except OSError:
            pass

    trouble = outcome(server.plays("/endless.mp4", endless), tmp_path, limits=Limits(size_bytes=1_000_000))
    assert (type(trouble), trouble.reason) == (Reject, "too_large")


def test_size_limit_is_inclusive(server: Server, tmp_path: Path) -> None:
    uri = server.plays("/exact.mp4", always(200, BODY))
    assert QUICK.fetch(uri, tmp_path, limits=Limits(size_bytes=len(BODY))).path.stat().st_size == len(BODY)
    assert outcome(uri, fresh(tmp_path), limits=Limits(size_bytes=len(BODY) - 1)).reason == "too_large"


def fresh(tmp_path: Path) -> Path:
    folder = tmp_path / "fresh"
    folder.mkdir()
    return folder


def test_unwanted_encoding_and_empty_bodies(server: Server, tmp_path: Path) -> None:
    packed = server.plays("/packed.mp4", always(200, BODY, Content_Encoding="gzip"))
    assert outcome(packed, tmp_path).reason == "encoded_body"
    assert outcome(server.plays("/empty.mp4", always(200)), tmp_path).reason == "empty_file"


def test_malformed_answers_are_tried_again(server: Server, tmp_path: Path) -> None:
    def garbled(handler: BaseHTTPRequestHandler, before: int) -> None:
        if before == 0:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3, 5\r\n\r\nabc")
        elif before == 1:
            handler.wfile.write(b"nonsense\r\n\r\n")
        else:
            send(handler, 200, BODY)

    uri = server.plays("/garbled.mp4", garbled)
    assert QUICK.fetch(uri, tmp_path, limits=Limits()).path.read_bytes() == BODY


def test_redirects(server: Server, tmp_path: Path) -> None:
    server.plays("/there.mp4", always(200, BODY))
    uri = server.plays("/here.mp4", always(302, Location="/there.mp4"))
    assert QUICK.fetch(uri, fresh(tmp_path), limits=Limits()).path.read_bytes() == BODY


def test_bodies_of_redirects_are_not_read(server: Server, tmp_path: Path) -> None:
    sent = 0

    def endless(handler: BaseHTTPRequestHandler, _: int) -> None:
        nonlocal sent
        handler.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /there.mp4\r\n\r\n")
        try:
            while sent < 1 << 28:
                sent += handler.wfile.write(bytes(1 << 16)) or 1 << 16
        except OSError:
            pass

    server.plays("/there.mp4", always(200, BODY))
    fetched = QUICK.fetch(server.plays("/here.mp4", endless), tmp_path, limits=Limits())
    assert fetched.path.read_bytes() == BODY
    assert sent < 1 << 26  # what socket buffers hold, not what the server would send


def test_redirect_to_an_unquoted_path(server: Server, tmp_path: Path) -> None:
    server.plays("/gr%C3%BC%C3%9Fe.mp4", always(200, BODY))

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.wfile.write("HTTP/1.1 302 Found\r\nLocation: /grüße.mp4\r\n\r\n".encode())

    assert QUICK.fetch(server.plays("/a", answer), tmp_path, limits=Limits()).path.read_bytes() == BODY


@pytest.mark.parametrize("location", ["/loop.mp4", "file:///etc/hostname", "ftp://127.0.0.1/x", "http://[", ""])
def test_bad_redirects(server: Server, tmp_path: Path, location: str) -> None:
    trouble = outcome(server.plays("/loop.mp4", always(301, Location=location)), tmp_path)
    assert type(trouble) is Reject
    assert trouble.reason == "bad_redirect"
    assert len(server.visits("/loop.mp4")) == (6 if location in ("/loop.mp4", "") else 1)


def test_no_server_is_a_connection_trouble(server: Server, tmp_path: Path) -> None:
    trouble = outcome("http://127.0.0.1:9/x.mp4", tmp_path)
    assert (type(trouble), trouble.reason) == (TransientError, "connection")


@pytest.mark.parametrize("uri", ["http://", "http://[", "http://exa mple/\x00", "https://127.0.0.1:99999999/"])
def test_malformed_addresses(tmp_path: Path, uri: str) -> None:
    assert QUICK.accepts(uri)
    trouble = outcome(uri, tmp_path)
    assert (type(trouble), trouble.reason) == (Reject, "bad_uri")


def test_secrets_stay_out_of_messages(server: Server, tmp_path: Path) -> None:
    uri = server.plays("/x.mp4", always(404)).replace("http://", "http://me:word@") + "?token=abc#frag"
    trouble = outcome(uri, tmp_path)
    assert trouble.reason == "not_found"
    assert not any(secret in trouble.detail for secret in ("word", "abc", "frag"))
    assert without_secrets("https://u:p@h.org:81/a/b.mp4?k=v#f") == "https://h.org:81/a/b.mp4"


def test_no_more_connections_to_a_host_than_allowed(server: Server, tmp_path: Path) -> None:
    at_once = AtOnce()

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        with at_once:
            time.sleep(0.02)
        send(handler, 200, BODY[:1000])

    uri, polite = server.plays("/a.mp4", answer), replace(QUICK, per_host=HostLimits(connections=2))
    with ThreadPoolExecutor(8) as threads:
        paths = {f.path for f in threads.map(lambda _: polite.fetch(uri, tmp_path, limits=Limits()), range(8))}
    assert (len(paths), at_once.most) == (8, 2)


def test_waiting_for_a_connection_is_no_time_of_the_download(server: Server, tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        time.sleep(0.3)
        send(handler, 200, BODY[:1000])

    uri, polite = server.plays("/a.mp4", answer), replace(QUICK, per_host=HostLimits(connections=1))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: polite.fetch(uri, tmp_path, limits=Limits(seconds=0.8)), range(4)))


def test_a_wait_that_a_host_asks_for_is_kept_by_all_its_downloads(server: Server, tmp_path: Path) -> None:
    busy = server.plays("/busy.mp4", always(429, Retry_After=1))
    other = server.plays("/other.mp4", always(200, BODY))
    once = replace(QUICK, retry_policy=RetryPolicy(attempts=1))
    assert outcome(busy, tmp_path, engine=once).reason == "http_429"
    since = time.monotonic()
    once.fetch(other, tmp_path, limits=Limits())
    assert time.monotonic() - since > 0.7


def test_a_host_that_asks_for_a_long_wait_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    busy = server.plays("/busy.mp4", always(503, Retry_After=3600))
    other = server.plays("/other.mp4", always(200, BODY))
    assert outcome(busy, tmp_path).reason == "http_503"
    fault = outcome(other, tmp_path)
    assert (type(fault), fault.reason) == (TransientError, "host_paused")
    assert server.visits("/other.mp4") == []


def test_private_addresses_are_refused_before_a_connection(server: Server, tmp_path: Path) -> None:
    strict = replace(QUICK, private_addresses="refuse")
    fault = outcome(server.plays("/a.mp4", always(200, BODY)), tmp_path, engine=strict)
    assert (type(fault), fault.reason) == (Reject, "private_address")
    assert "private_addresses='allow'" in fault.detail
    assert server.asked == []


def test_private_addresses_are_refused_after_a_redirect(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is let through under a name, as if it were a public one, and redirects to its own address."""
    monkeypatch.setattr("posecap.download.http.is_public", lambda address: address != "127.0.0.2")
    inside = server.url.replace("127.0.0.1", "127.0.0.2")
    fault = outcome(
        server.plays("/a.mp4", always(302, Location=f"{inside}/secret.mp4")),
        tmp_path,
        engine=replace(QUICK, private_addresses="refuse"),
    )
    assert fault.reason == "private_address"
    assert [path for path, _ in server.asked] == ["/a.mp4"]


def test_user_and_password_go_to_their_host_alone(server: Server, tmp_path: Path) -> None:
    server.plays("/b.mp4", always(200, BODY))
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    for start, target in (("/a.mp4", "/b.mp4"), ("/c.mp4", f"{elsewhere}/b.mp4")):
        uri = server.plays(start, always(302, Location=target)).replace("://", "://me:pass%2Fword@")
        QUICK.fetch(uri, tmp_path, limits=Limits())
    basic = f"Basic {base64.b64encode(b'me:pass/word').decode()}"
    asked = [(path, headers.get("Authorization")) for path, headers in server.asked]
    assert asked == [("/a.mp4", basic), ("/b.mp4", basic), ("/c.mp4", basic), ("/b.mp4", None)]
