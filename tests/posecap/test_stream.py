"""Batches of unequal samples."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import fsspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import posecap
from posecap.sample_order import StateError
from posecap.shards import ShardError, WhereError, remove_samples, serialization
from posecap.storage import RemoteStorage, StorageError
from posecap.stream import ShardStream, collate
from posecap.types import PartName
from tests import ROOT, built
from tests.built import FIRST, SECOND


def sample(key: str, people: int, frames: int, captions: int) -> dict:
    return {
        "key": key,
        "joints": torch.full((people, frames, 17, 3), float(people)),
        "pts": torch.arange(1, frames + 1, dtype=torch.float64),
        "video": torch.ones(6),
        "text": torch.full((captions, 4), 2.0),
        "captions": ["c"] * captions,
        "facts": {"layout": "coco17"},
    }


def test_padded_axes_have_masks() -> None:
    batch = collate([sample("a", 2, 3, 1), sample("b", 1, 5, 2)])
    assert batch["key"] == ["a", "b"]
    assert batch["joints_BMTJ3"].shape == (2, 2, 5, 17, 3)
    assert batch["joints_BMTJ3"].dtype == torch.float32
    assert batch["frames_BMT"].tolist() == [[[True] * 3 + [False] * 2] * 2, [[True] * 5, [False] * 5]]
    assert batch["joints_BMTJ3"].sum(dim=(3, 4)).tolist() == [[[102.0] * 3 + [0.0] * 2] * 2, [[51.0] * 5, [0.0] * 5]]
    assert batch["pts_BT"].tolist() == [[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]]
    assert batch["pts_BT"].dtype == torch.float64
    assert batch["frames_BT"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch["video_BD"].shape == (2, 6)
    assert batch["text_BCD"][:, :, 0].tolist() == [[2, 0], [2, 2]]
    assert batch["captions_BC"].tolist() == [[True, False], [True, True]]
    assert batch["captions"] == [["c"], ["c", "c"]]
    assert batch["facts"] == [{"layout": "coco17"}] * 2


def test_fields_that_are_not_there_stay_away() -> None:
    assert set(collate([{"key": "a", "video": torch.ones(2)}])) == {"key", "video_BD"}


def test_no_captions_at_all() -> None:
    batch = collate([sample("a", 1, 1, 0), sample("b", 1, 1, 0)])
    assert batch["text_BCD"].shape == (2, 0, 4)
    assert batch["captions_BC"].shape == (2, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"joints": torch.zeros(1, 2, 13, 3)},
        {"joints": torch.zeros(1, 2, 1, 3)},
        {"video": torch.ones(7)},
        {"text": torch.ones(1, 5)},
    ],
)
def test_what_does_not_fit_one_batch_is_named(change: dict) -> None:
    with pytest.raises(ShardError, match="samples a … do not fit one batch"):
        collate([sample("a", 1, 2, 1), {**sample("b", 1, 2, 1), **change}])


# Shards as a torch dataset.


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four parts of 7, 1, 4 and 5 samples, the second of another split."""
    path = tmp_path_factory.mktemp("stream")
    sizes = {PartName("train", 0): 7, PartName("val", 0): 1, PartName("train", 2): 4, PartName("train", 9): 5}
    made, first = {}, 0
    for part, size in sizes.items():
        made[part] = built.samples(size, first=first, split=part.split)
        first += size
    built.build(path, made)
    return path


def keys(stream: Any) -> list[str]:
    return [sample["key"] for sample in stream]


def train_keys(root: Path) -> list[str]:
    return posecap.index(root, "train").to_table()["key"].to_pylist()


@pytest.mark.parametrize("read", ["tar", "columns"])
def test_a_sample_is_a_dict_of_tensors(root: Path, read: Any) -> None:
    (expected,) = built.samples(1)
    sample = next(iter(posecap.open(root, seed=None, read=read)))
    assert sample["key"] == expected.key
    for name, array in built.arrays(expected).items():
        assert torch.equal(sample[name], torch.from_numpy(array.copy()))
        assert sample[name].dtype == (torch.float64 if name == "pts" else torch.float32)
        sample[name].add_(1)  # a tensor of the caller's own
    assert sample["captions"] == ["Somebody walks by.", "walking"]
    assert sample["facts"]["row_id"] == "row-0"


