from __future__ import annotations

import hashlib
import math
import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from posecap.engines.http import Http
from posecap.engines.local_file import LocalFile
from posecap.files import scratch_folder
from posecap.interfaces import Fetched, Limits
from posecap.stage import Engine, Reject, Resources, TransientError, configuration
from posecap.stages.download import Download
from posecap.types import Row, Span, Video

BODY = b"\x00\x00\x00\x20ftypisom" + b"clip" * 500


@dataclass(frozen=True)
class FromFolder(Engine):
    """``NAME://file`` is a file under ``source``: lent as it is, or copied to the folder it is given."""

    source: Path
    keeping: Literal["borrowed", "temporary"] = "borrowed"
    scheme: str = "shelf"
    begins_seconds: float = 0.0
    seen: list[Limits] = field(default_factory=list)
    wanted: list[Span | None] = field(default_factory=list)
    name: ClassVar[str] = "from_folder"

    def accepts(self, uri: str) -> bool:
        return uri.startswith(f"{self.scheme}://")

    def fetch(self, uri: str, folder: Path, *, limits: Limits, span: Span | None = None) -> Fetched:
        self.seen.append(limits)
        self.wanted.append(span)
        path = self.source / uri.partition("://")[2]
        if not path.exists():
            raise TransientError("connection", "the shelf is away")
        if self.keeping == "borrowed":
            return Fetched(path, "borrowed", self.begins_seconds)
        copy = folder / path.name
        copy.write_bytes(path.read_bytes())
        return Fetched(copy, "temporary")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    (tmp_path / "a.mp4").write_bytes(BODY)
    (tmp_path / "page.mp4").write_bytes(b"<html>not here</html>")
    (tmp_path / "empty.mp4").touch()
    return tmp_path


@pytest.fixture(autouse=True)
def _scratch_is_left_empty() -> Iterator[None]:
    before = set(scratch_folder().iterdir())
    yield
    assert set(scratch_folder().iterdir()) == before


def row(uri: str) -> Row:
    return Row(row_id="r1", uri=uri, place="rows.csv:2")


def test_a_row_becomes_its_hashed_video(shelf: Path) -> None:
    stage = Download((FromFolder(shelf),))
    assert list(stage(row("shelf://a.mp4"))) == [
        Video(
            row=row("shelf://a.mp4"),
            path=shelf / "a.mp4",
            source_id=hashlib.sha256(BODY).hexdigest(),
            size_bytes=len(BODY),
            keeping="borrowed",
        )
    ]


def test_scratch_files_lie_in_this_processes_folder(shelf: Path) -> None:
    [video] = Download((FromFolder(shelf, keeping="temporary"),))(row("shelf://a.mp4"))
    assert (video.path.parent, video.keeping, video.path.read_bytes()) == (scratch_folder(), "temporary", BODY)
    video.path.unlink()


def test_first_fetcher_that_accepts_is_asked_with_the_limits(shelf: Path) -> None:
    other, first, second = FromFolder(shelf, scheme="other"), FromFolder(shelf), FromFolder(shelf)
    limits = Limits(size_bytes=5000, seconds=7.0)
    assert len(list(Download((other, first, second), limits=limits)(row("shelf://a.mp4")))) == 1
    assert (other.seen, first.seen, second.seen) == ([], [limits], [])


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (None, None, None),
        (2.0, 5.0, Span(2.0, 5.0)),
        (None, 5.0, Span(0.0, 5.0)),
        (2.0, None, Span(2.0, math.inf)),
        (5.0, 2.0, None),
        (-1.0, 2.0, None),
    ],
)
def test_a_fetcher_hears_which_stretch_is_wanted(
    shelf: Path, start: float | None, end: float | None, wanted: Span | None
) -> None:
    fetcher = FromFolder(shelf, begins_seconds=1.5)
    (video,) = Download((fetcher,))(Row(row_id="r1", uri="shelf://a.mp4", start_seconds=start, end_seconds=end))
    assert fetcher.wanted == [wanted]
    assert video.begins_seconds == 1.5


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("gopher://h/a", "gopher:// URIs"),
        ("/a.mp4", "plain paths"),
        ("https://www.youtube.com/watch?v=0wR5jVB-WPk", "YouTube's addresses; add YtDlp() to its Download stage"),
    ],
)
def test_no_fetcher(shelf: Path, uri: str, named: str) -> None:
    for download in (Download((FromFolder(shelf),)), Download((FromFolder(shelf), Http()))):
        with pytest.raises(Reject) as caught:
            list(download(row(uri)))
        assert caught.value.reason == "no_fetcher"
        assert named in caught.value.detail
        with pytest.raises(Reject, match="no fetcher of this pipeline"):
            download.check_row(row(uri))


@pytest.mark.parametrize("keeping", ["borrowed", "temporary"])
@pytest.mark.parametrize(("name", "reason"), [("page.mp4", "not_a_video"), ("empty.mp4", "empty_file")])
def test_what_is_no_video_is_rejected(
    shelf: Path, keeping: Literal["borrowed", "temporary"], name: str, reason: str
) -> None:
    with pytest.raises(Reject) as caught:
        list(Download((FromFolder(shelf, keeping=keeping),))(row(f"shelf://{name}")))
    assert caught.value.reason == reason
    assert f"shelf://{name}" in caught.value.detail
    assert (shelf / name).exists()


def test_content_can_be_left_to_the_decoder(shelf: Path) -> None:
    [video] = Download((FromFolder(shelf),), content="none")(row("shelf://page.mp4"))
    assert video.size_bytes == len(b"<html>not here</html>")


def test_fetchers_troubles_pass_through(shelf: Path) -> None:
    with pytest.raises(TransientError, match="the shelf is away"):
        list(Download((FromFolder(shelf),))(row("shelf://none.mp4")))


class Pages(BaseHTTPRequestHandler):
    """A server that answers everything with a page and status 200, as hosts of vanished videos like to do."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>This video is gone</title>")

    def log_message(self, *_: object) -> None:
        pass


def test_a_page_from_a_server_is_no_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_address[1]}/clip.mp4"
        with pytest.raises(Reject) as caught:
            list(Download((LocalFile(), Http()))(row(uri)))
        server.shutdown()
    assert (type(caught.value), caught.value.reason) == (Reject, "not_a_video")
    assert caught.value.detail == f"{uri} holds html, not a video; a server may have sent a page in its place"


def test_as_part_of_a_pipeline() -> None:
    stage = Download((LocalFile(),))
    assert (stage.name, stage.takes, stage.gives, stage.resources) == ("download", Row, Video, Resources(cpus=0))
    assert configuration(stage) == {
        "name": "download",
        "fetchers": [{"name": "local_file"}],
        "limits": {"size_bytes": 2 * 1024**3, "seconds": 600.0},
        "content": "magic",
    }
    assert pickle.loads(pickle.dumps(stage)) == stage


def test_several_rows_at_once_are_no_other_samples() -> None:
    many = Download((LocalFile(),), concurrency=16)
    assert many.resources == Resources(cpus=0, concurrency=16)
    assert configuration(many) == configuration(Download((LocalFile(),)))
    with pytest.raises(ValueError, match="concurrency is 0"):
        Download((LocalFile(),), concurrency=0)


@pytest.mark.parametrize(("size_bytes", "seconds"), [(0, 1.0), (1, 0.0)])
def test_limits_that_nothing_fits_are_refused(size_bytes: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Limits(size_bytes=size_bytes, seconds=seconds)


def test_no_fetcher_is_refused() -> None:
    with pytest.raises(ValueError, match="fetchers is empty"):
        Download(())
