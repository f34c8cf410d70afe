"""A proxy in front of an S3 server that lets requests fail as real stores do.

with faulty_store.proxy(endpoint) as store:
    store.faults.append(Fault("PUT", "pose-00000", "throttled", times=3))
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Kind = Literal[
    "throttled", "unavailable", "error", "denied", "reset", "answer_lost", "slow", "unconditional", "unknown"
]

_PASSING: tuple[Kind, ...] = ("throttled", "unavailable", "error", "reset", "answer_lost")
_ANSWERS = {
    "throttled": (503, "SlowDown", "Please reduce your request rate."),
    "unavailable": (503, "ServiceUnavailable", "Service is unable to handle request."),
    "error": (500, "InternalError", "We encountered an internal error. Please try again."),
    "unknown": (501, "NotImplemented", "A parameter you provided implies functionality that is not implemented."),
    "denied": (403, "AccessDenied", "Access Denied by rule of AKIATESTINGONLY"),
}


@dataclass
class Fault:
    """What goes wrong with requests of ``method`` whose path and query hold ``fragment``.

    ``reset`` breaks the connection off in the middle of the body, ``answer_lost`` after the store has done what was
    asked, ``slow`` answers after ``seconds``, and ``unconditional`` overwrites what is there although it was asked not
    to. ``times`` counts down.
    """

    method: str
    fragment: str
    kind: Kind
    times: int = 1
    seconds: float = 0.0


@dataclass
class FaultyStore:
    """``endpoint`` is the proxy's; ``requests`` are method and path of all that came.

    ``share`` of all requests, 0 to 1, meet a fault that passes, drawn by ``chance``.
    """

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    share: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(14))
    requests: list[tuple[str, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.fragment in path:
                    fault.times -= 1
                    return fault
            if self.chance.random() < self.share:
                return Fault(method, "", self.chance.choice(_PASSING))
        return None


@contextlib.contextmanager
def proxy(endpoint: str) -> Iterator[FaultyStore]:
    """The store behind ``endpoint``, for the block, at an endpoint of its own."""
    store = FaultyStore("")
    server = _Server(store, urlsplit(endpoint).netloc)
    store.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, store: FaultyStore, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store, self.target = store, target


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        fault = self.server.store.meet(self.command, self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if fault is not None and fault.kind == "reset":
            self.rfile.read(length // 2)
            self._break_off()
            return
        body = self.rfile.read(length)
        if fault is not None and fault.kind in _ANSWERS:
            status, code, words = _ANSWERS[fault.kind]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message></Error>".encode()
            self._answer(status, {"Content-Type": "application/xml"}, text)
            return
        if fault is not None and fault.kind == "slow":
            time.sleep(fault.seconds)
        dropped = {"if-none-match"} if fault is not None and fault.kind == "unconditional" else set()
        status, found, content = self._forward(body, dropped)
        if fault is not None and fault.kind == "answer_lost":
            self._break_off()
            return
        self._answer(status, found, content)

    def _forward(self, body: bytes, dropped: set[str]) -> tuple[int, dict[str, str], bytes]:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in {"connection", "expect", *dropped}}
        upstream = http.client.HTTPConnection(self.server.target, timeout=60)
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        skipped = {"connection", "transfer-encoding", "content-length"}
        found = {k: v for k, v in answer.getheaders() if k.lower() not in skipped}
        if self.command == "HEAD":
            found["Content-Length"] = answer.getheader("Content-Length") or "0"
        upstream.close()
        return answer.status, found, content

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _break_off(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
