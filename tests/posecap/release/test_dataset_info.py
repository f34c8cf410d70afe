from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecap.files import file_sha256
from posecap.release.dataset_info import COLUMNS, QUALITY, hub_identifier, license_url
from posecap.shards import remove_samples
from posecap.types import PartName, Quality, Span
from tests import building, built, dataset_infos


def test_splits_are_counted(tmp_path: Path):
    train = built.samples(2)
    val = [building.sample(key="v" * 24, people=2, frames=50, seed=9, row=building.row(split="val"))]
    found = dataset_infos.info(tmp_path, {PartName("train", 0): train, PartName("val", 0): val}).by_split()
    assert [row["split"] for row in found] == ["train", "val"]
    assert found[0] | {"hours": 0} == {
        "split": "train",
        "clips": 2,
        "videos": 2,
        "people": 1 + 2,
        "frames": 5 + 6,
        "hours": 0,
    }
    assert found[1]["hours"] * 3600 == pytest.approx(2.0)


def test_values_are_counted_commonest_first_and_nothing_last(tmp_path: Path):
    licenses = ("b", "a", None, "b", None, "a", "c")
    made = [
        building.sample(key=f"k{i}", frames=5, seed=i, row=building.row(row_id=f"r{i}", license=license))
        for i, license in enumerate(licenses)
    ]
    counted = dataset_infos.info(tmp_path, {PartName("train", 0): made}).counted("license")
    assert list(counted.items()) == [("a", 2), ("b", 2), (None, 2), ("c", 1)]


def test_quality_quantiles_are_those_of_the_clips(tmp_path: Path):
    zero = dict.fromkeys(QUALITY, 0)
    made = [
        building.sample(key=f"k{i}", frames=5, seed=i, quality=Quality(**{**zero, "jitter": jitter}))
        for i, jitter in enumerate((0.4, 0.0, 0.1, 0.3, 0.2))
    ]
    quality = dataset_infos.info(tmp_path, {PartName("train", 0): made}).quality()
    assert quality["jitter"] == {
        "min": 0.0,
        "p05": 0.02,
        "p25": 0.1,
        "median": 0.2,
        "p75": 0.3,
        "p95": 0.38,
        "max": 0.4,
        "mean": 0.2,
    }
    assert quality["identity_switches"] == dict.fromkeys(quality["jitter"], 0.0)


def test_the_same_span_of_the_same_bytes_is_found_under_other_keys(tmp_path: Path):
    def sample(key: str, *, seed: int, start: float, end: float) -> object:
        row = building.row(row_id=key)
        pts = np.linspace(start, end - 0.1, 5)
        return building.sample(key=key, seed=seed, row=row, pts_T=pts, span=Span(start, end))

    made = [
        sample("c", seed=1, start=1.0, end=2.0),
        sample("a", seed=1, start=1.0, end=2.0 + 4e-7),
        sample("b", seed=1, start=1.0, end=2.1),
        sample("d", seed=2, start=1.0, end=2.0),
        sample("e", seed=1, start=1.0, end=2.0),
        sample("f", seed=1, start=1e13, end=1e13 + 1),  # beyond 64 bits of microseconds, of a damaged video
    ]
    info = dataset_infos.info(tmp_path, {PartName("train", 0): made})
    assert info.content_duplicates() == {
        "spans": 1,
        "clips": 3,
        "examples": [
            {
                "source_id": made[0].facts["source_id"],
                "start_seconds": 1.0,
                "end_seconds": 2.0,
                "clips": 3,
                "first_key": "a",
            }
        ],
    }


def test_files_are_listed_as_they_lie_on_disk(tmp_path: Path):
    info = dataset_infos.info(tmp_path)
    assert [file.path for file in info.files][:4] == [
        "data/train/pose-00000.columns",
        "data/train/pose-00000.tar",
        "data/train/video-00000.tar",
        "index/train-00000.parquet",
    ]
    for file in info.files:
        assert file.sha256 == file_sha256(tmp_path / file.path)
        assert file.size_bytes == (tmp_path / file.path).stat().st_size


def test_removed_clips_count_no_more(tmp_path: Path):
    before = dataset_infos.info(tmp_path)
    remove_samples(tmp_path, [before.index["key"][0].as_py()], "on request")
    assert dataset_infos.read_index_columns(tmp_path).num_rows == before.clips - 1 == 4


def test_a_dataset_without_clips_has_figures_too(tmp_path: Path):
    (tmp_path / "plan.parquet").touch()
    empty = dataset_infos.read_index_columns(tmp_path)
    info = dataset_infos.info(tmp_path, {PartName("train", 0): built.samples(1)}, index=empty)
    assert empty.column_names == list(COLUMNS)
    assert (info.clips, info.splits, info.by_split()) == (0, [], [])
    assert info.quality() == dict.fromkeys(QUALITY)
    assert info.content_duplicates() == {"spans": 0, "clips": 0, "examples": []}


# .


@pytest.mark.parametrize(
    ("written", "identifier"),
    [
        ("CC-BY-4.0", "cc-by-4.0"),
        ("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"),
        ("cc_by_4.0", "cc-by-4.0"),
        ("Apache-2.0", "apache-2.0"),
        ("Apache License 2.0", "apache-2.0"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("CC BY 4.0 International", "cc-by-4.0"),
        ("CC0 1.0 Universal", "cc0-1.0"),
        ("GPLv3", "gpl-3.0"),
        ("MIT License", "mit"),
        ("BSD-3", "bsd-3-clause"),
        ("CC0", "cc0-1.0"),
        ("GPL-3.0-or-later", "gpl-3.0"),
        ("CC-BY-9.0", None),
        ("research use only", None),
        ("", None),
    ],
)
def test_hub_identifiers(written: str, identifier: str | None):
    assert hub_identifier(written) == identifier


def test_addresses():
    assert license_url("CC-BY-4.0") == "https://creativecommons.org/licenses/by/4.0/"
    assert license_url("https://example.org/terms") == "https://example.org/terms"
    assert license_url("see https://example.org") is None
    assert license_url("our own") is None
