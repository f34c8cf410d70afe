"""Writes a page of a dataset, one HTML file that holds all it needs, or answers one browser on this machine that looks
at the same page: reads, and nothing else.

What can be asked of the server is fixed when the page is made: the page, its tables, and byte ranges of the tars and
previews of the clips on it. A name that is not among these is not found, whatever it is; no path is ever made from a
request.

Requests are answered on the loopback interface alone, under a path that begins with a secret: other users of the
machine, who can reach the port, do not know it. The header Host must name this machine, so that a page of somebody
else's, whose name was made to lead here (DNS rebinding), is refused. Other origins get no answer that they may read.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import html
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from posecap.explore.contents import Choice, Contents, packed, read_contents, read_maps, read_moves
from posecap.files import Existing, ShardError, atomic_path, canonical_json
from posecap.shards import committed
from posecap.shards.paths import tar_path, video_path
from posecap.storage import Location, Storage, StorageError, open_storage

Source = Literal["file", "server"]
"""Where the page has its tables from: itself, or the server that it comes from."""


def write_page(location: Location, output: Path, choice: Choice, *, existing: Existing = "refuse") -> Contents:
    """Write the page of a dataset as one file, which no other file or address is needed for; returns what it shows.

    Raises:
        OutputExistsError: the file exists and ``existing`` is ``"refuse"``, or it is a folder.
        ShardError, PlanError, WhereError, MapPackageError: as :func:`posecap.explore.contents.read_contents` and
            :func:`posecap.explore.contents.read_moves`.
    """
    with atomic_path(output, existing=existing) as partial:
        contents, moves = read_moves(location, read_contents(location, choice), choice.projection)
        tables = {"document": document(contents), "clips": packed(contents.clips), "losses": packed(contents.losses)}
        data = (_element(name, content) for name, content in tables.items())
        blocks = (_element(f"moves-{number}", content) for number, content in enumerate(moves))
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(_page(contents.title, source="file", data=data, blocks=blocks))
    return contents


def served_page(title: str) -> bytes:
    """The page that asks its server for the tables."""
    return "".join(_page(title, source="server", data=(), blocks=())).encode()


def document(contents: Contents) -> bytes:
    """The document of a page, as JSON, compressed with gzip."""
    return gzip.compress(canonical_json(contents.document), mtime=0)


def _element(name: str, content: bytes) -> str:
    """An element of the page that holds bytes and does nothing; base64 has no character that could end it."""
    return f'<script type="text/plain" id="{name}">{base64.b64encode(content).decode()}</script>\n'


def policy(source: Source) -> str:
    """The page's Content-Security-Policy: its own program and style run and no other, and nothing is loaded but, from a
    server, what that server has."""
    script, style = (_hash(part) for part in (_script(), _style()))
    own = "'self'" if source == "server" else "'none'"
    images = "data: blob: 'self'" if source == "server" else "data: blob:"
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src {images}; media-src blob:; "
        f"connect-src {own}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _part(name: str) -> str:
    """A file of the page, read once: the server sends the hashes of its program with each answer."""
    return files("posecap.explore").joinpath(name).read_text(encoding="utf-8")


def _script() -> str:
    return f"{_part('arrow.js')}\n{_part('page.js')}"


def _style() -> str:
    return _part("page.css")


def _page(title: str, *, source: Source, data: Iterable[str], blocks: Iterable[str]) -> Iterable[str]:
    """The pieces of the page. Of what comes from a dataset only the title is not base64."""
    known: dict[str, Any] = {
        "policy": [html.escape(policy(source))],
        "title": [html.escape(title)],
        "source": [source],
        "style": [_style()],
        "script": [_script()],
        "data": data,
        "blocks": blocks,
    }
    # One pass over the frame: what is put in is not looked at again.
    for number, piece in enumerate(re.split(r"@(\w+)@", _part("page.html"))):
        if number % 2:
            yield from known[piece]
        else:
            yield piece


HOST: Final = "127.0.0.1"
_MOST_RANGE_BYTES: Final = 256 << 20
"""Of one answer: a stored video of a clip fits, and no request takes more memory. A free choice."""
_IDLE_SECONDS: Final = 30.0
"""After which a connection on which nothing is asked is closed."""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Snapshot:
    """A page and what it may ask for: whole answers by name, and files of the dataset by name, with their types."""

    answers: Mapping[str, tuple[str, bytes]]
    files: Mapping[str, tuple[str, str]]


class ExploreServer:
    """A server of the page of one dataset. Loading the page again shows the parts that are built by then.

    Args:
        location: of the dataset.
        choice: what is shown. Maps of a remote dataset read all of its samples.
        port: of the loopback interface; 0 for one that is free.

    Raises:
        OSError: the port is taken.
        ShardError, PlanError, WhereError, MapPackageError: the first page cannot be made.
    """

    def __init__(self, location: Location, choice: Choice, *, port: int = 0) -> None:
        self._storage, self._choice = open_storage(location), choice
        self._lock = Lock()
        self._built: tuple[object, ...] = ()
        self._snapshot = self._fresh()
        self._secret = secrets.token_urlsafe(16)
        self._http = _Http((HOST, port), self._answer)
        self.address = f"http://{HOST}:{self._http.server_port}/{self._secret}/"

    def run(self) -> None:
        """Answer until :meth:`stop` is called from another thread, or Ctrl-C."""
        self._http.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """Let :meth:`run` end."""
        self._http.shutdown()

    def close(self) -> None:
        """Give the port back."""
        self._http.server_close()

    def _fresh(self) -> _Snapshot:
        """The page of what is built now; the one before where nothing changed."""
        with self._lock:
            built = (*committed(self._storage), *(self._storage.size(name) for name in _CHANGING))
            if not self._built or built != self._built:
                self._snapshot = _snapshot(self._storage, self._choice)
                self._built = built
            return self._snapshot

    def _answer(self, path: str) -> _Answer | None:
        """What a path names; None for nothing."""
        secret, _, name = path.removeprefix("/").partition("/")
        if not hmac.compare_digest(secret.encode(), self._secret.encode()):
            return None
        snapshot = self._fresh() if name == "" else self._snapshot
        if name in snapshot.answers:
            kind, content = snapshot.answers[name]
            return _Answer(kind, len(content), lambda first, size: content[first : first + size])
        if name not in snapshot.files:
            return None
        kind, stored = snapshot.files[name]
        size = self._storage.size(stored)
        if size is None:
            return None
        return _Answer(kind, size, lambda first, size: bytes(self._storage.read_range(stored, first, size)))


_CHANGING: Final = ("tombstones.json", "report.json", "duplicates.parquet")
"""Files that change what a page shows though its parts stay the same."""


def _snapshot(storage: Storage, choice: Choice) -> _Snapshot:
    contents = read_contents(storage, choice)
    if choice.projection is not None:
        contents = read_maps(storage, contents, choice.projection)
    gzip, tar, jpeg = "application/gzip", "application/x-tar", "image/jpeg"
    stored = [name for part, _ in contents.parts for name in (tar_path(part), video_path(part))]
    return _Snapshot(
        answers={
            "": ("text/html; charset=utf-8", served_page(contents.title)),
            "tables/document": (gzip, document(contents)),
            "tables/clips": (gzip, packed(contents.clips)),
            "tables/losses": (gzip, packed(contents.losses)),
        },
        files={f"files/{name}": (tar, name) for name in stored}
        | {f"files/{name}": (jpeg, name) for name in contents.pictures.values()},
    )


@dataclass(frozen=True)
class _Answer:
    """The type and size of what was asked for, and how to read bytes of it, by first and number."""

    kind: str
    size: int
    read: Callable[[int, int], bytes]


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], answer: Callable[[str], _Answer | None]) -> None:
        super().__init__(address, _Handler)
        self.answer = answer
        self.hosts = {f"{host}:{self.server_port}" for host in (HOST, "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is nothing to report."""
        _log.debug("a request was not answered", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; BaseHTTPRequestHandler refuses other methods."""

    server: _Http
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "posecap", ""
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        """Answer with what is asked for, or the range of it."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            return self._refuse(HTTPStatus.FORBIDDEN)
        try:
            answer = self.server.answer(urlsplit(self.path).path)
            if answer is None:
                return self._refuse(HTTPStatus.NOT_FOUND)
            wanted = _range(self.headers.get("Range"), answer.size)
            if wanted is None:
                return self._refuse(
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{answer.size}"}
                )
            first, size = wanted
            if size > _MOST_RANGE_BYTES:
                return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            content = answer.read(first, size) if self.command == "GET" else b""
        except (ShardError, StorageError, FileNotFoundError) as error:
            _log.warning("%s", error)
            return self._refuse(HTTPStatus.NOT_FOUND)  # removed meanwhile, or the store fails
        is_whole = size == answer.size
        self.send_response(HTTPStatus.OK if is_whole else HTTPStatus.PARTIAL_CONTENT)
        headers = {"Content-Type": answer.kind, "Content-Length": str(size), "Accept-Ranges": "bytes"}
        if not is_whole:
            headers["Content-Range"] = f"bytes {first}-{first + size - 1}/{answer.size}"
        self._end(headers)
        self.wfile.write(content)
        return None

    do_HEAD = do_GET

    def _refuse(self, status: HTTPStatus, headers: Mapping[str, str] | None = None) -> None:
        content = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        self._end({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(content)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _end(self, headers: Mapping[str, str]) -> None:
        for name, value in {**_HEADERS, "Content-Security-Policy": policy("server"), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests go to the log of posecap, and not to the terminal."""
        _log.debug(format, *arguments)


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and number of bytes of a request; without a header, or with one of another form than ``bytes=5-9`` or
    ``bytes=5-``, of everything, as HTTP allows; None where it begins behind the end, or ends before it begins."""
    unit, _, span = (header or "").partition("=")
    first, dash, last = span.partition("-")
    digits = all(word.isascii() and word.isdigit() and len(word) < 19 for word in (first, last or "0"))
    if unit.strip() != "bytes" or not dash or not digits:
        return 0, size
    begin, end = int(first), min(int(last), size - 1) if last else size - 1
    return (begin, end - begin + 1) if begin <= end else None
