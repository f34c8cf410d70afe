"""Removing clips for good."""

from pathlib import Path

import pytest

from posecap.outcomes import ClipOutcome, RowOutcome
from posecap.shards import (
    Dataset,
    ShardError,
    Tombstones,
    read_part,
    read_sidecar,
    read_tombstones,
    reject_removed,
    remove_samples,
)
from posecap.verify import verify
from tests import built
from tests.built import FIRST, SECOND


def test_a_removed_clip_leaves_every_file_and_the_counts_say_so(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    key = made[FIRST][0].key
    untouched = {name: content for name, content in built.files(tmp_path).items() if "00003" in name}
    assert remove_samples(tmp_path, [key], "asked by the person") == [FIRST]
    found = built.files(tmp_path)
    assert "data/train/video-00000.tar" not in found
    for name in ("data/train/pose-00000.tar", "data/train/pose-00000.columns", "index/train-00000.parquet"):
        assert key.encode() not in found[name]
    assert {name: content for name, content in found.items() if "00003" in name} == untouched
    assert [s.key for s in read_part(tmp_path, FIRST)] == [s.key for s in made[FIRST][1:]]
    document = read_sidecar(tmp_path, FIRST)
    assert document["counts"]["rows"] == {"planned": 3, "kept": 2, "rejected": 1, "failed": 0, "quarantined": 0}
    assert document["counts"]["clips"] == {"kept": 2, "rejected": 1, "failed": 0, "quarantined": 0}
    assert document["counts"]["reasons"] == {"forgotten": 1}
    row = document["rows"][0]
    assert (row["status"], row["stage"], row["reason"], row["detail"]) == (
        "rejected",
        "forget",
        "forgotten",
        "asked by the person",
    )
    assert document["fingerprint"] == "f" * 64
    assert verify(tmp_path).problems == ()


def test_the_rest_of_the_part_is_what_a_build_without_the_clip_gives(tmp_path: Path) -> None:
    made = built.build(tmp_path / "a")
    remove_samples(tmp_path / "a", [made[SECOND][1].key], "x")
    built.build(tmp_path / "b", {FIRST: made[FIRST], SECOND: made[SECOND][:1]})
    one, other = built.files(tmp_path / "a"), built.files(tmp_path / "b")
    for name in ("data/train/pose-00003.tar", "data/train/pose-00003.columns", "index/train-00003.parquet"):
        assert one[name] == other[name]


def test_a_removed_source_takes_all_its_clips_and_may_empty_a_part(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    sources = {sample.facts["source_id"] for sample in made[SECOND]}
    assert remove_samples(tmp_path, [], "withdrawn", sources=sources) == [SECOND]
    assert read_sidecar(tmp_path, SECOND)["files"] == {}
    assert list(read_part(tmp_path, SECOND)) == []
    assert verify(tmp_path).problems == ()


def test_again_is_nothing_and_reasons_add_up(tmp_path: Path) -> None:
    made = built.build(tmp_path)
    one, other = made[FIRST][0].key, made[FIRST][1].key
    remove_samples(tmp_path, [one], "first")
    before = built.files(tmp_path)
    assert remove_samples(tmp_path, [one], "second") == []
    assert built.files(tmp_path) == before
    remove_samples(tmp_path, [other, "never-seen"], "third", sources=["s"])
    assert read_tombstones(tmp_path) == Tombstones(
        {one: "first", other: "third", "never-seen": "third"}, {"s": "third"}
    )


def test_readers_leave_removed_clips_out_before_the_parts_are_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built.build(tmp_path)
    key, source = made[FIRST][1].key, made[SECOND][0].facts["source_id"]
    monkeypatch.setattr("posecap.shards.tombstones._rewrite", lambda *args: False)
    remove_samples(tmp_path, [key], "x", sources=[source])
    kept = [made[FIRST][0].key, made[FIRST][2].key, made[SECOND][1].key]
    dataset = Dataset(tmp_path)
    assert dataset.index().to_table()["key"].to_pylist() == kept
    assert [(part, rows.tolist()) for part, rows in dataset.parts()] == [(FIRST, [0, 2]), (SECOND, [1])]
    for removed in (key, made[SECOND][0].key):
        with pytest.raises(ShardError, match="was removed"):
            dataset.sample(removed)
    found = verify(tmp_path).problems
    assert [(p.key, p.what) for p in found] == [
        (key, "was removed, but the part still holds it"),
        (made[SECOND][0].key, "was removed, but the part still holds it"),
    ]


def test_damaged_tombstones_stop_readers(tmp_path: Path) -> None:
    built.build(tmp_path)
    remove_samples(tmp_path, ["a"], "x")
    content = bytearray((tmp_path / "tombstones.json").read_bytes())
    content[20] ^= 1
    (tmp_path / "tombstones.json").write_bytes(content)
    with pytest.raises(ShardError, match="removed clips would come back"):
        Dataset(tmp_path).index()


def test_a_row_is_kept_as_long_as_one_of_its_clips_is() -> None:
    clips = tuple(ClipOutcome(status="kept", clip_id=key) for key in "ab")
    row = RowOutcome(row_id="r", uri="u", status="kept", clips=clips)
    assert reject_removed(row, {"z": "x"}) == row
    partly = reject_removed(row, {"a": "x"})
    assert (partly.status, [c.status for c in partly.clips]) == ("kept", ["rejected", "kept"])
    wholly = reject_removed(partly, {"a": "never", "b": "y"})
    assert (wholly.status, wholly.reason, wholly.detail) == ("rejected", "forgotten", "y")
    assert [c.detail for c in wholly.clips] == ["x", "y"]


def test_a_key_that_is_a_path_is_rejected(tmp_path: Path) -> None:
    built.build(tmp_path)
    with pytest.raises(ShardError, match="sample key"):
        remove_samples(tmp_path, ["../x"], "x")
    assert read_tombstones(tmp_path) == Tombstones()


def test_a_part_of_which_every_clip_is_removed_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = built.build(tmp_path)
    monkeypatch.setattr("posecap.shards.tombstones._rewrite", lambda *args: False)
    remove_samples(tmp_path, [sample.key for sample in made[SECOND]], "x")
    assert [part for part, _ in Dataset(tmp_path).parts()] == [FIRST]
