"""The page itself: what is in the file, what it does in a browser, and what its server gives, and to whom.

The tests in a browser need the package playwright and a Chromium, and are skipped where there is none.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from posecap.engines.pyav_encoder import PyAVEncoder
from posecap.explore.contents import CLIPS_SCHEMA, LOSSES_SCHEMA, Choice
from posecap.explore.page import HOST, ExploreServer, policy, write_page
from posecap.files import OutputExistsError
from posecap.outcomes import RowOutcome
from posecap.shards import write_dataset_list, write_part
from posecap.types import Caption, PartName, Sample
from tests import built
from tests.posecap.explore.test_contents import table_in

CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)
HOSTILE = "</script><script>window.harm = 1</script><img src=x onerror='window.harm=2'>\"'`${1}&lt;\u2028"
LOST = RowOutcome(row_id="r", uri=HOSTILE, status="failed", stage="download", reason="timeout", detail=HOSTILE)


def hostile_dataset(root: Path) -> list[Sample]:
    """Three clips, of which the first has markup in all its texts, and a row that failed with such."""
    first, *rest = built.samples(3)
    facts = {**first.facts, **dict.fromkeys(("label", "license", "source", "uri", "codec"), HOSTILE)}
    samples = [replace(first, facts=facts, captions=(Caption(HOSTILE, "row"), first.captions[1])), *rest]
    write_part(root, PartName("train", 0), samples, record=built.record(samples, more=[LOST]))
    write_dataset_list(root)
    return samples


class Elements(HTMLParser):
    """The script elements of a page, by id, and what is between their tags; tags and the texts of all others."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: dict[str | None, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._in: str | None = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = dict(attrs).get("id") if tag == "script" else ""
        if tag == "script":
            self.scripts[self._in] = ""

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in != "":
            self.scripts[self._in] += data


class TestFile:
    def test_its_tables_are_arrow(self, tmp_path: Path) -> None:
        built.build(tmp_path / "data set")
        write_page(tmp_path / "data set", tmp_path / "out" / "page.html", Choice())
        scripts = Elements((tmp_path / "out" / "page.html").read_text()).scripts
        tables = {name: base64.b64decode(text) for name, text in scripts.items() if name}
        assert tables.keys() == {"document", "clips", "losses", "moves-0"}
        assert table_in(tables["clips"]).schema.equals(CLIPS_SCHEMA)
        assert table_in(tables["losses"]).schema.equals(LOSSES_SCHEMA)
        assert table_in(tables["moves-0"]).num_rows == 5

    def test_it_has_no_address_and_nothing_of_the_dataset_is_markup(self, tmp_path: Path) -> None:
        hostile_dataset(tmp_path / "<b>&")
        write_page(tmp_path / "<b>&", tmp_path / "page.html", Choice())
        page = (tmp_path / "page.html").read_text()
        assert not re.search(r"\b(https?|ftp|wss?):|//[a-z0-9.-]+\.[a-z]{2}|@import|url\(", page)
        assert "harm" not in page
        assert "<title>&lt;b&gt;&amp;</title>" in page
        found = Elements(page)
        assert [at.get("type") for tag, at in found.tags if tag == "script"] == [
            *["text/plain"] * 3,
            None,
            "text/plain",
        ]
        assert not [at for _, at in found.tags if any(name.startswith("on") or name == "src" for name in at)]

    def test_only_its_own_program_and_style_run(self, tmp_path: Path) -> None:
        built.build(tmp_path / "d")
        write_page(tmp_path / "d", tmp_path / "page.html", Choice())
        (rule,) = [
            at["content"]
            for tag, at in Elements((tmp_path / "page.html").read_text()).tags
            if tag == "meta" and at.get("http-equiv") == "Content-Security-Policy"
        ]
        assert rule == policy("file")
        assert "default-src 'none'" in rule
        assert "connect-src 'none'" in rule
        assert "unsafe" not in rule

    def test_a_file_that_exists(self, tmp_path: Path) -> None:
        built.build(tmp_path / "d")
        (tmp_path / "page.html").write_text("mine")
        with pytest.raises(OutputExistsError):
            write_page(tmp_path / "d", tmp_path / "page.html", Choice())
        assert (tmp_path / "page.html").read_text() == "mine"
        write_page(tmp_path / "d", tmp_path / "page.html", Choice(), existing="replace")
        assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


# ── In a browser ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield launched
        launched.close()


Open = Callable[..., Any]


