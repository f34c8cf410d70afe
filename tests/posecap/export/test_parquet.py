"""Plain Parquet: the bits of the samples, read by Hugging Face datasets and Polars."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import posecap
from posecap.export import export, parquet
from posecap.shards import COLUMNS_SCHEMA
from tests import built


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dataset")
    built.build(path)
    return path


@pytest.fixture
def file(root: Path, tmp_path: Path) -> Path:
    assert export(root, tmp_path / "clips.parquet", form="parquet") == 5
    return tmp_path / "clips.parquet"


def same(row: dict[str, Any], sample: dict[str, Any]) -> bool:
    """Whether a row of the table holds a sample's bits."""
    assert (row["key"], json.loads(row["facts"])) == (sample["key"], sample["facts"])
    m, t, j, c = (row[axis] for axis in "MTJC")
    shapes = {"joints": (m, t, j, 3), "pts": (t,), "video": (-1,), "text": (c, -1)}
    for name, shape in shapes.items():
        expected = sample[name].numpy()
        found = np.asarray(row[name], expected.dtype).reshape(shape)
        np.testing.assert_array_equal(found, expected)
    return True


def samples(root: Path, **options: Any) -> list[dict[str, Any]]:
    return list(posecap.open(root, seed=None, rank=0, world_size=1, split=None, **options))


def test_has_the_columns_of_columns_files(file: Path) -> None:
    with pq.ParquetFile(file) as opened:
        assert opened.schema_arrow.remove_metadata().equals(COLUMNS_SCHEMA.remove_metadata())
        assert opened.num_row_groups == 1


def test_rows_are_written_group_by_group(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 1)
    assert export(root, tmp_path / "clips.parquet", form="parquet", where="frames > 5") == 4
    with pq.ParquetFile(tmp_path / "clips.parquet") as opened:
        assert opened.num_row_groups == 4
        rows = opened.read().to_pylist()
    assert all(map(same, rows, samples(root, where="frames > 5")))


def test_polars_reads_it(root: Path, file: Path) -> None:
    polars = pytest.importorskip("polars", reason="needs polars")
    rows = polars.scan_parquet(file).collect().iter_rows(named=True)
    assert [same(row, sample) for row, sample in zip(rows, samples(root), strict=True)]


def test_hugging_face_datasets_reads_it(root: Path, file: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    data = datasets.load_dataset("parquet", data_files=str(file), cache_dir=str(tmp_path / "cache"), split="train")
    assert [same(row, sample) for row, sample in zip(data, samples(root), strict=True)]
