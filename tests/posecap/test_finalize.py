"""The end of a build: what describes the dataset as a whole, and when it counts as finished."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from posecap.finalize import finalize, mark_unfinished, read_final_report, read_manifest_path, write_manifest_path
from posecap.ledger import Ledger
from posecap.manifest.manifest_file import read_manifest
from posecap.outcomes import RowOutcome
from posecap.pipeline import load_pipeline
from posecap.release.report import Run
from posecap.shards import read_sidecar
from posecap.types import PartName, Sample
from posecap.visualization.contact_sheet import write_preview
from tests import building, built, small

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = Run(
    started=NOW, ended=NOW, seconds=4.0, start_seconds=1.0, runner="local", workers=2, parts=2, clips=5, frames=35
)


def finished(folder: Path, made: dict[PartName, list[Sample]] | None = None) -> dict[str, Any]:
    """A dataset in ``folder/dataset`` that is committed, entered and finished; gives the report."""
    manifest, root = read_manifest(small.manifest(folder, [{"id": "a", "video": "a.mp4"}])), folder / "dataset"
    parts = built.build(root, made)
    with Ledger(root / "ledger.sqlite") as ledger:
        for part in parts:
            rows = [RowOutcome.from_json(row) for row in read_sidecar(root, part)["rows"]]
            ledger.record_part(part, "f" * 64, rows, seconds={"decode": 1.0}, frames=7)
        return finalize(root, manifest=manifest, pipeline=load_pipeline(small.DEFAULT), ledger=ledger, run=RUN)


def test_everything_that_describes_a_dataset_is_written(tmp_path: Path) -> None:
    report = finished(tmp_path)
    root = tmp_path / "dataset"
    assert {path.name for path in root.iterdir() if path.is_file()} >= {
        "card.md",
        "contact_sheet.jpg",  # drawn from the joints alone, as no pictures were kept
        "croissant.json",
        "dataset.json",
        "ledger.parquet",
        "report.json",
    }
    assert report["counts"]["rows"]["kept"] == 5
    assert json.loads((root / "report.json").read_bytes()) == report == read_final_report(root)
    assert pq.read_table(root / "ledger.parquet").num_rows == 5
    rates = report["rates"]
    assert 0 < rates["end_seconds"] < 60
    assert rates["wall_seconds"] == pytest.approx(RUN.seconds + rates["end_seconds"], abs=0.002)


def test_pictures_make_a_contact_sheet_unless_no_clip_is_left(tmp_path: Path) -> None:
    from PIL import Image

    picture = building.sample(key="k" * 24, thumbnail_jpeg=_grey())
    parts: dict[PartName, list[Sample]] = {PartName("train", 0): built.samples(1)}
    (tmp_path / "one/dataset").mkdir(parents=True)
    write_preview(tmp_path / "one/dataset", PartName("train", 0), building.thumbnails(picture))
    finished(tmp_path / "one", parts)
    with Image.open(tmp_path / "one/dataset/contact_sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
    (tmp_path / "none/dataset").mkdir(parents=True)
    write_preview(tmp_path / "none/dataset", PartName("train", 0), building.thumbnails(picture))
    finished(tmp_path / "none", {PartName("train", 0): []})
    assert not (tmp_path / "none/dataset/contact_sheet.jpg").exists()


def _grey() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 90, 90)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    "harm", ["no report", "torn report", "another form", "no list", "another list", "a part is gone"]
)
def test_it_is_finished_while_report_and_list_are_those_of_its_parts(tmp_path: Path, harm: str) -> None:
    finished(tmp_path)
    root = tmp_path / "dataset"
    report, listed = root / "report.json", root / "dataset.json"
    if harm == "no report":
        mark_unfinished(root)
        mark_unfinished(root)
    elif harm == "torn report":
        report.write_bytes(report.read_bytes()[:-3])
    elif harm == "another form":
        report.write_bytes(b"[]")
    elif harm == "no list":
        listed.unlink()
    elif harm == "another list":
        listed.write_bytes(listed.read_bytes() + b" ")
    else:
        (root / "data/train/pose-00003.json").unlink()
    assert read_final_report(root) is None


def test_the_manifest_is_remembered_while_it_is_there(tmp_path: Path) -> None:
    manifest = read_manifest(small.manifest(tmp_path, [{"id": "a", "video": "a.mp4"}]))
    assert read_manifest_path(tmp_path) is None
    write_manifest_path(tmp_path, manifest)
    assert read_manifest_path(tmp_path) == tmp_path / "manifest.yaml"
    manifest.path.unlink()
    assert read_manifest_path(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"manifest": 3}', "null"])
def test_a_damaged_memory_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ".origin.json").write_text(text)
    assert read_manifest_path(tmp_path) is None
