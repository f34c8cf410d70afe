"""Removal on request: what is named is resolved or refused, and nothing of it is left.
`posecap gc` frees what nothing refers to, and nothing that a build needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from posecap.build import LEDGER_FILE
from posecap.cli import main
from posecap.ledger import Ledger
from posecap.open_rows import staged_files
from posecap.progress import Progress
from posecap.removal import Garbage, RemovalError, collect_garbage, remove
from posecap.shards import Dataset, ShardError, read_part, remove_samples
from posecap.staging import FOLDER
from posecap.storage import DatasetLockedError, StorageError, open_storage
from posecap.storage.base import attempt_of
from posecap.verify import verify
from tests import built, cheap, small
from tests.built import FIRST, SECOND


def test_nothing_is_left_in_any_file(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    gone, key = made[FIRST][0], made[FIRST][0].key
    for name in (
        "preview/train-00000/x.jpg",
        ".staging/0123/row.tar",
        "data/train/.pose-00003.tar.tmp-99",
        "report.json",
        ".add.sqlite",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(key.encode())
    (tmp_path / "contact_sheet.jpg").write_bytes(b"faces")
    removed = remove(tmp_path, [key[:10]], reason="asked")
    assert (removed.keys, removed.rewritten, removed.indexes, removed.deleted) == ((key,), (FIRST,), 2, 2)
    assert [sample.key for sample in read_part(tmp_path, FIRST)] == [sample.key for sample in made[FIRST][1:]]
    holders = [path.name for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert sorted(holders) == ["pose-00000.json", "tombstones.json"]  # its outcome, and the reason
    assert gone.video_mp4 is not None
    assert not any(gone.video_mp4 in path.read_bytes() for path in tmp_path.rglob("*.tar"))
    assert verify(tmp_path).problems == ()


def test_a_dataset_in_an_object_store(location: str) -> None:
    made = built.build(location)
    key, storage = made[SECOND][1].key, open_storage(location)
    for name in (".staging/0/r.tar", "preview/train-00003/x.jpg", "contact_sheet.jpg", "report.json"):
        storage.write(name, b"x")
    removed = remove(location, [key[:10]], reason="asked")
    assert (removed.keys, removed.rewritten, removed.deleted) == ((key,), (SECOND,), 1)
    left = {file.name for file in storage.list() if ".lease" not in file.name}
    assert not {name for name in left if name.startswith((".staging", "preview", "contact", "report"))}
    assert key not in Dataset(location).index().to_table()["key"].to_pylist()
    with pytest.raises(RemovalError, match=r"nobody: no clip of .*\. Nothing was removed"):
        remove(location, ["nobody"], reason="asked")


def test_all_clips_of_a_source_and_of_a_video(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    facts = [made[part][0].facts for part in (FIRST, SECOND)]
    removed = remove(tmp_path, sources=[facts[0]["source_id"]], videos=[facts[1]["uri"]], reason="asked")
    assert removed.rewritten == (FIRST, SECOND)
    left = Dataset(tmp_path).index().to_table()
    assert facts[0]["source_id"] not in left["source_id"].to_pylist()
    assert facts[1]["uri"] not in left["uri"].to_pylist()


@pytest.mark.parametrize("where", ["index", "tar", "video", "columns", "preview", "staging"])
def test_what_is_left_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    key = built.build(tmp_path)[FIRST][0].key
    files = {"tar": "pose-00000.tar", "video": "video-00000.tar", "columns": "pose-00000.columns"}
    kept = {name: (tmp_path / "data/train" / name).read_bytes() for name in files.values()}
    if where == "index":
        monkeypatch.setattr("posecap.shards.dataset._rewrite", lambda *args: False)
    elif where in files:

        def put_back(*words: object, **options: object) -> list[object]:
            parts = remove_samples(*words, **options)  # type: ignore[arg-type]
            (tmp_path / "data/train" / files[where]).write_bytes(kept[files[where]])
            return list(parts)

        monkeypatch.setattr("posecap.removal.remove_samples", put_back)
    elif where == "preview":
        (tmp_path / "preview").mkdir()
        (tmp_path / "preview/x.jpg").touch()
        monkeypatch.setattr("posecap.removal.remove_previews", lambda *args: None)
    else:
        (tmp_path / ".staging").mkdir()
        (tmp_path / ".staging/x.tar").touch()
        monkeypatch.setattr("posecap.removal._delete_unfinished", lambda *args: 0)
    with pytest.raises(RemovalError, match=r"something of the removed clips is left: .*; run this command again"):
        remove(tmp_path, [key], reason="asked")


@pytest.mark.parametrize("folder", ["damaged", "results", ".staging"])
def test_files_behind_a_link_are_not_deleted(tmp_path: Path, folder: str) -> None:
    root, other = tmp_path / "dataset", tmp_path / "other"
    key = built.build(root)[FIRST][0].key
    other.mkdir()
    (other / "photo.jpg").write_bytes(b"mine")
    (root / folder).symlink_to(other)
    with pytest.raises(RemovalError, match=rf"{folder} is a symbolic link: .*\. Nothing was removed"):
        remove(root, [key], reason="asked")
    assert (other / "photo.jpg").read_bytes() == b"mine"
    (root / folder).unlink()
    assert remove(root, [key], reason="asked").keys == (key,)


def test_a_key_that_an_earlier_version_recorded_by_its_beginning(tmp_path: Path) -> None:
    key = built.build(tmp_path)[SECOND][1].key
    remove_samples(tmp_path, [key[:8]], "asked")
    (problem,) = verify(tmp_path).problems
    assert (problem.key, problem.remedy) == (key, f"run `posecap remove {key[:8]}` again")
    assert remove(tmp_path, [key[:8]], reason="asked").keys == (key,)
    assert remove(tmp_path, [key[:8]], reason="asked").rewritten == ()
    assert verify(tmp_path).problems == ()


DAY = 86_400.0
ROWS = [{"id": f"{n}", "video": "one.mp4", "start": n / 20, "end": 0.5 + n / 20, "label": "runs"} for n in range(4)]
"""All of which are kept."""
LOCK = ".lease"
"""The file that is locked."""
MORE_FRAMES = """
people = next(stage for stage in pipeline.stages if stage.name == "filter_people")
pipeline = replace(
    pipeline, stages=tuple(replace(one, fewest_frames=5) if one is people else one for one in pipeline.stages)
)
"""
"""A change of the pipeline behind what is stored."""


def stopped(manifest: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    """The dataset of a build that ends with an error after three rows."""
    seen = list[Any]()

    def stopping(self: Progress, row: Any) -> None:
        seen.append(row)
        if len(seen) == 3:
            raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "row", stopping)
        with pytest.raises(OSError, match="the disk is gone"):
            small.build(manifest, **options)
    return manifest.parent / "dataset"


def aged(root: Path, folder: str, days: float) -> None:
    """Make the files of a folder of a dataset older."""
    for path in (root / folder).rglob("*"):
        when = path.stat().st_mtime - days * DAY
        os.utime(path, (when, when))


def test_a_finished_dataset_has_nothing_to_free(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path, cheap.ROWS[:2])
    root = small.build(manifest).root
    before = small.published(root)
    assert collect_garbage(root, old_seconds=0) == []
    assert small.published(root) == before
    assert small.build(manifest).parts_built == 0


def test_rows_of_a_stopped_build_stay_until_they_are_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = cheap.manifest(tmp_path, ROWS, rows_per_part=10)
    root = stopped(manifest, monkeypatch)
    orphan = root / FOLDER / "0123456789abcdef" / "row.tar"
    orphan.parent.mkdir()
    orphan.write_bytes(bytes(1000))
    found = collect_garbage(root)
    assert Garbage(orphan.relative_to(root).as_posix(), "staged", 1000) in found
    assert not orphan.parent.exists()
    staged = [path for path in (root / FOLDER).rglob("*") if path.is_file()]
    with Ledger(root / LEDGER_FILE) as ledger:
        assert {path.relative_to(root).as_posix() for path in staged} == staged_files(ledger)
    assert len(staged) == 3
    aged(root, FOLDER, 8)
    assert {one.name for one in collect_garbage(root)} == {path.relative_to(root).as_posix() for path in staged}
    assert not (root / FOLDER).exists()
    built = small.build(manifest)  # does what was removed again
    assert verify(built.root).problems == ()


def test_without_a_ledger_only_age_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = stopped(cheap.manifest(tmp_path, ROWS, rows_per_part=10), monkeypatch)
    for path in root.glob("ledger.sqlite*"):
        path.unlink()
    assert collect_garbage(root) == []
    aged(root, FOLDER, 8)
    assert collect_garbage(root)


def test_results_of_no_part_unfinished_files_and_damaged_ones_go(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path, cheap.ROWS[:2])
    root = small.build(manifest).root
    names = {
        "results/train-00009.results": "results",
        attempt_of("data/train/pose-00000.tar"): "unfinished",
        "damaged/2026-01-01/pose.tar": "moved aside",
    }
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"left")
    emptied = [root / name for name in ("data/dev", "preview/dev-00000", "extra/text.gone")]
    for folder in emptied:
        folder.mkdir(parents=True)
    assert {one.name: one.kind for one in collect_garbage(root)} == {"results/train-00009.results": "results"}
    assert not any(folder.exists() for folder in emptied)
    for folder in ("data", "damaged"):
        aged(root, folder, 8)
    (root / "results/train-00009.results").write_bytes(b"left")
    listed = collect_garbage(root, mode="list")
    assert {one.name: one.kind for one in listed} == names
    assert all((root / name).exists() for name in names)
    assert collect_garbage(root) == listed
    assert not any((root / name).exists() for name in names)
    assert verify(root).problems == ()


def test_results_go_where_the_manifest_keeps_none_any_more(tmp_path: Path) -> None:
    root = small.build(cheap.manifest(tmp_path, cheap.ROWS[:2])).root
    manifest = cheap.manifest(tmp_path, cheap.ROWS[:2], keep="none")
    (found,) = collect_garbage(root)
    assert (found.kind, found.size_bytes > 0) == ("results", True)
    assert verify(root).problems == ()
    assert small.build(manifest).parts_built == 0


def test_nothing_is_touched_while_a_build_is_under_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = small.build(cheap.manifest(tmp_path, cheap.ROWS[:1])).root
    with open_storage(root).lock(), pytest.raises(DatasetLockedError):
        collect_garbage(root)
    with open_storage(root).lock():
        assert main(["gc", str(root)]) == 1
    (root / "results/train-00009.results").write_bytes(b"left")
    capsys.readouterr()
    assert main(["gc", str(root), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "results  4  results/train-00009.results",
        "results: 1 file, 4 bytes",
        f"{root}: would free 1 file, 4 bytes",
    ]
    assert main(["gc", str(root)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{root}: freed 1 file, 4 bytes"
    assert main(["gc", str(root), "--older-than", "-1"]) == 2


def test_what_a_stopped_update_took_over_of_an_old_dataset_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = small.build(cheap.manifest(tmp_path, ROWS, rows_per_part=1)).root
    aged(root, ".", 8)
    manifest = cheap.manifest(tmp_path, ROWS, rows_per_part=2, pipeline=MORE_FRAMES)
    cheap.runs(manifest)
    stopped(manifest, monkeypatch, on_change="update")
    staged = {path for path in (root / FOLDER / "results").iterdir() if path.suffix == ".results"}
    assert len(staged) == 4
    assert not (root / "results/train-00003.results").exists()  # so that the staged name is the only one
    collect_garbage(root)
    assert all(path.exists() for path in staged)
    cheap.runs(manifest)
    small.build(manifest, on_change="update")
    assert "detect" not in cheap.runs(manifest)
    assert verify(root).problems == ()


def test_a_list_writes_nothing_and_needs_no_right_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = stopped(cheap.manifest(tmp_path, ROWS[:3], rows_per_part=10), monkeypatch)
    (root / "results").mkdir(exist_ok=True)
    (root / "results/train-00009.results").write_bytes(b"left")
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    monkeypatch.setattr("posecap.ledger.os.access", lambda path, mode: False)  # root may write everywhere
    found = [one.name for one in collect_garbage(root, mode="list")]
    assert found[0] == "results/train-00009.results"
    assert [Path(name).name for name in found[1:]] == ["driver"]  # and no file of rows that the next build takes
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before
    with open_storage(root).lock(), pytest.raises(DatasetLockedError, match=f"by process {os.getpid()}"):
        collect_garbage(root, mode="list")
    (root / LOCK).unlink()
    assert [one.name for one in collect_garbage(root, mode="list")] == found
    assert not (root / LOCK).exists()


def test_nothing_outside_a_dataset_goes(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "damaged").mkdir(parents=True)
    (other / "damaged" / "photo.jpg").write_bytes(b"mine")
    aged(other, ".", 8)
    with pytest.raises(ShardError, match="is not a dataset directory"):
        collect_garbage(other)
    root = small.build(cheap.manifest(tmp_path, cheap.ROWS[:1])).root
    (root / "damaged").symlink_to(other / "damaged")
    (root / FOLDER).mkdir()
    (root / FOLDER / "link").symlink_to(other)
    assert collect_garbage(root, old_seconds=0) == []
    (root / LOCK).unlink()
    (root / LOCK).symlink_to(other / "damaged" / "photo.jpg")
    with pytest.raises(StorageError, match="symbolic link"):
        collect_garbage(root)
    assert (other / "damaged" / "photo.jpg").read_bytes() == b"mine"


@pytest.mark.slow
def test_an_object_store_is_cleaned_too(tmp_path: Path, bucket: str) -> None:
    output = f"{bucket}/poses"
    small.build(cheap.manifest(tmp_path, cheap.ROWS[:1]), output=output)
    storage = open_storage(output)
    storage.write("results/train-00009.results", b"left")
    storage.write(f"{FOLDER}/0123456789abcdef/row.tar", b"left too")
    assert {(one.name, one.size_bytes) for one in collect_garbage(output)} == {
        ("results/train-00009.results", 4),
        (f"{FOLDER}/0123456789abcdef/row.tar", 8),
    }
    assert verify(output).problems == ()