@pytest.fixture
def look(browser: Any) -> Iterator[Open]:
    """Opens an address in a new window, and waits until the page stands; errors on the page fail the test."""
    errors: list[str] = []
    contexts = []

    def opened(address: str, *, width: int = 1280, height: int = 800, **settings: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if is_trouble(said) else None)
        page.on("request", lambda asked: None if asked.url.startswith(OWN) else errors.append(asked.url))
        page.goto(address)
        page.wait_for_selector("#view:not([aria-busy])")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


def is_trouble(said: Any) -> bool:
    """Whether a message on the console is an error or warning; that pixels are read is the tests' own doing."""
    return said.type in ("error", "warning") and "getImageData" not in said.text


OWN = ("file:", "data:", "blob:", "http://127.0.0.1:")


def worse(sample: Sample, jitter: float) -> dict[str, Any]:
    return {**sample.facts["quality"], "jitter": jitter}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty clips of four labels in two splits, with one row that failed."""
    root = tmp_path_factory.mktemp("explored") / "sixty"
    for number, split in enumerate(("train", "val")):
        samples = [
            replace(
                one,
                facts={
                    **one.facts,
                    "label": f"label {at % 4}",
                    "quality": {**one.facts["quality"], "jitter": at / 100},
                },
            )
            for at, one in enumerate(built.samples(30, first=30 * number, split=split))
        ]
        write_part(root, PartName(split, number), samples, record=built.record(samples, more=[LOST]))
    write_dataset_list(root)
    return root


@contextmanager
def serving(location: Path) -> Iterator[str]:
    """The address of a page of the dataset, which is served in the block."""
    with closing(ExploreServer(location, Choice())) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server.address
        finally:
            server.stop()
            thread.join()


@pytest.fixture(scope="module", params=["file", "server"])
def address(request: pytest.FixtureRequest, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a page of the dataset, in one file and from a server."""
    if request.param == "file":
        output = tmp_path_factory.mktemp("pages") / "page.html"
        write_page(dataset, output, Choice())
        yield output.as_uri()
        return
    with serving(dataset) as served:
        yield served


def labels(page: Any) -> list[str]:
    return [str(text) for text in page.locator(".card b").all_text_contents()]


def inked(page: Any, canvas: str) -> int:
    """How many pixels of a canvas are not empty."""
    count = (
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.filter(Boolean).length"
    )
    return int(page.locator(canvas).first.evaluate(count))


