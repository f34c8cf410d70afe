"""Names of a dataset's files."""

from pathlib import Path

import pytest

from posecap.shards import ShardError, committed, paths
from posecap.types import PartName, ShapeError

PART = PartName("val-2", 42)


def test_paths() -> None:
    assert paths.sidecar_path(PART) == "data/val-2/pose-00042.json"
    assert paths.file_paths(PART) == (
        "data/val-2/pose-00042.tar",
        "data/val-2/video-00042.tar",
        "data/val-2/pose-00042.columns",
        "index/val-2-00042.parquet",
    )
    assert str(PART) == "val-2/00042"
    assert paths.part_named("val-2/00042") == PART
    assert paths.part_named("train/1234567") == PartName("train", 1234567)


@pytest.mark.parametrize(
    "text", ["", "train", "train/42", "../00042", "train/../00042", "train/00042\n", "a/0000042", "t/-0001"]
)
def test_what_names_no_part_is_refused(text: str) -> None:
    with pytest.raises(ShardError, match="not the name of a part"):
        paths.part_named(text)


@pytest.mark.parametrize("split", ["", "..", "a/b", "a b", "x" * 65, "train\n"])
def test_a_split_is_a_plain_word(split: str) -> None:
    with pytest.raises(ShapeError, match="split"):
        PartName(split, 0)


@pytest.mark.parametrize("key", ["", "a.b", "../a", "a/b", "x" * 65])
def test_a_key_is_a_plain_word(key: str) -> None:
    with pytest.raises(ShardError, match="sample key"):
        paths.checked_key(key)


def test_only_sidecars_commit_a_part(tmp_path: Path) -> None:
    assert committed(tmp_path) == []
    for name in (
        "data/train/pose-00010.json",
        "data/train/pose-00002.json",
        "data/train/pose-2.json",
        "data/train/pose-0000002.json",
        "data/train/.pose-00003.json.tmp-1",
        "data/train/pose-00004.tar",
        "data/b.d/pose-00005.json",
        "data/a/pose-00006.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert committed(tmp_path) == [PartName("a", 6), PartName("train", 2), PartName("train", 10)]
    assert committed(tmp_path, "train") == [PartName("train", 2), PartName("train", 10)]
