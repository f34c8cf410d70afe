"""Committing a part and reading it back."""

import errno
import io
import json
import os
import pickle
import tarfile
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from posecap import files
from posecap.shards import (
    Dataset,
    ShardError,
    commit_part,
    committed,
    discard_files,
    read_part,
    read_sidecar,
    remove_part,
    remove_samples,
    write_files,
    write_part,
)
from posecap.shards.part import iter_byte_ranges, located_samples
from posecap.shards.serialization import MEMBER_NAMES, pack, tar_end, tar_header, tar_padding
from posecap.storage import Location, base, open_storage
from posecap.types import PartName, Sample
from tests import building, built
from tests.built import FIRST

VIDEO = built.parts()[FIRST]
PLAIN = built.samples(3)


def write(root: Location, samples: list[Sample], part: PartName = FIRST) -> dict:
    return write_part(root, part, samples, record=built.record(samples))


def test_tarfile_reads_what_was_written(tmp_path: Path) -> None:
    write(tmp_path, VIDEO)
    with tarfile.open(tmp_path / "data/train/pose-00000.tar") as file:
        infos = file.getmembers()
        contents = {info.name: file.extractfile(info).read() for info in infos}
    endings = ("joints.npy", "pts.npy", "video.npy", "text.npy", "txt", "json")
    assert [info.name for info in infos] == [f"{s.key}.{ending}" for s in VIDEO for ending in endings]
    assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode, i.isreg()) for i in infos} == {
        (0, 0, 0, "", "", 0o644, True)
    }
    for sample in VIDEO:
        joints = np.load(io.BytesIO(contents[f"{sample.key}.joints.npy"]), allow_pickle=False)
        assert joints.dtype == np.float32
        assert np.array_equal(joints, sample.joints_MTJ3)
        pts = np.load(io.BytesIO(contents[f"{sample.key}.pts.npy"]), allow_pickle=False)
        assert pts.dtype == np.float64
        assert np.array_equal(pts, sample.pts_T)
        assert contents[f"{sample.key}.txt"] == b"Somebody walks by."
        assert json.loads(contents[f"{sample.key}.json"])["row_id"] == sample.facts["row_id"]
    with tarfile.open(tmp_path / "data/train/video-00000.tar") as file:
        assert [(i.name, file.extractfile(i).read()) for i in file] == [(f"{VIDEO[0].key}.mp4", VIDEO[0].video_mp4)]


def test_webdataset_reads_what_was_written(tmp_path: Path) -> None:
    write(tmp_path, PLAIN)
    url = f"file:{tmp_path}/data/train/pose-00000.tar"
    found = list(webdataset.WebDataset(url, shardshuffle=False).decode())
    assert [f["__key__"] for f in found] == [s.key for s in PLAIN]
    for one, other in zip(PLAIN, found, strict=True):
        assert np.array_equal(other["joints.npy"], one.joints_MTJ3)
        assert np.array_equal(other["text.npy"], one.text_CD)
        assert other["json"]["clip_id"] == one.key
        assert other["txt"] == one.captions[0].text


def test_equal_samples_give_equal_bytes_and_what_is_read_writes_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a", VIDEO)
    write(tmp_path / "b", VIDEO)
    write_part(tmp_path / "c", FIRST, read_part(tmp_path / "a", FIRST), record=built.record(VIDEO))
    expected = built.files(tmp_path / "a")
    assert sorted(expected) == [
        "data/train/pose-00000.columns",
        "data/train/pose-00000.json",
        "data/train/pose-00000.tar",
        "data/train/video-00000.tar",
        "index/train-00000.parquet",
    ]
    assert built.files(tmp_path / "b") == expected
    assert built.files(tmp_path / "c") == expected


def test_a_part_can_be_written_again_from_itself(tmp_path: Path) -> None:
    write(tmp_path, VIDEO)
    before = built.files(tmp_path)
    write_part(tmp_path, FIRST, read_part(tmp_path, FIRST), record=built.record(VIDEO))
    assert built.files(tmp_path) == before


def test_the_sidecar_says_hash_and_size_of_every_file(tmp_path: Path) -> None:
    returned = write(tmp_path, VIDEO)
    document = read_sidecar(tmp_path, FIRST)
    assert document == returned
    assert (document["part"], document["split"], document["number"]) == ("train/00000", "train", 0)
    assert (document["format"], document["samples"], document["fingerprint"]) == (1, 3, "f" * 64)
    others = {name: content for name, content in built.files(tmp_path).items() if not name.endswith(".json")}
    import hashlib

    assert document["files"] == {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name, content in others.items()
    }


