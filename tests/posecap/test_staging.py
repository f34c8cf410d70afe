"""Samples on their way into a part: staged, read back, written; and what is left where something fails."""

from __future__ import annotations

import errno
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from posecap.files import Written
from posecap.pipeline import Segment
from posecap.run.execute import OUTPUT_NOT_WRITABLE, complete, execute, execute_each
from posecap.shards import PartFiles, ShardError, commit_part, read_sidecar, write_part
from posecap.shards.sidecar import encode_document
from posecap.stage import Resources, Stage
from posecap.staging import (
    FOLDER,
    Staging,
    StagingFile,
    WriteJob,
    WritePart,
    read_staged,
    remove_unfinished,
    samples_in_part,
)
from posecap.storage import LocalStorage
from posecap.storage.base import attempt_of
from posecap.types import PartName, Row, Sample, StagedSample
from tests import building, built

PART = PartName("train", 0)
ROW = Row(row_id="row-0", uri="videos/0.mp4")


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging.start(tmp_path / "dataset", fingerprint="f" * 64)


def made() -> list[Sample]:
    """Three samples: with video and thumbnail, with neither, with a thumbnail."""
    one, two, three = built.samples(3)
    return [
        replace(one, video_mp4=b"no mp4 at all" * 100, thumbnail_jpeg=b"one"),
        two,
        replace(three, thumbnail_jpeg=b"three"),
    ]


def staged(staging: Staging, samples: list[Sample]) -> tuple[StagedSample, ...]:
    with staging.file(ROW) as file:
        return tuple(file.add(sample) for sample in samples)


def root_of(staging: Staging) -> Path:
    assert isinstance(staging.storage, LocalStorage)
    return staging.storage.root


def staged_files(staging: Staging) -> list[Path]:
    return sorted(path for path in (root_of(staging) / FOLDER).rglob("*.tar") if path.is_file())


def test_a_part_from_staged_samples_has_the_bytes_of_one_from_samples(staging: Staging, tmp_path: Path) -> None:
    samples = made()
    write_part(tmp_path / "direct", PART, samples, record=built.record(samples))
    job = WriteJob(part=PART, samples=staged(staging, samples), record=built.record(samples))
    (files,) = WritePart(staging)(job)
    assert [path for path in root_of(staging).rglob("*.json") if not path.name.startswith(".")] == []
    commit_part(staging.storage, PART, files, record=built.record(samples))
    staging.remove(sample.pose.file for sample in job.samples)
    assert staged_files(staging) == []
    written = built.files(root_of(staging))
    direct = built.files(tmp_path / "direct")
    assert {name: content for name, content in written.items() if name in direct} == direct
    assert {name for name in written.keys() - direct.keys() if FOLDER not in name} == {
        f"preview/train-00000/{sample.key}.jpg" for sample in samples if sample.thumbnail_jpeg
    }


def test_any_tar_reads_a_staging_file(staging: Staging) -> None:
    one, two, three = made()
    staged(staging, [one, two, three])
    (path,) = staged_files(staging)
    with tarfile.open(path) as tar:
        names = tar.getnames()
    assert [name for name in names if not name.endswith(("npy", "txt", "json"))] == [
        f"{one.key}.mp4",
        f"{one.key}.jpg",
        f"{three.key}.jpg",
    ]


def test_a_row_that_is_tried_twice_has_two_files_and_another_pipeline_other_names(staging: Staging) -> None:
    first, second = staged(staging, made()[:1]), staged(staging, made()[:1])
    other = staged(replace(staging, fingerprint="e" * 64), made()[:1])
    names = [Path(one.pose.file).name.partition("-")[0] for (one,) in (first, second, other)]
    assert names[0] == names[1] != names[2]
    assert len(staged_files(staging)) == 3


@pytest.mark.parametrize("where", ["pose", "video"])
def test_bytes_that_changed_are_never_taken_for_a_sample(staging: Staging, where: str) -> None:
    (one,) = staged(staging, made()[:1])
    found = getattr(one, where)
    with (root_of(staging) / found.file).open("r+b") as file:
        file.seek(found.offset + found.size - 1)
        file.write(b"!")
    with pytest.raises(ShardError, match="gives other bytes than were written"):
        list(read_staged(staging.storage, [one]))


