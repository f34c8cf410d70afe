"""Near-duplicates are found among other clips, grouped, and the best of each group is known."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecap import duplicates
from posecap.cli import main
from posecap.duplicates import (
    DUPLICATES_FILE,
    Pair,
    SignatureStore,
    candidates,
    group_clips,
    joined,
    keys_near,
    near_pairs,
    read_clips,
    read_groups,
)
from posecap.shards import Dataset, ShardError
from posecap.signatures import Signature, likeness
from posecap.types import PartName
from tests import building, built, planted


def noise(seed: int, frames: int = 8) -> Signature:
    """The signature of a picture that is like no other, and hardly changes."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=48) + 0.1 * rng.normal(size=(frames, 48))
    return Signature((values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32), 0.25)


def test_copies_are_found_among_others() -> None:
    with SignatureStore() as store:
        for seed in range(600):
            store.add(noise(seed))
        for seed in (3, 77):
            store.add(Signature.parse(planted.signature(seed % 5)))
            store.add(Signature.parse(planted.signature(seed % 5, mirror=True)))
        found = [(pair.first, pair.second, pair.mirrored) for pair in near_pairs(store)]
        path = store._path
    assert found == [(600, 601, True), (602, 603, True)]
    assert not path.exists()


def test_a_store_of_one_clip_or_none_has_no_pairs() -> None:
    with SignatureStore() as store:
        assert list(near_pairs(store)) == []
        store.add(noise(0))
        assert list(near_pairs(store)) == []
        assert candidates(*store.vectors()).shape == (0, 2)


