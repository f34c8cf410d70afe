"""Clips from shards, from published sets and with vectors for their captions."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import built, planted, skeletons
from tmor_train.data import from_clips
from tmor_train.data.datasets import SETS
from tmor_train.data_sources import DataConfig, MissingTextError, NoDataError, motions_of, sentence_vectors


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


def test_clips_near_to_what_is_tested_on_are_left_out(tmp_path: Path) -> None:
    planted.build(tmp_path / "test")
    planted.build(tmp_path / "all", dict.fromkeys(planted.ROWS, "train"))
    apart = motions_of(DataConfig(shards=(str(tmp_path / "all"),), apart_from=(str(tmp_path / "test"),)))
    keys = {planted.sample(name, "train").key: name for name in planted.ROWS}
    # Gone are those of the test split themselves, the original of the copy, and the other clip of the renamed file.
    assert sorted(keys[key] for key in apart.clips.key_N.tolist()) == ["alone", "long-1", "one-day"]
    planted.build(tmp_path / "some", dict.fromkeys(planted.ROWS, "test"))
    with pytest.raises(NoDataError, match=r"every clip of .* shows footage of the test split"):
        motions_of(DataConfig(shards=(str(tmp_path / "all"),), apart_from=(str(tmp_path / "some"),)))


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
    with pytest.raises(
        NoDataError, match=r"is missing; make it: `python pipelines/caption_vectors.py.*or train without text"
    ):
        motions_of(config)
    pq.write_table(pa.table({"sentence": ["sitting"], "vector": [[1.0]]}), folder / "texts.parquet")
    with pytest.raises(NoDataError, match="no vector for 1 sentences, among them 'running'"):
        motions_of(config)


@pytest.mark.parametrize("column", [[1.0, 2.0], [["a"], ["b"]], [[1.0], [1.0, 2.0]], [[1.0], [float("nan")]], None])
def test_damaged_files_of_vectors_are_named(column: list[object] | None, folder: Path) -> None:
    texts = folder / "texts.parquet"
    columns = {"sentence": ["sitting", "running"]} | ({} if column is None else {"vector": column})
    pq.write_table(pa.table(columns), texts)
    with pytest.raises(NoDataError, match=r"texts\.parquet.*make it again: `python pipelines/caption_vectors.py"):
        motions_of(DataConfig(sets=("counted",), folder=str(folder), texts=str(texts)))
    texts.write_bytes(b"PAR1")
    with pytest.raises(NoDataError, match=r"texts\.parquet holds no columns"):
        motions_of(DataConfig(sets=("counted",), folder=str(folder), texts=str(texts)))


def test_nothing_and_an_unknown_set_are_refused() -> None:
    with pytest.raises(NoDataError, match="no data is named"):
        motions_of(DataConfig())
    with pytest.raises(NoDataError, match="no skeleton set 'ntu'; there are msr_action3d"):
        motions_of(DataConfig(sets=("ntu",)))


def vectors_file(path: Path, sentences: list[str], vectors: list[list[float]]) -> Path:
    pq.write_table(pa.table({"sentence": sentences, "vector": vectors}), path)
    return path


def test_vectors_come_in_the_order_of_the_sentences(tmp_path: Path) -> None:
    path = vectors_file(tmp_path / "p.parquet", ["a", "b", "c"], [[1, 0], [0, 1], [2, 2]])
    found = sentence_vectors(path, ["c", "a", "c"], remedy="make it")
    assert found.dtype == np.float32
    assert found.tolist() == [[2, 2], [1, 0], [2, 2]]


def test_a_missing_vector_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingTextError, match=r"p\.parquet.*is missing; make it: do this"):
        sentence_vectors(tmp_path / "p.parquet", ["a"], remedy="do this")
    path = vectors_file(tmp_path / "p.parquet", ["a"], [[1, 0]])
    with pytest.raises(MissingTextError, match=r"no vector for 2 sentences, among them 'b'; make it again: do this"):
        sentence_vectors(path, ["a", "b", "c", "b"], remedy="do this")


def test_damaged_files_of_sentences_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(MissingTextError, match=r"p\.parquet holds no columns"):
        sentence_vectors(path, ["a"], remedy="")
    latin = pa.Array.from_buffers(pa.string(), 2, pa.array(["a", b"\xfc"], pa.binary()).buffers())
    pq.write_table(pa.table({"sentence": latin, "vector": [[1.0], [1.0]]}), path)
    with pytest.raises(MissingTextError, match=r"p\.parquet, row 2: its sentence is not UTF-8; make it again: do this"):
        sentence_vectors(path, ["a"], remedy="do this")
    pq.write_table(pa.table({"sentence": ["a"]}), path)
    with pytest.raises(MissingTextError, match=r"p\.parquet holds no columns"):
        sentence_vectors(path, ["a"], remedy="")
    for column in ([1.0], [["b"]], [[[1.0]]]):
        pq.write_table(pa.table({"sentence": ["a"], "vector": column}), path)
        with pytest.raises(MissingTextError, match=r"p\.parquet holds no columns .* expected lists of numbers"):
            sentence_vectors(path, ["a"], remedy="")
    with pytest.raises(MissingTextError, match="several lengths"):
        sentence_vectors(vectors_file(path, ["a", "b"], [[1.0], [1.0, 2.0]]), ["a", "b"], remedy="")
    pq.write_table(pa.table({"sentence": ["a"], "vector": pa.array([None], pa.list_(pa.float32()))}), path)
    with pytest.raises(MissingTextError, match="no vector for 1 sentences, among them 'a'"):
        sentence_vectors(path, ["a"], remedy="")
    with pytest.raises(MissingTextError, match="NaN"):
        sentence_vectors(vectors_file(path, ["a"], [[float("nan")]]), ["a"], remedy="")
