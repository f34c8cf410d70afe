"""Rows a second and CPU seconds a row of the download stage, by how many rows it fetches at once.

    python benchmarks/downloads.py                       # a video takes 0.5 s and has 1 MB
    python benchmarks/downloads.py --wait 5 --rows 64 --concurrency 1 8 32
    python benchmarks/downloads.py --per-host 4          # at most four connections: more at once gain nothing

A server in a process of its own waits ``--wait`` seconds before each answer, as a distant one does, so one thread
fetches one row in that time. What is measured is one worker: the stage with ``Http`` and LocalPool's threads, with
type check and hash of the file. A build has one such worker on each node.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import ClassVar

from measuring import cpu_seconds, parser_of

from posecap.download.retry import HostLimits
from posecap.engines.http import Http
from posecap.pipeline import Segment
from posecap.run.execute import ItemResult
from posecap.run.local import LocalPool
from posecap.run.pool import Task
from posecap.stage import Stage
from posecap.stages.download import Download
from posecap.types import PartName, Row, Video

HEAD = b"\x00\x00\x00\x20ftypisom"
"""By which the stage takes a file for an mp4."""


@dataclass(frozen=True)
class Forget(Stage):
    """Ends the segment, so that the video's file is deleted."""

    name: ClassVar[str] = "forget"
    takes: ClassVar[type] = Video
    gives: ClassVar[type] = Video

    def __call__(self, item: Video) -> Iterator[Video]:
        yield from ()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


def serve(tell: Connection, wait: float, size_bytes: int) -> None:
    """Answer every request with a video of so many bytes after ``wait`` seconds; tells the port."""
    body = HEAD + os.urandom(size_bytes - len(HEAD))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(wait)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        tell.send(server.server_address[1])
        server.serve_forever()


def measure(port: int, *, concurrency: int, per_host: int, rows: int) -> tuple[float, float]:
    """Wall and CPU seconds of ``rows`` rows."""
    stage = Download((Http(per_host=HostLimits(connections=per_host)),), concurrency=concurrency)
    pool = LocalPool((Segment((stage, Forget()), stage.resources),), workers=1)
    since, cpu = time.perf_counter(), cpu_seconds()
    for i in range(rows):
        row = Row(row_id=f"{i:064x}", uri=f"http://127.0.0.1:{port}/{i}.mp4")
        pool.submit(Task(PartName("train", 0), i, (0,), 0, row))
    for _ in range(rows):
        result = pool.wait().result
        if not isinstance(result, ItemResult) or result.error is not None:
            raise SystemExit(f"a row failed: {result}")
    wall, cpu = time.perf_counter() - since, cpu_seconds() - cpu
    pool.close()
    return wall, cpu


def main() -> None:
    """Print a line for each concurrency."""
    parser = parser_of(__doc__)
    parser.add_argument("--wait", type=float, default=0.5, help="seconds until the server answers")
    parser.add_argument("--megabytes", type=float, default=1.0, help="of a video")
    parser.add_argument("--rows", type=int, default=128, help="to fetch, at most 8 for each that is fetched at once")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--per-host", type=int, default=1000, help="connections to the one host")
    options = parser.parse_args()
    os.environ["NO_PROXY"] = "*"
    ours, theirs = multiprocessing.Pipe()
    size_bytes = int(options.megabytes * 1e6)
    server = multiprocessing.Process(target=serve, args=(theirs, options.wait, size_bytes), daemon=True)
    server.start()
    port = ours.recv()
    for concurrency in options.concurrency:
        rows = min(options.rows, 8 * concurrency)
        wall, cpu = measure(port, concurrency=concurrency, per_host=options.per_host, rows=rows)
        print(f"concurrency {concurrency:3}: {rows / wall:6.1f} rows/s, {1000 * cpu / rows:.1f} ms of CPU a row")
    server.terminate()


if __name__ == "__main__":
    main()