class TestBrowser:
    def test_cards_move_and_pages_turn(self, look: Open, address: str) -> None:
        page = look(address)
        assert page.locator("#count").text_content() == "60 of 60 clips"
        assert page.locator(".card").count() == 48
        page.wait_for_selector("#view[data-moving]")
        assert inked(page, ".card canvas") > 100
        page.keyboard.press("n")
        assert page.locator(".card").count() == 12
        page.keyboard.press("p")
        assert page.locator(".card").count() == 48

    def test_filters_sorting_and_search(self, look: Open, address: str) -> None:
        page = look(address)
        page.get_by_label("label 2").first.check()
        assert set(labels(page)) == {"label 2"}
        assert page.locator("#count").text_content() == "14 of 60 clips"
        page.get_by_label("val").first.check()
        assert page.locator("#count").text_content() == "7 of 60 clips"
        page.select_option("#sort", "jitter")
        said = page.locator(".card .words span").all_text_contents()
        jitters = [float(text.rpartition("jitter ")[2]) for text in said]
        assert jitters == sorted(jitters, reverse=True)  # the worst first
        page.locator("#descending").click()
        said = page.locator(".card .words span").all_text_contents()
        assert [float(text.rpartition("jitter ")[2]) for text in said] == jitters[::-1]
        page.get_by_role("button", name="clear all").click()
        page.locator("#search").fill("walks by videos/42.mp4")
        page.locator("#count", has_text="1 of 60 clips").wait_for()
        assert labels(page) == ["label 0"]

    def test_the_address_keeps_what_is_shown(self, look: Open, address: str, dataset: Path) -> None:
        page = look(address)
        page.get_by_label("label 1").first.check()
        page.select_option("#sort", "motion")
        first = page.locator(".card").first.get_attribute("data-row")
        page.locator(".card").first.click()
        again = look(page.url)
        assert again.locator("#clip h2").first.text_content() == "label 1"
        again.keyboard.press("Escape")
        assert again.locator(".card").first.get_attribute("data-row") == first
        assert again.locator("#count").text_content() == page.locator("#count").text_content()

    def test_one_clip_with_its_joints(self, look: Open, address: str) -> None:
        page = look(address)
        page.locator(".card").nth(1).focus()
        page.keyboard.press("Enter")
        page.locator(".joints button").first.wait_for()
        assert inked(page, "#clip .stage canvas") > 100
        before = inked(page, "#clip .plot")
        page.get_by_role("button", name="nose").click()
        assert inked(page, "#clip .plot") > before
        assert "Somebody walks by." in page.locator("#clip .captions").text_content()
        key = page.locator("#clip dd code").text_content()
        page.keyboard.press("ArrowRight")
        assert page.locator("#clip dd code").text_content() != key
        page.keyboard.press("ArrowLeft")
        assert page.locator("#clip dd code").text_content() == key
        page.keyboard.press("Escape")
        assert not page.locator("#clip").is_visible()

    def test_every_view_draws(self, look: Open, address: str) -> None:
        page = look(address)
        page.keyboard.press("2")
        assert inked(page, ".map canvas") > 1000
        page.locator(".map canvas").first.focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("#hover").is_visible()
        page.keyboard.press("Enter")
        assert page.locator("#clip").is_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("3")
        assert page.locator(".figure").count() >= 8
        page.keyboard.press("4")
        assert page.locator("tbody tr").first.text_content().startswith("download")
        page.keyboard.press("5")
        assert page.locator("tbody tr").count() == 2
        assert HOSTILE in page.locator("tbody tr").first.text_content()
        page.keyboard.press("6")
        assert "posecap duplicates" in page.locator("#view").text_content()

    def test_a_selection_on_the_map_filters(self, look: Open, address: str) -> None:
        page = look(f"{address}#view=map")
        page.get_by_role("button", name="Select").click()
        box = page.locator(".map canvas").first.bounding_box()
        corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98)]
        places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in corners]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()
        assert page.locator("#chips button").first.text_content() == "selected on the map ✕"
        assert page.locator("#count").text_content() == "60 of 60 clips"

    def test_a_histogram_filters(self, look: Open, address: str) -> None:
        page = look(f"{address}#view=numbers")
        canvas = page.get_by_role("img", name="Distribution of jitter")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + 1, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
        page.mouse.up()
        assert page.locator("#count").text_content() == "30 of 60 clips"

    def test_a_small_screen(self, look: Open, address: str) -> None:
        page = look(address, width=390, height=844, has_touch=True, is_mobile=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert not page.locator("#filters").is_visible()
        page.locator("#filters-button").tap()
        page.get_by_label("label 3").first.check()
        page.locator("#top h1").tap()
        assert page.locator("#count").text_content() == "14 of 60 clips"
        page.locator("#main").tap(position={"x": 5, "y": 5})
        page.locator(".card").first.tap()
        page.locator(".joints button").first.wait_for()
        assert page.locator("#clip").evaluate("one => one.scrollWidth") <= 390
        for view in ("map", "numbers", "yield", "losses", "groups"):
            wide = look(f"{address}#view={view}", width=390, height=844)
            assert wide.evaluate("document.documentElement.scrollWidth") <= 390

    def test_nothing_moves_for_those_who_want_that(self, look: Open, address: str) -> None:
        page = look(address, reduced_motion="reduce")
        page.wait_for_selector("#view[data-moving]")
        assert page.locator("#play-button").get_attribute("aria-pressed") == "false"
        before = page.locator(".card canvas").first.evaluate("canvas => canvas.toDataURL()")
        page.wait_for_timeout(150)
        assert page.locator(".card canvas").first.evaluate("canvas => canvas.toDataURL()") == before


def test_markup_in_texts_is_shown_as_text(look: Open, tmp_path: Path) -> None:
    hostile_dataset(tmp_path / "d")
    write_page(tmp_path / "d", tmp_path / "page.html", Choice())
    page = look((tmp_path / "page.html").as_uri())
    assert labels(page)[0] == HOSTILE
    page.locator("#search").fill("</script>")
    page.locator("#count", has_text="1 of 3 clips").wait_for()
    page.locator(".card").first.click()
    page.locator(".joints button").first.wait_for()
    assert page.locator("#clip h2").first.text_content() == HOSTILE
    assert HOSTILE in page.locator("#clip dl").text_content()
    page.keyboard.press("Escape")
    for key in "23456":
        page.keyboard.press(key)
    assert page.evaluate("window.harm") is None
    assert page.locator("img").count() == 0
    text = json.dumps(HOSTILE)
    address = f"{(tmp_path / 'page.html').as_uri()}#label={text}&q={text}&view={text}&sort={text}&clip={text}"
    assert look(address).evaluate("window.harm") is None


def test_joints_of_the_file_are_those_of_the_server(look: Open, dataset: Path, tmp_path: Path) -> None:
    write_page(dataset, tmp_path / "page.html", Choice())
    arrays = "[[...move.times], [...move.x], [...move.y], [...move.scores], move.people]"
    read = f"() => source.move(7).then((move) => {arrays})"
    with serving(dataset) as address:
        exact = look(address).evaluate(read)
    stored = look((tmp_path / "page.html").as_uri()).evaluate(read)
    for found, expected, most in zip(stored, exact, (1e-3, 0.16, 0.16, 0.026, 0), strict=True):
        assert found == pytest.approx(expected, abs=most)


def test_a_stored_video_plays_behind_the_joints(look: Open, tmp_path: Path) -> None:
    (one,) = built.samples(1, frames=24)
    frames = np.full((24, 360, 640, 3), 90, np.uint8)
    film = replace(one, video_mp4=PyAVEncoder().encode(frames, one.pts_T))
    built.build(tmp_path, {PartName("train", 0): [film]})
    with serving(tmp_path) as address:
        page = look(f"{address}#clip={one.key}")
        page.locator("#clip video").wait_for()
        for _ in range(50):
            page.wait_for_timeout(100)
            if page.locator("#clip video").evaluate("video => video.currentTime > 0"):
                break
        assert page.locator("#clip video").evaluate("video => [video.videoWidth, video.videoHeight]") == [640, 360]
        assert page.evaluate("opened.video !== null && opened.seconds > 0")


def test_an_empty_dataset(look: Open, tmp_path: Path) -> None:
    write_part(tmp_path / "d", PartName("train", 0), [], record=built.record([], more=[LOST]))
    write_dataset_list(tmp_path / "d")
    write_page(tmp_path / "d", tmp_path / "page.html", Choice())
    page = look((tmp_path / "page.html").as_uri())
    assert "Not kept" in page.locator("#view").text_content()
    for key in "23456":
        page.keyboard.press(key)
    page.keyboard.press("5")
    assert page.locator("tbody tr").count() == 1


class Client:
    """Asks a server, with or without the secret of its address."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host, self.port, self.secret = str(parts.hostname), int(parts.port or 0), parts.path.strip("/")

    def ask(
        self, path: str, headers: dict[str, str] | None = None, *, method: str = "GET"
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with names in small letters, and content; ``path`` goes out as it is."""
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=10)) as connection:
            connection.putrequest(method, path, skip_host=bool(headers and "Host" in headers))
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def get(self, name: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        return self.ask(f"/{self.secret}/{name}", headers)


@contextmanager
def asking(location: object, choice: Choice | None = None) -> Iterator[Client]:
    with closing(ExploreServer(str(location), choice or Choice())) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield Client(server.address)
        finally:
            server.stop()
            thread.join()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    built.build(tmp_path / "d")
    (tmp_path / "secret.txt").write_text("not to be read")
    with asking(tmp_path / "d") as one:
        yield one


def test_page_and_tables(client: Client) -> None:
    status, headers, page = client.get("")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'data-source="server"' in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
    status, _, content = client.get("tables/clips")
    assert status == 200
    assert table_in(content).schema.equals(CLIPS_SCHEMA)


def test_ranges_of_tars(client: Client, tmp_path: Path) -> None:
    tar = (tmp_path / "d/data/train/pose-00000.tar").read_bytes()
    name = "files/data/train/pose-00000.tar"
    for header, status, content in (
        ("bytes=512-1023", 206, tar[512:1024]),
        (f"bytes={len(tar) - 5}-", 206, tar[-5:]),
        (f"bytes=7-{10 * len(tar)}", 206, tar[7:]),
        ("bytes=9-3", 416, None),
        (f"bytes={len(tar)}-", 416, None),
        ("bytes=-5", 200, tar),  # forms that the page does not ask in are passed over, as HTTP allows
        ("bytes=0-1,5-6", 200, tar),
        ("pages=0-1", 200, tar),
        ("bytes=٣-٥", 200, tar),
    ):
        found = client.get(name, {"Range": header.encode().decode("latin1")})
        assert (header, found[0]) == (header, status)
        if content is not None:
            assert found[2] == content
        if status == 206:
            assert found[1]["content-range"].endswith(f"/{len(tar)}")
    with closing(http.client.HTTPConnection(client.host, client.port, timeout=10)) as connection:
        connection.request("HEAD", f"/{client.secret}/{name}")
        head = connection.getresponse()
        assert (head.status, head.getheader("Content-Length"), head.read()) == (200, str(len(tar)), b"")


def test_a_sample_is_where_the_table_says(client: Client) -> None:
    _, _, content = client.get("tables/clips")
    row = table_in(content).to_pylist()[1]
    first, size = int(row["joints_offset"]), int(row["joints_size"])
    _, _, npy = client.get("files/data/train/pose-00000.tar", {"Range": f"bytes={first}-{first + size - 1}"})
    values = np.frombuffer(npy[-row["M"] * row["T"] * row["J"] * 12 :], "<f4")
    assert npy.startswith(b"\x93NUMPY")
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    "path",
    [
        "files/secret.txt",
        "files/../secret.txt",
        "files/data/../../secret.txt",
        "files/data/train/../../../secret.txt",
        "files/%2e%2e/secret.txt",
        "files/data/train/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret.txt",
        "files/data/train/..%5c..%5csecret.txt",
        "files//etc/passwd",
        "//etc/passwd",
        "files/data/train/pose-00000.tar/",
        "files/data/train/pose-00000.tar\\..\\x",
        "files/data/train/pose-00000.json",
        "files/dataset.json",
        "files/data/train/pose-00001.tar",
        "files/preview/train-00000/x.jpg",
        "tables/",
        "page.py",
    ],
)
def test_nothing_else_is_found(client: Client, path: str) -> None:
    status, _, content = client.get(path)
    assert status == 404
    assert b"not to be read" not in content