def test_both_ways_of_reading_give_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (list(posecap.open(root, read=read)) for read in ("tar", "columns"))
    assert [s["key"] for s in one] == [s["key"] for s in other]
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[n], b[n]) for n in ("joints", "pts", "video", "text"))
        assert (a["captions"], a["facts"]) == (b["captions"], b["facts"])


@pytest.mark.parametrize("read", ["tar", "columns"])
def test_only_the_chosen_fields(root: Path, read: Any) -> None:
    sample = next(iter(posecap.open(root, read=read, fields=("joints", "captions"))))
    assert set(sample) == {"key", "joints", "captions"}


def test_order_follows_seed_and_epoch(root: Path) -> None:
    on_disk = keys(posecap.open(root, seed=None))
    assert on_disk == train_keys(root)
    stream = posecap.open(root, seed=3)
    first = keys(stream)
    assert first == keys(stream) == keys(posecap.open(root, seed=3))
    stream.set_epoch(1)
    second = keys(stream)
    assert sorted(first) == sorted(second) == sorted(on_disk)
    assert len({tuple(order) for order in (on_disk, first, second, keys(posecap.open(root, seed=4)))}) == 4


def test_the_buffer_mixes_no_farther_than_its_size(root: Path) -> None:
    plain = keys(posecap.open(root, seed=5, shuffle_buffer=1))
    assert plain != train_keys(root)  # parts are in another order, samples within a part are not
    mixed = keys(posecap.open(root, seed=5, shuffle_buffer=4))
    assert sorted(mixed) == sorted(plain)
    assert all(plain.index(key) - place <= 4 for place, key in enumerate(mixed))


@given(world=st.integers(1, 6), seed=st.one_of(st.none(), st.integers(0, 99)), buffer=st.integers(1, 20))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranks_share_without_loss_or_repeat(root: Path, world: int, seed: int | None, buffer: int) -> None:
    known: Any = {"seed": seed, "shuffle_buffer": buffer, "fields": (), "uneven": "keep"}
    streams = [posecap.open(root, rank=rank, world_size=world, **known) for rank in range(world)]
    shares = [keys(stream) for stream in streams]
    assert sorted(key for share in shares for key in share) == sorted(train_keys(root))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [len(stream) for stream in streams] == [len(share) for share in shares]


def test_loader_workers_that_stay_see_the_next_epoch(root: Path) -> None:
    stream = posecap.open(root)
    loader = DataLoader(stream, batch_size=4, num_workers=2, persistent_workers=True, collate_fn=collate)
    epochs = []
    for epoch in range(2):
        stream.set_epoch(epoch)
        epochs.append([key for batch in loader for key in batch["key"]])
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(train_keys(root))
    assert epochs[0] != epochs[1]


@pytest.mark.slow
def test_rank_and_world_size_come_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = posecap.open(root, seed=None)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert keys(stream) == train_keys(root)[8:]
    loader = stream.loader(3, num_workers=2, multiprocessing_context="spawn")  # whose workers know no process group
    assert sorted(key for batch in loader for key in batch["key"]) == sorted(train_keys(root)[8:])
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="rank 2 is not below world_size 2"):
        len(stream)


def test_torch_distributed_goes_before_the_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        assert len(posecap.open(root)) == 16
    finally:
        torch.distributed.destroy_process_group()


def test_removed_clips_do_not_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = built.build(tmp_path)
    monkeypatch.setattr("posecap.shards.dataset._rewrite", lambda *args: False)
    remove_samples(tmp_path, [made[FIRST][1].key], "x", sources=[made[SECOND][0].facts["source_id"]])
    expected = [made[FIRST][0].key, made[FIRST][2].key, made[SECOND][1].key]
    for read in ("tar", "columns"):
        for world in (1, 2, 3):
            found = [
                key
                for rank in range(world)
                for key in keys(ShardStream(tmp_path, seed=None, rank=rank, world_size=world, read=read, uneven="keep"))  # type: ignore[arg-type]
            ]
            assert found == expected