def test_places_are_those_of_the_bytes(tmp_path: Path) -> None:
    write(tmp_path, VIDEO)
    pose, video = (built.files(tmp_path)[f"data/train/{n}-00000.tar"] for n in ("pose", "video"))
    files = read_sidecar(tmp_path, FIRST)["files"]
    for sample, places in located_samples(tmp_path, FIRST, files):
        offset, size = places["txt"]
        assert pose[offset : offset + size] == b"Somebody walks by."
        offset, size = places["video"]
        assert np.array_equal(np.load(io.BytesIO(pose[offset : offset + size])), sample.video_D)
        assert ("mp4" in places) == (sample.key == VIDEO[0].key)
        if "mp4" in places:
            offset, size = places["mp4"]
            assert video[offset : offset + size] == sample.video_mp4


def test_chosen_keys_only_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, VIDEO)
    found = list(read_part(tmp_path, FIRST, {VIDEO[2].key, VIDEO[0].key, "unknown"}))
    assert [(s.key, s.video_mp4) for s in found] == [(VIDEO[0].key, VIDEO[0].video_mp4), (VIDEO[2].key, None)]


def test_a_part_without_samples_is_a_sidecar(tmp_path: Path) -> None:
    document = write(tmp_path, [])
    assert list(built.files(tmp_path)) == ["data/train/pose-00000.json"]
    assert (document["files"], document["samples"]) == ({}, 0)
    assert committed(tmp_path) == [FIRST]
    assert list(read_part(tmp_path, FIRST)) == []


def test_a_location_of_any_kind_gets_the_bytes_of_a_folder(location: str, tmp_path: Path) -> None:
    built.build(location)
    built.build(tmp_path / "folder")
    assert built.files(location) == built.files(tmp_path / "folder")
    assert [s.key for s in read_part(location, FIRST)] == [s.key for s in VIDEO]
    found = Dataset(location)
    assert found.sample(VIDEO[0].key, video="attach").video_mp4 == VIDEO[0].video_mp4
    assert found.index().count_rows() == 5
    assert len([key for _, key, _ in found.members(found.parts())]) == 5
    write(open_storage(location), PLAIN)
    write(tmp_path / "folder", PLAIN)
    assert built.files(location) == built.files(tmp_path / "folder")
    assert remove_samples(location, [PLAIN[1].key], "asked") == [FIRST]
    remove_samples(tmp_path / "folder", [PLAIN[1].key], "asked")
    assert built.files(location) == built.files(tmp_path / "folder")
    remove_part(location, FIRST)
    assert committed(location) == [built.SECOND]
    assert not any("00000" in name for name in built.files(location))


def test_a_prepared_part_is_invisible_until_another_process_commits_it(location: str, tmp_path: Path) -> None:
    write(location, VIDEO)
    before = built.files(location)
    record = built.record(PLAIN)
    known = {"fingerprint": record["fingerprint"], "lineage": built.LINEAGE}
    prepared = write_files(location, FIRST, PLAIN, record=known)
    assert {name: content for name, content in built.files(location).items() if ".tmp-" not in name} == before
    sent = pickle.loads(pickle.dumps(prepared))
    assert commit_part(location, FIRST, sent, record=record)["samples"] == 3
    write(tmp_path / "undisturbed", PLAIN)
    assert built.files(location) == built.files(tmp_path / "undisturbed")
    discard_files(location, write_files(location, FIRST, VIDEO, record=built.record(VIDEO)))
    assert built.files(location) == built.files(tmp_path / "undisturbed")


def test_files_of_an_earlier_attempt_go(tmp_path: Path) -> None:
    write(tmp_path, VIDEO)
    (tmp_path / "data/train/.pose-00000.tar.tmp-99").write_bytes(b"left by a killed attempt")
    write(tmp_path, PLAIN)
    assert "data/train/video-00000.tar" not in built.files(tmp_path)
    write(tmp_path, [])
    assert list(built.files(tmp_path)) == ["data/train/pose-00000.json"]


def test_a_removed_part_leaves_its_neighbours(tmp_path: Path) -> None:
    built.build(tmp_path)
    before = built.files(tmp_path)
    remove_part(tmp_path, FIRST)
    mine = {name for name in before if "00000" in name}
    assert len(mine) == 5
    assert built.files(tmp_path) == {name: content for name, content in before.items() if name not in mine}
    remove_part(tmp_path, FIRST)


def test_two_samples_with_one_key_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=f"train/00000: two samples have the key {PLAIN[0].key}"):
        write(tmp_path, [*PLAIN, PLAIN[0]])
    assert built.files(tmp_path) == {}


def test_not_finite_is_refused_and_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, VIDEO)
    before = built.files(tmp_path)
    joints = PLAIN[1].joints_MTJ3.copy()
    joints[0, 1, 2, 0] = np.nan
    with pytest.raises(ShardError, match=f"{PLAIN[1].key}: joints holds NaN"):
        write(tmp_path, [PLAIN[0], replace(PLAIN[1], joints_MTJ3=joints)])
    assert built.files(tmp_path) == before


