"""A set's embeddings in a Parquet file."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tmor_train
from posecap.files import OutputExistsError
from tmor_train.data import read_shards
from tmor_train.data_sources import DataConfig
from tmor_train.pretrained import embedding
from tmor_train.pretrained.embedding import embed_to_parquet, identity
from tmor_train.pretrained.encoder import Pretrained

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def encoder(demo_run: Path) -> Pretrained:
    return tmor_train.load(demo_run)


def test_every_clip_has_its_row(encoder: Pretrained, demo_shards: Path, tmp_path: Path) -> None:
    motions = read_shards(demo_shards)
    assert embed_to_parquet(encoder, motions, tmp_path / "e.parquet", about={}, batch=5) == 13
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.schema.field("embedding").type.list_size == 256
    assert table.schema.field("embedding").type.value_type == pa.float32()
    assert table["key"].to_pylist() == motions.clips.key_N.tolist()
    assert table["split"].to_pylist() == motions.clips.split_N.tolist()
    assert table["label"].to_pylist() == [motions.clip(number).label for number in range(13)]
    stored = np.array(table["embedding"].to_pylist(), np.float32)
    wanted = np.concatenate([vectors for _, vectors in encoder.embed_set(motions, batch=5)])
    np.testing.assert_array_equal(stored, wanted)
    assert len(np.unique(stored, axis=0)) == 13


def test_a_clip_without_a_label_has_none(encoder: Pretrained, demo_shards: Path, tmp_path: Path) -> None:
    motions = read_shards(demo_shards).select([0, 1])
    unknown = replace(motions, clips=replace(motions.clips, label_N=np.array([-1, 0])))
    embed_to_parquet(encoder, unknown, tmp_path / "e.parquet", about={})
    assert pq.read_table(tmp_path / "e.parquet")["label"].to_pylist() == [None, motions.classes[0]]


def test_the_file_says_what_it_is(encoder: Pretrained, demo_shards: Path, tmp_path: Path) -> None:
    motions = read_shards(demo_shards, split="test")
    about = identity(DataConfig(shards=(f"{demo_shards}/",), split="test"), motions)
    embed_to_parquet(encoder, motions, tmp_path / "e.parquet", about=about, batch=64)
    metadata = pq.read_schema(tmp_path / "e.parquet").metadata
    made_by, of = (json.loads(metadata[name]) for name in (b"tmor_train.encoder", b"tmor_train.set"))
    assert made_by["checkpoint"] == {"name": "step-000000008.pt", "of": "ema", "sha256": encoder.sha256}
    assert (made_by["batch"], made_by["config"]["encoder"]["backbone"]) == (64, "unik")
    assert (of["shards"], of["split"], of["clips"], len(of["keys_sha256"])) == (["shards"], "test", 7, 64)
    assert of["keys_sha256"] != identity(DataConfig(), read_shards(demo_shards))["keys_sha256"]


def test_the_same_bytes_with_any_workers_and_row_groups(
    encoder: Pretrained, demo_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    motions = read_shards(demo_shards)
    for name, workers in (("a", 0), ("b", 2)):
        embed_to_parquet(encoder, motions, tmp_path / name, about={}, batch=4, workers=workers)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    monkeypatch.setattr(embedding, "_GROUP_ROWS", 8)
    embed_to_parquet(encoder, motions, tmp_path / "c", about={}, batch=4)
    file = pq.ParquetFile(tmp_path / "c")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [8, 5]
    assert file.read().equals(pq.read_table(tmp_path / "a"))


def test_a_batch_of_nothing_is_refused(encoder: Pretrained, demo_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch is at least 1, not 0"):
        embed_to_parquet(encoder, read_shards(demo_shards), tmp_path / "e.parquet", about={}, batch=0)
    assert not list(tmp_path.iterdir())


def test_a_file_is_whole_or_absent(
    encoder: Pretrained, demo_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    motions, path = read_shards(demo_shards), tmp_path / "e.parquet"
    embed_set = Pretrained.embed_set

    def dying(self: Pretrained, *given: object, **named: object) -> Iterator[object]:
        yield next(embed_set(self, *given, **named))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Pretrained, "embed_set", dying)
        with pytest.raises(KeyboardInterrupt):
            embed_to_parquet(encoder, motions, path, about={}, batch=4)
    assert not list(tmp_path.iterdir())
    embed_to_parquet(encoder, motions, path, about={})
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match="already exists"):
        embed_to_parquet(encoder, motions, path, about={}, batch=4)
    assert path.read_bytes() == before
    embed_to_parquet(encoder, motions, path, about={"now": "other"}, existing="replace")
    assert path.read_bytes() != before