def test_columns_of_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "_COLUMNS_BATCH_BYTES", 6000)
    made = built.build(tmp_path, {FIRST: built.samples(9)})[FIRST]
    for world in (1, 2, 4):
        found = [
            k
            for r in range(world)
            for k in keys(posecap.open(tmp_path, seed=None, rank=r, world_size=world, read="columns", uneven="keep"))
        ]
        assert found == [sample.key for sample in made]


# Batches: as many on all ranks, and a state between two of them.


def seventeen(root: Path) -> Path:
    built.build(root, {PartName("train", 0): built.samples(9), PartName("train", 1): built.samples(8, first=9)})
    return root


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_all_ranks_get_as_many_batches_as_the_loader_says(tmp_path: Path, workers: int, drop_last: bool) -> None:
    """17 samples, batches of 4, two ranks: 3 and 3 batches, or 2 and 2."""
    ranks = [posecap.open(seventeen(tmp_path), fields=("pts",), rank=rank, world_size=2) for rank in range(2)]
    loaders = [rank.loader(4, num_workers=workers, drop_last=drop_last) for rank in ranks]
    expected = 2 if drop_last else 3
    for loader in loaders:
        assert len(loader) == expected
        assert [len(batch["key"]) for batch in loader] == ([4, 4] if drop_last else [4, 4, 1])
        assert len(loader) == expected
    plain = [DataLoader(rank, batch_size=4, collate_fn=collate, num_workers=workers) for rank in ranks]
    assert len({len(list(loader)) for loader in plain}) == 1


@pytest.mark.slow
def test_a_job_under_ddp_comes_to_its_end(tmp_path: Path) -> None:
    """Two processes of gloo, whose gradients meet in each batch: with 2 and 3 batches one would wait for ever."""
    seventeen(tmp_path / "dataset")
    code = """
import sys, torch, posecap
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(6, 1))
loader = posecap.open(f"{folder}/dataset", fields=("video",)).loader(4, num_workers=1)
for batch in loader:
    model(batch["video_BD"]).sum().backward()
print(len(loader))
"""
    command = [sys.executable, "-c", code]
    jobs = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        assert [job.communicate(timeout=120)[0] for job in jobs] == ["3\n", "3\n"]
    finally:
        for job in jobs:
            job.kill()


@pytest.mark.parametrize(("uneven", "samples"), [("repeat", [9, 9]), ("drop", [8, 8]), ("keep", [8, 9])])
def test_what_is_done_with_the_odd_sample(tmp_path: Path, uneven: Any, samples: list[int]) -> None:
    ranks = [posecap.open(seventeen(tmp_path), rank=rank, world_size=2, uneven=uneven) for rank in range(2)]
    assert [len(rank) for rank in ranks] == samples
    found = [keys(rank) for rank in ranks]
    assert [len(keys) for keys in found] == samples
    assert len({key for rank in found for key in rank}) == (16 if uneven == "drop" else 17)


def test_more_ranks_than_samples(tmp_path: Path) -> None:
    built.build(tmp_path, {FIRST: built.samples(3)})
    loaders = [posecap.open(tmp_path, rank=rank, world_size=8).loader(2) for rank in range(8)]
    assert [len(list(loader)) for loader in loaders] == [1] * 8
    dropped = [posecap.open(tmp_path, rank=rank, world_size=8, uneven="drop").loader(2) for rank in range(8)]
    assert [(len(loader), list(loader)) for loader in dropped] == [(0, [])] * 8


def batch_keys(loader: Any, most: int | None = None) -> list[list[str]]:
    return [batch["key"] for batch in itertools.islice(loader, most)]