class Killed(BaseException):
    """Stands for SIGKILL: nothing that catches errors may run on it."""


STEPS = 4  # publishing: columns, tar, index, then the sidecar


@pytest.mark.parametrize("survived", range(STEPS))
def test_a_kill_between_renames_never_shows_a_sidecar_whose_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    write(tmp_path, VIDEO)
    give_name, count = base._give_name, iter(range(STEPS))

    def dies(*arguments: Any, **options: Any) -> None:
        if next(count) == survived:
            raise Killed
        give_name(*arguments, **options)

    monkeypatch.setattr(base, "_give_name", dies)
    monkeypatch.setattr(files.AtomicFile, "__exit__", lambda *args: None)
    with pytest.raises(Killed):
        write(tmp_path, PLAIN)
    assert committed(tmp_path) == []
    monkeypatch.undo()
    write(tmp_path, PLAIN)
    write(tmp_path / "undisturbed", PLAIN)
    expected = built.files(tmp_path / "undisturbed")
    assert {n: c for n, c in built.files(tmp_path).items() if not n.startswith("undisturbed/")} == expected


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(files, "sync_folder", lambda folder: None)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, VIDEO)
    assert built.files(tmp_path) == {}


def test_samples_are_not_gathered_before_they_are_written(tmp_path: Path) -> None:
    alive: list[int] = []

    def one_by_one() -> Iterator[Sample]:
        for sample in PLAIN:
            alive.append(1)
            yield sample
            written = list((tmp_path / "data/train").glob(".pose-00000.tar.tmp-*"))
            assert len(written) == 1

    write_part(tmp_path, FIRST, one_by_one(), record=built.record(PLAIN))
    assert len(alive) == 3


def test_a_sample_and_its_video_are_let_go_of_when_the_next_one_comes(tmp_path: Path) -> None:
    alive: list[weakref.ref[Sample]] = []

    def one_by_one() -> Iterator[Sample]:
        for number in range(5):
            (sample,) = built.samples(1, first=number)
            sample = replace(sample, video_mp4=b"no mp4 at all" * 1000)
            alive.append(weakref.ref(sample))
            yield sample
            del sample
            assert [one() for one in alive[:-1]] == [None] * number

    write_part(tmp_path, FIRST, one_by_one(), record=built.record([]))
    assert len(alive) == 5


def test_a_missing_tar_and_a_part_that_was_never_committed_are_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"pose-00000\.json does not exist"):
        list(read_part(tmp_path, FIRST))
    write(tmp_path, PLAIN)
    (tmp_path / "data/train/pose-00000.tar").unlink()
    with pytest.raises(ShardError, match=r"pose-00000\.tar does not exist"):
        list(read_part(tmp_path, FIRST))


def replace_tar(root: Path, name: str, contents: dict[str, bytes]) -> None:
    written = b"".join(tar_header(n, len(c)) + c + tar_padding(len(c)) for n, c in contents.items())
    (root / f"data/train/{name}-00000.tar").write_bytes(written + tar_end(len(written)))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"a.exe": b""}, "not a member of a sample"),
        ({"../a.txt": b""}, "not a member of a sample"),
        ({"a/b.txt": b""}, "sample key 'a/b'"),
        ({"a.txt": b"x"}, "sample a: member 'joints' is missing"),
    ],
)
def test_hostile_tars_are_refused(tmp_path: Path, contents: dict[str, bytes], message: str) -> None:
    write(tmp_path, PLAIN)
    replace_tar(tmp_path, "pose", contents)
    with pytest.raises(ShardError, match=message):
        list(read_part(tmp_path, FIRST))


def test_members_of_a_key_that_are_apart_are_refused() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("a.txt", "b.txt", "a.json"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    file.seek(0)
    with pytest.raises(ShardError, match="'a' are not together"):
        list(iter_byte_ranges(file, MEMBER_NAMES))


def test_a_video_that_is_too_large_to_be_read_back_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posecap.shards.serialization.MAX_MEMBER_BYTES", 20_000)
    with pytest.raises(ShardError, match="its video takes 20001 bytes, at most 20000 fit"):
        pack(building.sample(video_mp4=bytes(20_001)))


def test_a_video_that_belongs_to_no_sample_is_refused(tmp_path: Path) -> None:
    write(tmp_path, VIDEO)
    replace_tar(tmp_path, "video", {"stranger.mp4": b"x"})
    with pytest.raises(ShardError, match=r"stranger\.mp4 belongs to no sample"):
        list(read_part(tmp_path, FIRST))