def test_arrays_that_wait_for_a_batch_do_not_keep_a_video(staging: Staging) -> None:
    video = bytearray(3_000_000)
    (one,) = read_staged(staging.storage, staged(staging, [replace(made()[1], video_mp4=bytes(video))]))
    assert one.video_mp4 == video
    owner = one.joints_MTJ3.base
    while not isinstance(owner, memoryview):
        assert isinstance(owner, np.ndarray)
        owner = owner.base
    assert len(owner.obj) < 1_000_000  # type: ignore[arg-type]


def test_files_that_are_gone_or_cut_are_named(staging: Staging) -> None:
    (one,) = staged(staging, made()[:1])
    os.truncate(root_of(staging) / one.pose.file, 100)
    with pytest.raises(ShardError, match="what was staged is gone or cut short"):
        list(read_staged(staging.storage, [one]))
    (root_of(staging) / one.pose.file).unlink()
    with pytest.raises(ShardError, match="what was staged is gone or cut short"):
        list(read_staged(staging.storage, [one]))


def test_a_build_that_starts_removes_what_others_left(staging: Staging) -> None:
    staged(staging, made())
    later = Staging.start(staging.storage, fingerprint="f" * 64)
    assert staged_files(later) == []
    assert later.is_visible()
    assert not staging.is_visible()


def test_a_build_that_ends_removes_its_own_files_and_those_of_no_other(staging: Staging) -> None:
    staged(staging, made())
    other = replace(staging, build="another")
    other.storage.write(f"{FOLDER}/another/file", b"x")
    staging.end()
    assert [file.name for file in staging.storage.list()] == [f"{FOLDER}/another/file"]
    other.end()
    other.end()
    assert list(root_of(staging).iterdir()) == []


def test_files_of_parts_that_were_not_committed_are_removed_by_the_next_build(staging: Staging) -> None:
    samples = made()
    job = WriteJob(part=PART, samples=staged(staging, samples), record=built.record(samples))
    write_part(staging.storage, PartName("train", 1), samples, record=built.record(samples))
    before = built.files(root_of(staging))
    (files,) = WritePart(staging)(job)
    assert {name for name in built.files(root_of(staging)) if ".tmp-" in name} == {*files.temporary.values()}
    Staging.start(staging.storage, fingerprint="f" * 64)
    left = built.files(root_of(staging))
    assert {name for name in left if not name.startswith((FOLDER, "preview"))} == {
        name for name in before if not name.startswith(FOLDER)
    }


def test_a_part_is_written_by_the_driver_where_the_worker_does_not_see_it(staging: Staging, tmp_path: Path) -> None:
    samples = made()
    job = WriteJob(part=PART, samples=staged(staging, samples), record=built.record(samples))
    elsewhere = replace(staging, storage=LocalStorage(tmp_path / "not mounted"))
    result = execute([WritePart(elsewhere)], job)
    assert not (tmp_path / "not mounted").exists()
    assert result.error is not None
    assert "does not see" in result.error.detail
    (files,) = complete(result, job, Segment((WritePart(staging),), Resources())).outputs
    assert files.samples == 3


def test_samples_of_a_committed_part_are_read_where_they_lie(tmp_path: Path) -> None:
    samples = made()
    write_part(tmp_path, PART, samples, record=built.record(samples))
    before = built.files(tmp_path)
    by_row = samples_in_part(tmp_path, PART)
    assert list(by_row) == [sample.facts["row_id"] for sample in samples]
    job = WriteJob(part=PART, samples=tuple(s for row in by_row.values() for s in row), record=built.record(samples))
    (files,) = WritePart(Staging.start(tmp_path, fingerprint="f"))(job)
    commit_part(tmp_path, PART, files, record=built.record(samples))
    after = {name: content for name, content in built.files(tmp_path).items() if not name.startswith(FOLDER)}
    assert after == before
    (tmp_path / "data/train/pose-00000.tar").write_bytes(before["data/train/pose-00000.tar"][:-1] + b"!")
    with pytest.raises(ShardError, match=r"pose-00000\.tar is missing, or not as it was written"):
        samples_in_part(tmp_path, PART)
    (tmp_path / "data/train/pose-00000.tar").write_bytes(before["data/train/pose-00000.tar"])
    document = read_sidecar(tmp_path, PART)
    del document["files"]["index/train-00000.parquet"]
    (tmp_path / "data/train/pose-00000.json").write_bytes(encode_document(document))
    with pytest.raises(ShardError, match=r"index/train-00000\.parquet is missing, or not as it was written"):
        samples_in_part(tmp_path, PART)


