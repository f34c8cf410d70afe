"""Removal on request: what is named is resolved or refused, and nothing of it is left."""

from pathlib import Path

import pytest

from posecap.removal import RemovalError, remove
from posecap.shards import Dataset, read_part, remove_samples
from posecap.storage import open_storage
from posecap.verify import verify
from tests import built
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