@pytest.mark.parametrize("read", ["tar", "columns"])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_state_goes_on_with_the_batches_that_would_have_followed(tmp_path: Path, workers: int, read: Any) -> None:
    stream = posecap.open(seventeen(tmp_path), shuffle_buffer=4, fields=("pts",), read=read)
    loader = stream.loader(3, num_workers=workers)
    loader.set_epoch(2)
    whole = batch_keys(loader)
    assert sorted(key for batch in whole for key in batch) == sorted(train_keys(tmp_path))
    for had in (0, 1, 4, 6):
        other = posecap.open(tmp_path, shuffle_buffer=4, fields=("pts",), read=read).loader(3, num_workers=workers)
        other.set_epoch(2)
        states = [other.state_dict(), *(other.state_dict() for _ in other)]
        fresh = posecap.open(tmp_path, shuffle_buffer=4, fields=("pts",), read=read).loader(3, num_workers=workers)
        fresh.load_state_dict(json.loads(json.dumps(states[had])))
        assert (fresh.epoch, len(fresh)) == (2, 6 - had)
        fresh.set_epoch(2)
        assert fresh.state_dict() == states[had]
        assert batch_keys(fresh) == whole[had:]
        assert len(batch_keys(fresh)) == 6  # and the whole epoch after that


def test_a_state_goes_on_with_other_numbers_of_ranks_and_workers(tmp_path: Path) -> None:
    def loader(rank: int, world: int, workers: int) -> Any:
        stream = posecap.open(seventeen(tmp_path), fields=("pts",), rank=rank, world_size=world)
        return stream.loader(2, num_workers=workers)

    first = [loader(rank, 2, 1) for rank in range(2)]
    had = [key for one in first for batch in batch_keys(one, 2) for key in batch]
    states = [one.state_dict() for one in first]
    assert (states[0], len(set(had))) == (states[1], 8)
    second = [loader(rank, 3, 2) for rank in range(3)]
    for one in second:
        one.load_state_dict(states[0])
        assert len(one) == 2
    more = [key for one in second for batch in batch_keys(one, 1) for key in batch]
    assert not set(more) & set(had)
    last = loader(0, 1, 0)
    last.load_state_dict(second[0].state_dict())
    rest = [key for batch in batch_keys(last) for key in batch]
    assert sorted([*had, *more, *rest]) == sorted(train_keys(tmp_path))
    last.set_epoch(1)
    assert len(last) == len(batch_keys(last)) == 9


def test_a_loop_that_is_left_begins_again(tmp_path: Path) -> None:
    loader = posecap.open(seventeen(tmp_path), fields=("pts",)).loader(4)
    first = batch_keys(loader, 2)
    assert batch_keys(loader)[:2] == first


def test_workers_that_stay_go_on_from_a_state(tmp_path: Path) -> None:
    loader = posecap.open(seventeen(tmp_path), fields=("pts",)).loader(4, num_workers=2, persistent_workers=True)
    whole = batch_keys(loader)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    assert len(list(iterator)) == 4
    loader.load_state_dict(state)
    assert batch_keys(loader) == whole[1:]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order": "0" * 32}, "another dataset, split, seed"),
        ({"passes": [[1, 1]]}, "no pass through a dataset"),
        ({"passes": [[1, 1, 1, 0, 0]] * 65}, "at most 64 times, not 65"),
        ({"passes": 3}, "state is damaged"),
        ({"epoch": "1"}, "state is damaged"),
        ({"more": 1}, "no state of a loader"),
    ],
)
def test_a_state_that_cannot_be_resumed_from(root: Path, change: dict[str, Any], said: str) -> None:
    loader = posecap.open(root).loader(4)
    with pytest.raises(StateError, match=said):
        loader.load_state_dict({**loader.state_dict(), **change})
    with pytest.raises(StateError, match="another dataset, split, seed"):
        loader.load_state_dict(posecap.open(root, seed=1).loader(4).state_dict())


# Which clips: conditions and balance.