def test_a_part_without_samples_has_none(tmp_path: Path) -> None:
    commit_part(tmp_path, PART, PartFiles({}, {}, 0), record=built.record([]))
    assert samples_in_part(tmp_path, PART) == {}


class Gives(Stage):
    name = "gives"
    takes = Row
    gives = Sample

    def __init__(self, *samples: Sample) -> None:
        self.samples = samples

    def __call__(self, item):
        yield from self.samples


def test_a_worker_stages_samples_and_gives_back_where_they_are(staging: Staging) -> None:
    samples = made()
    result = execute([Gives(*samples)], ROW, staging=staging)
    assert [type(output) for output in result.outputs] == [StagedSample] * 3
    assert [clip.clip_id for clip in result.clips] == [sample.key for sample in samples]
    assert {clip.status for clip in result.clips} == {"kept"}
    again = read_staged(staging.storage, result.outputs)
    for sample, read in zip(samples, again, strict=True):
        assert np.array_equal(sample.joints_MTJ3, read.joints_MTJ3)
        assert sample.video_mp4 == read.video_mp4


def test_a_row_without_samples_leaves_no_file(staging: Staging) -> None:
    assert execute([Gives()], ROW, staging=staging).outputs == []
    assert staged_files(staging) == []


def test_a_sample_that_breaks_the_schema_costs_its_clip_only(staging: Staging) -> None:
    one, two, _ = made()
    joints = two.joints_MTJ3.copy()
    joints[0, 0, 0, 0] = np.nan
    result = execute([Gives(one, replace(two, joints_MTJ3=joints))], ROW, staging=staging)
    assert [output.key for output in result.outputs] == [one.key]
    assert [(clip.status, clip.stage, clip.reason) for clip in result.clips] == [
        ("kept", "", ""),
        ("failed", "write", "error"),
    ]
    assert "joints holds NaN" in result.clips[1].detail


