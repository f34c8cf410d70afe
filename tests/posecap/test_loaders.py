"""The loaders of others on a dataset: all samples once, whatever the ranks and workers."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pytest
import torch
import webdataset
from datasets.distributed import split_dataset_by_node

import posecap
from posecap import loaders
from posecap.shards import ShardError, remove_samples
from posecap.types import PartName
from tests import built


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four parts of three samples, and one of another split."""
    path = tmp_path_factory.mktemp("loaders")
    made = {PartName("train", part): built.samples(3, first=3 * part) for part in range(4)}
    built.build(path, {**made, PartName("val", 0): built.samples(1, first=12, split="val")})
    return path


def train_keys(root: Path) -> list[str]:
    return posecap.index(root, "train").to_table()["key"].to_pylist()


def keys(samples: Any, name: str = "__key__") -> list[str]:
    return [sample[name] for sample in samples]


class TestWebdataset:
    def test_samples_are_what_webdataset_reads_itself(self, root: Path) -> None:
        tars = [str(path) for path in sorted(root.glob("data/train/*.tar"))]
        theirs = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
        ours = list(posecap.webdataset(root, seed=None))
        assert keys(ours) == keys(theirs) == train_keys(root)
        for one, other in zip(ours, theirs, strict=True):
            assert one.keys() == other.keys() - {"__local_path__"}
            assert (one["txt"], one["json"], one["__url__"]) == (other["txt"], other["json"], other["__url__"])
            for name in ("joints.npy", "pts.npy", "video.npy", "text.npy"):
                np.testing.assert_array_equal(one[name], other[name])

    def test_each_pass_has_an_order_of_its_own(self, root: Path) -> None:
        pipeline = posecap.webdataset(root, shuffle_buffer=4)
        first, second = keys(pipeline), keys(pipeline)
        assert sorted(first) == sorted(second) == sorted(train_keys(root))
        assert first != second
        assert keys(posecap.webdataset(root, shuffle_buffer=4)) == first

    def test_ranks_and_workers_share(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        found = []
        for rank in range(2):
            monkeypatch.setenv("RANK", str(rank))
            pipeline = posecap.webdataset(root).map(lambda sample: sample["__key__"]).batched(2, collation_fn=list)
            loader = webdataset.WebLoader(pipeline, batch_size=None, num_workers=2)
            found += [key for batch in loader for key in batch]
        assert sorted(found) == sorted(train_keys(root))

    @pytest.mark.parametrize(
        ("uneven", "read"),
        [
            ("repeat", 15),
            pytest.param("drop", 10, marks=pytest.mark.slow),
            pytest.param("keep", 12, marks=pytest.mark.slow),
        ],
    )
    def test_ranks_get_as_many_batches(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, uneven: Any, read: int
    ) -> None:
        """Twelve samples of four parts for five ranks with two workers each."""
        monkeypatch.setenv("WORLD_SIZE", "5")
        sizes, found = [], []
        for rank in range(5):
            monkeypatch.setenv("RANK", str(rank))
            pipeline = posecap.webdataset(root, uneven=uneven).map(lambda sample: sample["__key__"])
            loader = webdataset.WebLoader(pipeline.batched(2, collation_fn=list), batch_size=None, num_workers=2)
            batches = list(loader)
            sizes.append(sorted(map(len, batches)))
            found += [key for batch in batches for key in batch]
        assert len(found) == read
        assert set(found) <= set(train_keys(root))
        assert (set(found) == set(train_keys(root))) == (uneven != "drop")
        assert all(own == sizes[0] for own in sizes) == (uneven != "keep")

    def test_a_damaged_sample_is_named(self, tmp_path: Path) -> None:
        made = built.build(tmp_path)
        content = bytearray((tmp_path / "data/train/pose-00000.tar").read_bytes())
        content[512] ^= 1
        (tmp_path / "data/train/pose-00000.tar").write_bytes(content)
        for loader in (posecap.webdataset, posecap.huggingface):
            with pytest.raises(ShardError, match=rf"part train/00000, sample {made[built.FIRST][0].key}: .*verify"):
                list(loader(tmp_path))


class TestHuggingFace:
    def test_examples(self, root: Path) -> None:
        found = list(posecap.huggingface(root))
        assert keys(found, "key") == train_keys(root)
        first, expected = found[0], built.samples(1)[0]
        for name, array in built.arrays(expected).items():
            np.testing.assert_array_equal(first[name], array)
        tensors = next(iter(posecap.huggingface(root).with_format("torch")))
        assert torch.equal(tensors["joints"], torch.from_numpy(expected.joints_MTJ3.copy()))
        assert (first["captions"], first["facts"]["row_id"]) == (["Somebody walks by.", "walking"], "row-0")

    def test_ranks_and_workers_share(self, root: Path) -> None:
        found = []
        for rank in range(2):
            share = split_dataset_by_node(posecap.huggingface(root), rank=rank, world_size=2)
            assert share.num_shards == 2
            found += keys(torch.utils.data.DataLoader(share, batch_size=None, num_workers=2), "key")
        assert sorted(found) == sorted(train_keys(root))

    @pytest.mark.parametrize(("uneven", "read"), [("repeat", 15), ("drop", 12)])
    def test_ranks_get_as_many_batches(self, tmp_path: Path, uneven: Any, read: int) -> None:
        """Thirteen samples of two parts of very different size; shuffled, so that any rank may get any shard."""
        made = {PartName("train", 0): built.samples(11), PartName("train", 1): built.samples(2, first=11)}
        built.build(tmp_path, made)
        sizes, found = [], []
        for rank in range(3):
            whole = posecap.huggingface(tmp_path, world_size=3, uneven=uneven).shuffle(seed=1, buffer_size=4)
            loader = torch.utils.data.DataLoader(
                split_dataset_by_node(whole, rank=rank, world_size=3), batch_size=2, collate_fn=list
            )
            batches = [keys(batch, "key") for batch in loader]
            sizes.append(list(map(len, batches)))
            found += [key for batch in batches for key in batch]
        assert sizes == [sizes[0]] * 3
        assert len(found) == read
        assert (set(found) == set(train_keys(tmp_path))) == (uneven == "repeat")

    def test_world_size_of_the_environment(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "3")
        assert posecap.huggingface(root).num_shards == 3
        assert posecap.huggingface(root, uneven="keep").num_shards == 4
        with pytest.raises(ShardError, match="12 samples cannot be divided among 13 ranks"):
            posecap.huggingface(root, world_size=13, uneven="drop")

    def test_order_and_state(self, root: Path) -> None:
        stream = posecap.huggingface(root).shuffle(seed=1, buffer_size=4)
        first = keys(stream, "key")
        stream.set_epoch(1)
        assert sorted(first) == sorted(keys(stream, "key"))
        plain = posecap.huggingface(root)
        iterator = iter(plain)
        had = [next(iterator)["key"] for _ in range(5)]
        state = plain.state_dict()
        plain.load_state_dict(state)
        assert had + keys(plain, "key") == train_keys(root)

    def test_types_are_the_same_for_every_clip(self, root: Path, tmp_path: Path) -> None:
        stream = posecap.huggingface(root)
        made = datasets.Dataset.from_generator(
            lambda: iter(stream), features=loaders.features(), cache_dir=str(tmp_path)
        )
        assert made.features == loaders.features()
        assert made["key"][:] == train_keys(root)
        assert made[0]["facts"]["row_id"] == "row-0"


def test_examples_of_one_part(root: Path) -> None:
    assert keys(loaders.examples(root, "train/00002"), "key") == train_keys(root)[6:9]
    assert keys(loaders.examples(root, "train/00002", rows=np.array([1])), "key") == train_keys(root)[7:8]


@pytest.mark.parametrize(("loader", "name"), [(posecap.webdataset, "__key__"), (posecap.huggingface, "key")])
class TestBoth:
    def test_only_clips_for_which_a_condition_holds(self, root: Path, loader: Any, name: str) -> None:
        index = posecap.index(root).to_table().to_pylist()
        expected = [row["key"] for row in index if row["M"] == 2]
        assert sorted(keys(loader(root, split=None, where="people == 2"), name)) == sorted(expected)
        for wrong, why in (
            ({"where": "people == 9"}, "of split 'train' where people == 9; `posecap.index` has the values"),
            ({"split": "tset"}, "of split 'tset'; its splits are .*train"),
        ):
            with pytest.raises(ShardError, match=f"holds no samples {why}"):
                loader(root, **wrong)

    def test_words_that_are_none(self, root: Path, loader: Any, name: str) -> None:
        with pytest.raises(ValueError, match="uneven is 'skip'; it can be 'repeat' or 'drop' or 'keep'"):
            loader(root, uneven="skip")

    def test_removed_clips_stay_away(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: Any, name: str
    ) -> None:
        made = built.build(tmp_path)
        monkeypatch.setattr("posecap.shards.dataset._rewrite", lambda *args: False)
        remove_samples(tmp_path, [made[built.FIRST][0].key], "x")
        found = keys(loader(tmp_path), name)
        assert (len(found), made[built.FIRST][0].key in found) == (4, False)

    def test_over_a_url(self, root: Path, loader: Any, name: str) -> None:
        url = f"memory://{uuid.uuid4().hex}"
        filesystem, place = fsspec.core.url_to_fs(url)
        for file, content in built.files(root).items():
            filesystem.pipe_file(f"{place}/{file}", content)
        assert keys(loader(url), name) == keys(loader(root), name)

    def test_a_package_that_is_not_there(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, loader: Any, name: str
    ) -> None:
        package = "webdataset" if name == "__key__" else "datasets"
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ModuleNotFoundError, match=package):
            loader(root)