@pytest.mark.parametrize("read", ["tar", "columns"])
def test_only_clips_for_which_a_condition_holds(root: Path, read: Any) -> None:
    index = posecap.index(root).to_table().to_pylist()
    expected = [row["key"] for row in index if row["M"] == 2 and row["T"] > 8]
    assert 3 < len(expected) < 9
    where = "people == 2 and frames > 8"
    shares = [
        posecap.open(root, split=None, seed=None, read=read, where=where, rank=rank, world_size=2, uneven="keep")
        for rank in range(2)
    ]
    assert [key for share in shares for key in keys(share)] == expected
    assert sum(map(len, shares)) == len(expected)
    loader = DataLoader(posecap.open(root, split=None, read=read, where=where), batch_size=None, num_workers=2)
    assert sorted(keys(loader)) == sorted(expected)


def test_removed_clips_stay_away_whatever_the_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = built.build(tmp_path)
    monkeypatch.setattr("posecap.shards.dataset._rewrite", lambda *args: False)
    remove_samples(tmp_path, [made[FIRST][0].key], "x")
    assert keys(posecap.open(tmp_path, seed=None, where="people == 1")) == [made[FIRST][2].key, made[SECOND][1].key]


def test_a_condition_that_holds_for_none(root: Path) -> None:
    with pytest.raises(ShardError, match=r"holds no samples of split 'train' where people == 9; `posecap.index`"):
        posecap.open(root, where="people == 9")
    with pytest.raises(WhereError, match="there is no column 'peoples'; did you mean people"):
        posecap.open(root, where="peoples == 9")


def labelled(root: Path, labels: str) -> None:
    """One part for each five of the labels, a letter each; a dot is none."""
    made = []
    for number, label in enumerate(labels):
        row = built.building.row(row_id=f"row-{number}", label=None if label == "." else label)
        made += built.samples(1, first=number, row=row)
    built.build(root, {PartName("train", first): made[first : first + 5] for first in range(0, len(made), 5)})


def labels_of(stream: Any) -> dict[str | None, int]:
    return dict(Counter(sample["facts"]["label"] for sample in stream))


@pytest.mark.parametrize("read", ["tar", "columns"])
def test_as_many_clips_of_each_label(tmp_path: Path, read: Any) -> None:
    labelled(tmp_path, "aabab.aaab..abac")
    where = "label in ['a', 'b', None]"
    stream = posecap.open(tmp_path, balance="label", where=where, read=read)
    assert labels_of(stream) == {"a": 3, "b": 3, None: 3}
    assert len(stream) == 9
    first = keys(stream)
    assert keys(posecap.open(tmp_path, balance="label", where=where, read=read)) == first
    others = set(keys(posecap.open(tmp_path, balance="label", where=where, read=read, seed=1)))
    stream.set_epoch(1)
    assert len({frozenset(first), frozenset(keys(stream)), frozenset(others)}) > 1  # other clips of label a
    at_most = posecap.open(tmp_path, balance=posecap.Balance(by="label", at_most=4), read=read)
    assert (labels_of(at_most), len(at_most)) == ({"a": 4, "b": 4, None: 3, "c": 1}, 12)


def test_ranks_and_workers_share_a_balanced_epoch(tmp_path: Path) -> None:
    labelled(tmp_path, "aabab.aaab..abac")
    balance = posecap.Balance(by="label", at_most=3)
    whole = keys(posecap.open(tmp_path, balance=balance))
    shares = [posecap.open(tmp_path, balance=balance, rank=rank, world_size=2, uneven="keep") for rank in range(2)]
    loaders = [DataLoader(share, batch_size=None, num_workers=2) for share in shares]
    assert sorted(key for loader in loaders for key in keys(loader)) == sorted(whole)


def test_groups_by_key(tmp_path: Path) -> None:
    labelled(tmp_path, "aaabbb")
    every = posecap.index(tmp_path).to_table()["key"].to_pylist()
    clusters = {every[0]: 7, every[1]: 7, every[2]: "x"}  # the others have none
    found = keys(posecap.open(tmp_path, balance=posecap.Balance(by=clusters)))
    assert (len(found), every[2] in found, set(found) < set(every[:3])) == (2, True, True)
    with pytest.raises(ValueError, match="no clip has a group"):
        posecap.open(tmp_path, balance=posecap.Balance(by={"other": 1}))