def test_without_the_secret_there_is_nothing(client: Client) -> None:
    for path in (
        "/",
        "/tables/clips",
        f"/{client.secret[:-1]}/",
        f"/{client.secret}x/",
        "//",
        "/%C3%A9/",
    ):
        assert client.ask(path)[0] == 404


def test_only_this_machine_is_answered(client: Client) -> None:
    assert client.host == HOST == "127.0.0.1"
    for host in (f"localhost:{client.port}", f"LOCALHOST:{client.port}", f"127.0.0.1:{client.port}"):
        assert client.get("", {"Host": host})[0] == 200
    elsewhere = ("evil.example", f"evil.example:{client.port}", f"127.0.0.1.evil.example:{client.port}")
    for host in (*elsewhere, "127.0.0.1", "127.0.0.1:1", ""):
        assert client.get("", {"Host": host})[0] == 403
    outside = [
        address[4][0]
        for address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        if not str(address[4][0]).startswith("127.")
    ]
    for address in outside[:1]:
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection((str(address), client.port), timeout=2)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_only_reads(client: Client, tmp_path: Path, method: str) -> None:
    before = built.files(tmp_path / "d")
    assert client.ask(f"/{client.secret}/files/data/train/pose-00000.tar", method=method)[0] == 501
    assert built.files(tmp_path / "d") == before