@pytest.mark.slow
def test_clips_that_are_all_alike_take_no_time_with_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Still clips of one camera: each is compared with a few others, and all are one group; black ones are none."""
    monkeypatch.setattr(duplicates, "_FEWEST_CROWDED", 64)
    compared = []
    monkeypatch.setattr(duplicates, "likeness", lambda one, two: compared.append(1) or likeness(one, two))
    rng = np.random.default_rng(0)
    still = rng.normal(size=48)
    still /= np.linalg.norm(still)
    count = 1000
    with SignatureStore() as store:
        for _ in range(count):
            values = still + 0.002 * rng.normal(size=(6, 48))
            store.add(Signature(values.astype(np.float32), 0.25))
        for _ in range(200):
            store.add(Signature(np.zeros((6, 48), np.float32), 0.25))
        assert len(candidates(*store.vectors())) < 200 * count  # of all pairs there are 500 for each
        leader = joined(len(store), [(pair.first, pair.second) for pair in near_pairs(store)])
    assert leader[:count].tolist() == [0] * count
    assert leader[count:].tolist() == list(range(count, count + 200))
    assert len(compared) == count - 1


def test_what_is_joined_has_one_leader() -> None:
    assert joined(6, [(4, 5), (1, 2), (2, 4)]).tolist() == [0, 1, 1, 3, 1, 1]


def test_clips_of_one_file_that_overlap_are_near_duplicates(tmp_path: Path) -> None:
    spans = {"a": 0.0, "b": 0.2, "c": 5.0}
    rows = {name: building.row(row_id=name, uri="one.mp4") for name in spans}
    kept = [building.sample(frames=10, seed=1, row=rows[n], pts_T=at + np.arange(10) / 25) for n, at in spans.items()]
    built.build(tmp_path, {PartName("train", 0): kept})
    with SignatureStore() as store:
        clips = read_clips(store, tmp_path)
        assert clips.pairs() == [Pair(0, 1, 1.0, None, False)]
        assert len(store) == 0


def test_groups_have_their_best_clip_first(tmp_path: Path) -> None:
    planted.build(tmp_path)
    with SignatureStore() as store:
        clips = read_clips(store, tmp_path)
        groups = group_clips(clips, clips.pairs()).to_pylist()
    copies = [row for row in groups if row["uri"] in ("copied.mp4", "copy.mp4")]
    assert [row["best"] for row in copies] == [True, False]
    assert all(row["mirrored"] and row["picture"] > 0.9 for row in copies)


def test_a_trimmed_clip_that_is_a_little_better_is_not_the_best(tmp_path: Path) -> None:
    samples = []
    for name, frames, score in (("part", 5, 0.9), ("whole", 50, 0.8)):
        row = building.row(row_id=name, uri="one.mp4")
        sample = building.sample(frames=frames, seed=1, row=row, pts_T=np.arange(frames) / 25)
        samples.append(
            replace(sample, facts={**sample.facts, "quality": {**sample.facts["quality"], "mean_score": score}})
        )
    built.build(tmp_path, {PartName("train", 0): samples})
    with SignatureStore() as store:
        clips = read_clips(store, tmp_path)
        groups = group_clips(clips, clips.pairs()).to_pylist()
    assert [(row["row_id"], row["best"]) for row in groups] == [("whole", True), ("part", False)]


def test_the_command_writes_groups_and_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted.build(tmp_path)
    assert main(["duplicates", str(tmp_path), "--output", str(tmp_path / "sheet.jpg")]) == 0
    said = capsys.readouterr().out
    assert "of near-duplicates" in said
    assert "copy.mp4" in said
    assert (tmp_path / "sheet.jpg").stat().st_size > 1000
    assert read_groups(tmp_path).num_rows == len(main_json(tmp_path, capsys))


def main_json(root: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert main(["duplicates", str(root), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_only_the_best_is_kept_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted.build(tmp_path)
    rows = main_json(tmp_path, capsys)
    best = {row["key"] for row in rows if row["best"]}
    assert main(["duplicates", str(tmp_path), "--keep", "best"]) == 0
    assert "removed 2 clips" in capsys.readouterr().out
    kept = set(Dataset(tmp_path).index().to_table(columns=["key"])["key"].to_pylist())
    assert len(kept) == len(planted.ROWS) - len(rows) + len(best)
    assert best <= kept
    assert set(read_groups(tmp_path)["key"].to_pylist()) == best
    assert main_json(tmp_path, capsys) == []


def test_what_is_said_of_removed_clips_is_no_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted.build(tmp_path)
    assert main(["duplicates", str(tmp_path), "--keep", "best", "--json"]) == 0
    said = capsys.readouterr()
    assert all(json.loads(line)["key"] for line in said.out.splitlines())
    assert "removed 2 clips" in said.err


def test_clips_without_signatures_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted.build(tmp_path, signed=False)
    assert main(["duplicates", str(tmp_path)]) == 0
    assert "9 of 9 clips have no signature" in capsys.readouterr().out


def test_a_damaged_signature_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    built.build(tmp_path, {PartName("train", 0): [building.sample(frames=8, facts={"signature": "?"})]})
    with SignatureStore() as store, pytest.raises(ShardError, match=r"part train/00000, sample .*: no signature"):
        read_clips(store, tmp_path)
    assert read_groups(tmp_path) is None
    (tmp_path / DUPLICATES_FILE).write_bytes(b"PAR1")
    with pytest.raises(ShardError, match="run `posecap duplicates` again"):
        read_groups(tmp_path)


def test_keys_near_other_datasets(tmp_path: Path) -> None:
    planted.build(tmp_path / "all", dict.fromkeys(planted.ROWS, "train"))
    planted.build(tmp_path / "test")
    names = {planted.sample(name, "train").key: name for name in planted.ROWS}

    def near(**options: Any) -> list[str]:
        return sorted(names[key] for key in keys_near(tmp_path / "all", tmp_path / "test", **options))

    assert near() == near(compare="files") == sorted(names.values())
    assert near(split="test") == ["copied", "copy", "long-2", "next-day", "renamed", "renamed-too"]
    assert near(split="test", compare="files") == ["copy", "long-2", "next-day", "renamed", "renamed-too"]
    assert near(split="val") == []