def test_what_is_taken_of_a_label_does_not_depend_on_others(tmp_path: Path) -> None:
    labelled(tmp_path / "one", "aaaaaaaabb")
    labelled(tmp_path / "more", "aaaaaaaabbccccc")
    balance = posecap.Balance(by="label", at_most=2)
    few, many = (keys(posecap.open(tmp_path / name, balance=balance, seed=5)) for name in ("one", "more"))
    assert set(few) < set(many)


def test_balance_by_what_has_no_groups() -> None:
    with pytest.raises(ValueError, match=r"'coverage' is no column of groups: .*'label'"):
        posecap.Balance(by="coverage")
    with pytest.raises(ValueError, match="at_most is 0"):
        posecap.Balance(by="label", at_most=0)


def test_over_a_url(root: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    filesystem, place = fsspec.core.url_to_fs(url)
    for name, content in built.files(root).items():
        filesystem.pipe_file(f"{place}/{name}", content)
    for read in ("tar", "columns"):
        for more in ({}, {"where": "people == 2"}, {"balance": "M"}):
            there, here = (keys(posecap.open(place, read=read, **more)) for place in (url, root))  # type: ignore[arg-type]
            assert there == here
    key = train_keys(root)[3]
    assert posecap.read(url, key).joints_MTJ3.tolist() == posecap.read(root, key).joints_MTJ3.tolist()
    assert posecap.index(url).to_table().equals(posecap.index(root).to_table())


# Shards of a remote dataset that are kept on local disk.


@pytest.fixture
def remote(tmp_path: Path, root: Path) -> Iterator[str]:
    url = f"memory://{uuid.uuid4().hex}"
    filesystem, place = fsspec.core.url_to_fs(url)
    for name, content in built.files(root).items():
        filesystem.pipe_file(f"{place}/{name}", content)
    yield url
    filesystem.rm(place, recursive=True)


def kept(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("read", ["tar", "columns"])
def test_shards_are_read_from_the_store_once(
    root: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    stream = posecap.open(posecap.cached(remote, tmp_path / "cache"), read=read)
    assert keys(stream) == keys(posecap.open(root, read=read))
    assert len(kept(tmp_path / "cache")) == 3
    assert len({path.read_bytes() for path in kept(tmp_path / "cache")}) == 3
    monkeypatch.setattr(RemoteStorage, "read_range", lambda *args: pytest.fail("the store was asked again"))
    monkeypatch.setattr(RemoteStorage, "map", lambda *args: pytest.fail("the store was asked again"))
    again = posecap.open(posecap.cached(remote, tmp_path / "cache"), read=read)
    assert keys(again) == keys(stream)
    loader = again.loader(4, num_workers=2, multiprocessing_context="fork")  # the store in memory is this process's
    assert sorted(key for batch in loader for key in batch["key"]) == sorted(keys(again))


def test_a_shard_that_changed_is_read_again(remote: str, tmp_path: Path) -> None:
    keys(posecap.open(posecap.cached(remote, tmp_path / "cache")))
    filesystem, place = fsspec.core.url_to_fs(remote)
    tar = f"{place}/data/train/pose-00000.tar"
    filesystem.pipe_file(tar, filesystem.cat_file(tar))  # with another time of change
    keys(posecap.open(posecap.cached(remote, tmp_path / "cache")))
    assert len(kept(tmp_path / "cache")) == 4


def test_the_cache_is_bounded(root: Path, remote: str, tmp_path: Path) -> None:
    sizes = sorted(path.stat().st_size for path in root.glob("data/train/*.tar"))
    cache = posecap.cached(remote, tmp_path / "cache", most_bytes=sizes[1] + sizes[0])
    for _ in range(2):
        assert keys(posecap.open(cache)) == keys(posecap.open(root))
        assert sum(path.stat().st_size for path in kept(tmp_path / "cache")) <= sizes[1] + sizes[0]
    small = posecap.cached(remote, tmp_path / "small", most_bytes=sizes[0] - 1)
    assert keys(posecap.open(small)) == keys(posecap.open(root))
    assert not (tmp_path / "small").exists()


def test_what_a_killed_download_left_goes_after_an_hour(remote: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    for name, age in ((".old", 7200), (".new", 60)):
        (tmp_path / "cache" / name).write_bytes(b"x")
        os.utime(tmp_path / "cache" / name, (time.time() - age, time.time() - age))
    keys(posecap.open(posecap.cached(remote, tmp_path / "cache")))
    assert [path.name for path in kept(tmp_path / "cache") if path.name.startswith(".")] == [".new"]


def test_a_shard_whose_size_is_not_told_is_not_kept(
    root: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(fsspec.core.url_to_fs(remote)[0])
    info = kind.info

    def without_size(filesystem: Any, path: str, **options: Any) -> dict[str, Any]:
        return {**info(filesystem, path, **options), **({"size": None} if path.endswith(".tar") else {})}

    monkeypatch.setattr(kind, "info", without_size)
    assert keys(posecap.open(posecap.cached(remote, tmp_path / "cache"))) == keys(posecap.open(root))
    assert not (tmp_path / "cache").exists()


def test_a_folder_needs_no_cache(root: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is on this machine already: open it without a cache"):
        posecap.cached(str(root), tmp_path)


@pytest.mark.parametrize("size", [0, 1, 100])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("data/train/pose-00000.columns", "columns"),
        ("data/train/pose-00000.tar", "tar"),
        ("index/train-00000.parquet", "tar"),
    ],
)
def test_a_file_that_is_cut_off_is_damaged(
    tmp_path: Path, name: str, read: Literal["tar", "columns"], size: int
) -> None:
    built.build(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:size])
    with pytest.raises(ShardError):
        list(posecap.open(tmp_path, read=read))


def test_a_damaged_part_is_named_with_the_sample(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    content = bytearray((tmp_path / "data/train/pose-00000.tar").read_bytes())
    content[512] ^= 1  # the first byte of the first sample's joints
    (tmp_path / "data/train/pose-00000.tar").write_bytes(content)
    with pytest.raises(ShardError, match=rf"part train/00000, sample {made[FIRST][0].key}: .*posecap verify"):
        list(posecap.open(tmp_path, seed=None))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"shuffle_buffer": 0}, r"^shuffle_buffer is 0; 1 is the least"),
        ({"read": "zip"}, r"^read is 'zip'; it can be 'tar' or 'columns'$"),
        ({"uneven": "pad"}, r"^uneven is 'pad'; it can be 'repeat' or 'drop' or 'keep'$"),
        ({"fields": ("pts", "joint")}, r"^fields: there is no 'joint'; choose from joints, pts, video, text"),
        ({"rank": 0}, r"^rank is given without world_size"),
        ({"world_size": 1}, r"^world_size is given without rank"),
        ({"rank": 2, "world_size": 2}, r"^rank 2 is not below world_size 2$"),
    ],
)
def test_arguments_out_of_range(root: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        len(posecap.open(root, **wrong))


def test_a_split_that_is_not_there(root: Path) -> None:
    with pytest.raises(ShardError, match=r"holds no samples of split 'test'; its splits are train, val$"):
        posecap.open(root, split="test")
    assert len(posecap.open(root, split=None)) == 17


def test_reading_needs_no_module_that_only_a_build_needs() -> None:
    """``fcntl``, for one, is not everywhere; without it a dataset is read all the same."""
    code = "import sys; sys.modules['fcntl'] = None; import posecap; posecap.open"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_importing_posecap_is_light() -> None:
    code = "import sys, posecap; assert not {'torch', 'pyarrow', 'numpy'} & set(sys.modules); posecap.open"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        posecap.nothing  # noqa: B018
