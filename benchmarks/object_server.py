"""A server for the files of a folder that answers reads as S3 does, and waits before each answer.

    python benchmarks/object_server.py FOLDER PORT SECONDS

``s3://bucket/key`` is the file ``bucket/key`` of the folder. It knows GET and HEAD, ranges included, and neither lists
nor writes nor looks at signatures. Bytes go from the page cache to the connection without passing through Python, 0.2
ms of a core for a megabyte, so that on a machine of few cores the readers are measured and not the server.
"""

from __future__ import annotations

import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit


class Handler(BaseHTTPRequestHandler):
    """Answers one connection after another; a thread each."""

    protocol_version = "HTTP/1.1"
    folder: ClassVar[Path]
    wait_seconds: ClassVar[float]

    def do_GET(self) -> None:
        time.sleep(self.wait_seconds)
        path = self.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if not path.is_file():
            self._answer(404, 0)
            return
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            first, last = 0, size - 1
            if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(asked[1]), min(int(asked[2] or last), last)
                if first > last:
                    self._answer(416, 0)
                    return
            part = {"Content-Range": f"bytes {first}-{last}/{size}"} if asked else {}
            self._answer(206 if asked else 200, last + 1 - first, {"ETag": f'"{path.stat().st_mtime_ns}"', **part})
            while self.command == "GET" and first <= last:
                first += os.sendfile(self.connection.fileno(), file.fileno(), first, last + 1 - first)

    do_HEAD = do_GET

    def _answer(self, status: int, size: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(size), "Last-Modified": self.date_time_string(0)}.items():
            self.send_header(name, value)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


if __name__ == "__main__":
    Handler.folder, Handler.wait_seconds = Path(sys.argv[1]), float(sys.argv[3])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