def test_a_full_disk_is_the_outputs_fault_and_leaves_nothing(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(StagingFile):
        def _write(self, *pieces: bytes) -> None:
            if self._size:
                raise self._error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            super()._write(*pieces)

    monkeypatch.setattr("posecap.staging.StagingFile", Full)
    result = execute([Gives(*made())], ROW, staging=staging)
    assert (result.outputs, result.clips) == ([], [])
    assert result.error is not None
    assert (result.error.reason, result.error.retryable) == (OUTPUT_NOT_WRITABLE, True)
    assert "No space left" in result.error.detail
    assert staged_files(staging) == []


def test_a_worker_that_does_not_see_the_output_hands_its_samples_over(staging: Staging, tmp_path: Path) -> None:
    elsewhere = replace(staging, storage=LocalStorage(tmp_path / "not mounted"))
    result = execute([Gives(*made())], ROW, staging=elsewhere)
    assert [type(output) for output in result.outputs] == [Sample] * 3
    assert not (tmp_path / "not mounted").exists()
    complete(result, ROW, Segment((), Resources(), staging))
    assert [type(output) for output in result.outputs] == [StagedSample] * 3
    assert len(staged_files(staging)) == 1


def test_the_samples_of_an_item_are_not_gathered(staging: Staging) -> None:
    written: list[int] = []

    class Watched(Gives):
        def __call__(self, item):
            for sample in self.samples:
                yield sample
                written.append(len(staged_files(staging)))

    execute([Watched(*[building.sample(key=f"{n:024x}") for n in range(3)])], ROW, staging=staging)
    assert written == [1, 1, 1]


class Each(Stage):
    """Gives the sample of a row, by the row's id."""

    name = "each"
    takes = Row
    gives = Sample

    def __call__(self, item):
        yield made()[int(item.row_id)]


ROWS = [Row(row_id=str(n), uri=f"videos/{n}.mp4") for n in range(3)]


def test_rows_that_are_done_together_share_a_file(staging: Staging) -> None:
    results = execute_each([Each()], ROWS, staging=staging)
    shared = [output for result in results for output in result.outputs]
    alone = [output for row in ROWS for output in execute([Each()], row, staging=staging).outputs]
    assert len({output.pose.file for output in shared}) == 1
    assert [output.sha256 for output in shared] == [output.sha256 for output in alone]
    for ours, theirs in zip(read_staged(staging.storage, shared), read_staged(staging.storage, alone), strict=True):
        assert (ours.key, ours.video_mp4, ours.facts) == (theirs.key, theirs.video_mp4, theirs.facts)
    assert [path.name for path in staged_files(staging)].count(Path(shared[0].pose.file).name) == 1
    with tarfile.open(root_of(staging) / shared[0].pose.file) as tar:
        assert f"{shared[2].key}.json" in tar.getnames()
    staging.remove(output.pose.file for output in (*shared, *alone))
    assert staged_files(staging) == []


def test_of_rows_that_are_done_together_one_that_cannot_be_staged_leaves_nothing_in_their_file(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(StagingFile):
        def add(self, sample: Sample) -> StagedSample:
            found = super().add(sample)
            if sample.key == made()[1].key:
                raise self._error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            return found

    monkeypatch.setattr("posecap.staging.StagingFile", Fails)
    first, second, third = execute_each([Each()], ROWS, staging=staging)
    assert second.error is not None
    assert second.error.reason == OUTPUT_NOT_WRITABLE
    assert [output.key for output in first.outputs + third.outputs] == [made()[0].key, made()[2].key]
    assert len(list(read_staged(staging.storage, first.outputs + third.outputs))) == 2
    (path,) = staged_files(staging)
    with tarfile.open(path) as tar:
        assert {name.partition(".")[0] for name in tar.getnames()} == {made()[0].key, made()[2].key}


def test_where_a_shared_file_cannot_be_ended_no_row_of_it_is_staged(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NotEnded(StagingFile):
        def close(self) -> None:
            raise self._error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    monkeypatch.setattr("posecap.staging.StagingFile", NotEnded)
    results = execute_each([Each()], ROWS, staging=staging)
    assert [(result.outputs, result.clips, result.machine_dependent) for result in results] == [([], [], True)] * 3
    assert {result.error and result.error.reason for result in results} == {OUTPUT_NOT_WRITABLE}
    assert staged_files(staging) == []


def test_what_was_packed_when_it_was_staged_is_not_packed_again(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = made()
    record = built.record(samples)
    given = staged(staging, samples)

    def again(sample: Sample) -> None:
        raise AssertionError(sample.key)

    monkeypatch.setattr("posecap.shards.part.pack", again)
    (files,) = WritePart(staging)(WriteJob(part=PART, samples=given, record=record))
    monkeypatch.undo()
    write_part(tmp_path / "plain", PART, samples, record=record)
    assert files.written == {
        name: Written(entry["sha256"], entry["size_bytes"])
        for name, entry in read_sidecar(tmp_path / "plain", PART)["files"].items()
    }
    of_another = replace(staging, build="another")  # as rows that an earlier version has staged: packed as now
    assert [type(one) for one in WritePart(of_another)._samples(given)] == [Sample] * 3


def test_files_that_killed_processes_were_writing_are_removed_also_beside_the_folders(tmp_path: Path) -> None:
    kept = ["card.md", ".origin.json", "data/train/pose-00000.tar"]
    killed = [
        attempt_of(name) for name in ("card.md", "extra.json", "data/train/pose-00000.tar", "extra/text.a/x.json")
    ]
    for name in (*kept, *killed):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert remove_unfinished(tmp_path) == len(killed)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(kept)
