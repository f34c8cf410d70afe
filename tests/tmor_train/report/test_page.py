"""The page is one sound HTML document that asks for nothing, whatever words the results hold."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markupsafe import escape

from tmor_train.metrics.accuracy import accuracy
from tmor_train.report.charts import printable
from tmor_train.report.collect import collect
from tmor_train.report.page import page, report
from tmor_train.results import FrameScores, Result, ResultError, Scores, save

pytest.importorskip("matplotlib")
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=y>', "$\\frac{", "_a&amp;b\x00\ud800\n]]>-->")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Sees that every element is closed in order, and keeps elements, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def measured(folder: Path, *, classes: tuple[str, ...] = HOSTILE, mode: str = "probe", seed: int = 0) -> Path:
    """A result with scores of twenty clips."""
    draw = np.random.default_rng(seed)
    label_N = np.arange(20) % len(classes)
    scores_NK = draw.normal(size=(20, len(classes))).astype(np.float32) + 2 * np.eye(len(classes))[label_N]
    figures = accuracy(scores_NK.astype(np.float32), label_N)
    result = Result(
        benchmark="shards",
        protocol=HOSTILE[0],
        mode=mode,
        recipe="probe",
        seed=seed,
        checkpoint=HOSTILE[1],
        metrics={"top1": figures.top1, "mean_per_class": figures.mean_per_class},
        primary_metric="top1",
        per_class=tuple(figures.per_class_K.tolist()),
        classes=classes,
        counts={"train": 7, "test": 20},
        notes=(HOSTILE[0],),
    )
    kept = Scores(scores_NK.astype(np.float32), label_N.astype(np.int64), np.array([f"k{n}" for n in range(20)]))
    save(result, folder, scores=kept)
    return folder


def frames(folder: Path) -> None:
    """A result of one recording, background first, its second class true in the middle."""
    label_TK = np.zeros((40, 2), np.bool_)
    label_TK[10:20, 1] = True
    scores = np.random.default_rng(0).random((40, 3)).astype(np.float16)
    result = Result(
        benchmark="tsu",
        protocol="CS",
        mode="detect_probe",
        recipe="detect_probe",
        seed=0,
        checkpoint="a.pt",
        metrics={"nonzero": 0.25},
        primary_metric="nonzero",
        per_class=(None, 0.25),
        classes=(HOSTILE[2], HOSTILE[1]),
    )
    offsets, rates = np.array([0, 40]), np.array([20.0], np.float32)
    names = np.array([HOSTILE[0]])
    kept = FrameScores(scores_FK=scores, label_FK=label_TK, offset_R=offsets, key_R=names, fps_R=rates)
    save(result, folder, scores=kept)


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """All kinds of things that are reported, with words that are not to be trusted."""
    folder = tmp_path / "runs"
    measured(folder / "one<b>")
    measured(folder / "two", mode=HOSTILE[3], seed=1)
    frames(folder / "recordings")
    with (folder / "two/journal.jsonl").open("w") as journal:
        for step in range(3):
            journal.write(json.dumps({"event": "step", "step": step, "loss": 3.0 - step, "mm/loss": None}) + "\n")
    draw = np.random.default_rng(0)
    vectors = np.concatenate([draw.normal(5 * k, 1, (12, 8)) for k in range(3)]).astype(np.float32)
    labels = [HOSTILE[k] if k < 2 else None for k in range(3) for _ in range(12)]
    columns = {"key": [f"k{n}" for n in range(36)], "label": labels, "embedding": list(vectors)}
    pq.write_table(pa.table(columns), folder / "some.parquet")
    cell = {"values": [0.5], "words": "50.0", "folder": "x"}
    weights = {"vm": {"name": HOSTILE[1], "sha256": "0", "losses": [], "data": [], "stands_for": HOSTILE[0]}}
    here = [{"key": "vm", "recipe": "probe", "words": HOSTILE[0], "figures": [cell]}]
    row = {"section": HOSTILE[0], "method": HOSTILE[1], "more": {"Backbone": HOSTILE[3]}, "paper": [12.5], "here": here}
    values = {
        "format": "tmor_train.table/1",
        "name": "table1",
        "title": HOSTILE[0],
        "columns": [{"title": HOSTILE[1], "benchmark": "b", "protocol": "p", "figure": "top1"}],
        "weights": weights,
        "rows": [row],
        "notes": [HOSTILE[0]],
        "not_measured": [HOSTILE[3]],
    }
    (folder / "table.json").write_text(json.dumps(values))
    return folder


def test_every_section_is_there_and_nothing_is_asked_for(everything: Path, tmp_path: Path) -> None:
    assert report(everything, tmp_path / "page.html") == 3
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    found = read(html)
    names = [attributes["id"] for tag, attributes in found.elements if tag == "section"]
    assert names == ["tables", "results", "classes", "confusion", "timelines", "embeddings", "curves"]
    tags = {tag for tag, _ in found.elements}
    assert "svg" in tags
    assert not tags & {"script", "link", "iframe", "object", "embed", "form"}
    for tag, attributes in found.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), tag
            if name in ("src", "href", "xlink:href", "action", "data"):
                assert value is not None
                assert value.startswith(("#", "data:image/png;base64,")), (tag, value[:40])
    assert "@import" not in html
    policy = next(a["content"] for tag, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    ids = [attributes["id"] for _, attributes in found.elements if attributes.get("id")]
    links = {str(a["href"])[1:] for tag, a in found.elements if tag == "a"}
    assert links == set(names)
    assert len(set(names)) == len(names)
    assert set(names) <= set(ids)


def test_hostile_words_are_shown_as_they_are(everything: Path, tmp_path: Path) -> None:
    report(everything, tmp_path / "page.html")
    found = read((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert found.text.count(HOSTILE[0]) > 5
    assert HOSTILE[1] in found.text
    assert HOSTILE[2] in found.text  # no formula is made of it
    assert not [a for tag, a in found.elements if tag == "img"]


def test_figures_stand_beside_the_papers(everything: Path, tmp_path: Path) -> None:
    report(everything, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.index(">12.5<") < text.index(">50.0<")
    result = json.loads((everything / "two/result.json").read_text())
    assert f">{100 * result['metrics']['top1']:.2f}<" in text
    assert f"{escape('probe')}, {escape(printable(HOSTILE[3]))}: {escape(HOSTILE[0])}" in text  # whose note it is


def test_what_cannot_be_read_is_said_and_the_rest_is_shown(everything: Path, tmp_path: Path) -> None:
    (everything / "two/result.json").write_text("{")
    (everything / "one<b>/table.json").write_text('{"format": "other"}')
    damaged = json.loads((everything / "table.json").read_text())
    damaged["rows"][0]["paper"] = ["much"]
    (everything / "table.json").write_text(json.dumps(damaged))
    (everything / "deep").mkdir()
    (everything / "deep/table.json").write_text("[" * 100_000)
    (everything / "bad.parquet").write_bytes(b"PAR1")
    (everything / "two/journal.jsonl").write_text('{"event": "step"}\n[1]\n')
    assert report(everything, tmp_path / "page.html") == 2
    text = read((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "not read: " in text
    assert "two/result.json cannot be read" in text
    assert "is not a table of tmor_train: its format is not" in text
    assert "deep/table.json is not a table of tmor_train" in text
    assert "table1 is damaged: ValueError" in text


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="holds no result, table, run or embeddings"):
        report(tmp_path, tmp_path / "page.html")
    with pytest.raises(ResultError, match="is not a folder"):
        report(tmp_path / "nowhere", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_same_in_several_folders_is_drawn_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        measured(tmp_path / name)
    measured(tmp_path / "c", seed=1)
    collected = collect(tmp_path)
    assert [one.name for one in collected.results] == ["a", "b", "c"]
    assert [one.name for one in collected.distinct()] == ["a", "c"]


def test_words() -> None:
    assert printable("a\x00\n b\ud800", limit=10) == "a b"
    assert printable("abcdef", limit=4) == "abc…"
    assert "&lt;a b=&#39;c&#39; d=&#34;e&#34;&gt;&amp;" in page("t", """<a b='c' d="e">&""", [])
    assert read(page("<t>", "<u>", [])).text.count("<t>") == 2
