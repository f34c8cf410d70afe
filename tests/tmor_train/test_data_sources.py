"""Clips from shards, from published sets and with vectors for their captions."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import built, skeletons
from tmor_train.data import from_clips
from tmor_train.data.datasets import SETS
from tmor_train.data_sources import DataConfig, NoDataError, motions_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the set ``counted`` lies, of two splits and two captions."""

    def read(place: Path) -> object:
        assert place == tmp_path / "counted"
        return from_clips(
            [
                skeletons.counted("a", captions=("running",), split="train"),
                skeletons.counted("b", captions=("sitting",), split="test"),
                skeletons.counted("c", captions=("running",), split="train"),
            ]
        )

    monkeypatch.setitem(SETS, "counted", read)  # type: ignore[arg-type]
    return tmp_path


def test_shards_and_sets_follow_each_other(folder: Path) -> None:
    built.build(folder / "shards")
    motions = motions_of(DataConfig(shards=(str(folder / "shards"),), sets=("counted:train",), folder=str(folder)))
    assert len(motions) == 7
    assert motions.clips.key_N[-2:].tolist() == ["a", "c"]


def test_a_split_that_a_set_lacks_is_refused(folder: Path) -> None:
    with pytest.raises(NoDataError, match="counted: no split fold1; there are test, train"):
        motions_of(DataConfig(sets=("counted:fold1",), folder=str(folder)))


def test_captions_get_their_vectors(folder: Path) -> None:
    texts = folder / "texts.parquet"
    vectors = [np.array(row, np.float32) for row in ([1, 0, 0], [0, 2, 0], [0, 0, 3])]
    pq.write_table(pa.table({"sentence": ["sitting", "falling", "running"], "vector": vectors}), texts)
    motions = motions_of(DataConfig(sets=("counted",), folder=str(folder), texts=str(texts)))
    assert motions.sentences == ("running", "sitting")
    assert motions.text is not None
    np.testing.assert_array_equal(motions.text.rows(np.array([0, 1])), [[0, 0, 3], [1, 0, 0]])


def test_captions_without_vectors_are_refused(folder: Path) -> None:
    config = DataConfig(sets=("counted",), folder=str(folder), texts=str(folder / "texts.parquet"))
    with pytest.raises(NoDataError, match=r"is missing: make it with `python pipelines/caption_vectors.py"):
        motions_of(config)
    pq.write_table(pa.table({"sentence": ["sitting"], "vector": [[1.0]]}), folder / "texts.parquet")
    with pytest.raises(NoDataError, match="no vector for 1 captions, among them 'running'"):
        motions_of(config)


@pytest.mark.parametrize("column", [[1.0, 2.0], [["a"], ["b"]], [[1.0], [1.0, 2.0]], [[1.0], [float("nan")]], None])
def test_damaged_files_of_vectors_are_named(column: list[object] | None, folder: Path) -> None:
    texts = folder / "texts.parquet"
    columns = {"sentence": ["sitting", "running"]} | ({} if column is None else {"vector": column})
    pq.write_table(pa.table(columns), texts)
    with pytest.raises(NoDataError, match=r"texts\.parquet.*make it again with `python pipelines/caption_vectors.py"):
        motions_of(DataConfig(sets=("counted",), folder=str(folder), texts=str(texts)))
    texts.write_bytes(b"PAR1")
    with pytest.raises(NoDataError, match=r"texts\.parquet holds no columns"):
        motions_of(DataConfig(sets=("counted",), folder=str(folder), texts=str(texts)))


def test_nothing_and_an_unknown_set_are_refused() -> None:
    with pytest.raises(NoDataError, match="no data is named"):
        motions_of(DataConfig())
    with pytest.raises(NoDataError, match="no skeleton set 'ntu'; there are msr_action3d"):
        motions_of(DataConfig(sets=("ntu",)))
