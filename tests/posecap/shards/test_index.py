"""The index."""

import contextlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from posecap.files import AtomicFile
from posecap.shards import INDEX_SCHEMA, ShardError, index
from posecap.types import PartName
from tests import building, built
from tests.damage import damaged

PART = PartName("train", 7)
RANGE_COLUMNS = {
    name: (512 * number, 100 + number)
    for number, name in enumerate(("joints", "pts", "video", "text", "txt", "json"), 1)
}
RECORD = {"fingerprint": "f" * 64, "lineage": {"weights": {"net": "ab", "ear": "cd"}}}


def write(path: Path, rows: list[tuple]) -> None:
    with AtomicFile(path) as staged:
        index.write_index(staged, rows)
        staged.finish()
        staged.publish()


def test_a_row_says_everything_about_a_sample(tmp_path: Path) -> None:
    sample = building.sample(people=2, frames=6, fps=4.0)
    write(tmp_path / "i", [index.index_row(sample, PART, RANGE_COLUMNS, RECORD)])
    (row,) = index.read_index(tmp_path / "i").to_pylist()
    assert list(row) == INDEX_SCHEMA.names
    expected = {
        "key": sample.key, "split": "train", "part": "train/00007", "fingerprint": "f" * 64,
        "row_id": "walk-1", "uri": "videos/walk.mp4", "label": "walking", "license": "CC0-1.0", "layout": "coco17",
        "start_seconds": 0.0, "end_seconds": 1.5, "fps": 4.0, "width": 640, "height": 360, "codec": "h264",
        "M": 2, "T": 6, "J": 17, "video_dimension": 6, "text_dimension": 4,
        "first_pts_seconds": 0.0, "last_pts_seconds": 1.25, "video_start_seconds": 0.0, "video_end_seconds": 1.25,
        "captions": ["Somebody walks by.", "walking"], "caption_origins": ["row", "label"],
        "weights": ["ear:cd", "net:ab"], "video_model": "made-up-video-model", "coverage": 1.0, "identity_switches": 0,
        "joints_offset": 512, "joints_size": 101, "json_offset": 3072, "json_size": 106,
        "mp4_offset": None, "mp4_size": None,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert index.index_rows(tmp_path / "i") == 1


def test_facts_that_lack_what_the_index_needs_are_refused() -> None:
    for name in ("row_id", "uri", "source_id", "start_seconds", "video_span", "layout"):
        sample = building.sample()
        del sample.facts[name]
        with pytest.raises(ShardError, match=f"{sample.key}: its facts lack {name},"):
            index.index_row(sample, PART, RANGE_COLUMNS, RECORD)


def test_facts_of_the_wrong_kind_are_refused_by_column(tmp_path: Path) -> None:
    row = index.index_row(building.sample(facts={"width": "wide"}), PART, RANGE_COLUMNS, RECORD)
    with pytest.raises(ShardError, match="column 'width' takes int32"):
        write(tmp_path / "i", [row])


def test_another_schema_or_no_parquet_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "i")
    with pytest.raises(ShardError, match="another schema"):
        index.read_index(tmp_path / "i")
    (tmp_path / "j").write_bytes(b"no parquet")
    with pytest.raises(ShardError, match="cannot be read"):
        index.read_index(tmp_path / "j")
    with pytest.raises(ShardError, match="cannot be read"):
        index.index_rows(tmp_path / "j")


def test_a_damaged_index_is_no_index(tmp_path: Path) -> None:
    built.build(tmp_path)
    whole = next((tmp_path / "index").rglob("*.parquet")).read_bytes()
    for content in damaged(whole, count=200, seed=5):
        with contextlib.suppress(ShardError):
            index.read_index(pa.py_buffer(content)).to_pylist()