def test_looking_again_shows_what_was_built_since(tmp_path: Path) -> None:
    samples = built.samples(4)
    write_part(tmp_path, PartName("train", 0), samples[:1], record=built.record(samples[:1]))
    with asking(tmp_path, Choice(projection=None)) as client:
        assert table_in(client.get("tables/clips")[2]).num_rows == 1
        write_part(tmp_path, PartName("train", 1), samples[1:], record=built.record(samples[1:]))
        write_dataset_list(tmp_path)
        assert table_in(client.get("tables/clips")[2]).num_rows == 1  # of the page that is open
        assert client.get("files/data/train/pose-00001.tar")[0] == 404
        client.get("")
        assert table_in(client.get("tables/clips")[2]).num_rows == 4
        assert client.get("files/data/train/pose-00001.tar")[0] == 200


def test_a_file_that_has_gone(client: Client, tmp_path: Path) -> None:
    (tmp_path / "d/data/train/pose-00000.tar").unlink()
    assert client.get("files/data/train/pose-00000.tar")[0] == 404


def test_previews_unless_blank(tmp_path: Path) -> None:
    one, *_ = built.build(tmp_path)[built.FIRST]
    name = f"preview/train-00000/{one.key}.jpg"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"a picture")
    with asking(tmp_path) as client:
        assert client.get(f"files/{name}")[::2] == (200, b"a picture")
    with asking(tmp_path, Choice(background="blank")) as client:
        assert client.get(f"files/{name}")[0] == 404


def test_a_dataset_in_a_store(bucket: str) -> None:
    built.build(f"{bucket}/d")
    with asking(f"{bucket}/d", Choice(projection=None)) as client:
        assert table_in(client.get("tables/clips")[2]).num_rows == 5
        status, _, content = client.get("files/data/train/pose-00000.tar", {"Range": "bytes=0-15"})
        assert (status, len(content)) == (206, 16)
