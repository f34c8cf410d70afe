"""What a page of a dataset shows: tables of clips, movements and losses, counts, and maps of vectors."""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from posecap.duplicates import GROUPS_SCHEMA, write_groups
from posecap.explore import contents
from posecap.explore.contents import (
    Choice,
    Map,
    MapPackageError,
    Projection,
    VectorFile,
    packed,
    read_contents,
    read_maps,
    read_moves,
)
from posecap.outcomes import ClipOutcome, RowOutcome
from posecap.shards import Where, remove_samples, write_dataset_list, write_part
from posecap.types import PartName, Sample
from tests import building, built

LOST = RowOutcome(row_id="gone", uri="gone.mp4", status="failed", stage="download", reason="timeout", detail="slow")
EMPTY = RowOutcome(
    row_id="empty",
    uri="empty.mp4",
    status="rejected",
    stage="filter_people",
    reason="no_person_found",
    clips=(
        ClipOutcome(status="rejected", start_seconds=1.0, end_seconds=2.5, stage="track", reason="no_person_found"),
        ClipOutcome(status="rejected", stage="track", reason="no_person_found", detail="nobody"),
    ),
)


def table_in(content: bytes) -> Any:
    """The table of an Arrow IPC file of one record batch, as the page reads it."""
    reader = pa.ipc.open_file(gzip.decompress(content))
    assert reader.num_record_batches == 1
    return reader.read_all()


def positions(move: dict[str, Any], people: int, joints: int, side: int) -> np.ndarray:
    """(people, frames, joints, 2) in pixels, undone as the page undoes it."""
    frames = len(move["times"])
    steps = np.stack([np.array(move[axis], np.int16).reshape(people, joints, frames) for axis in "xy"], -1)
    return np.cumsum(steps, axis=2, dtype=np.int16).transpose(0, 2, 1, 3) * (side / 4095)


class TestClips:
    def test_they_are_those_of_the_index(self, tmp_path: Path) -> None:
        made = built.build(tmp_path)
        found = read_contents(tmp_path, Choice())
        samples = [sample for part in made.values() for sample in part]
        assert found.clips.schema.equals(contents.CLIPS_SCHEMA)
        assert not any(column.null_count for column in found.clips.columns)
        rows = found.clips.to_pylist()
        assert [row["key"] for row in rows] == [sample.key for sample in samples]
        for row, sample in zip(rows, samples, strict=True):
            assert (row["M"], row["T"], row["J"]) == sample.joints_MTJ3.shape[:3]
            assert row["captions"] == [caption.text for caption in sample.captions]
            assert row["jitter"] == pytest.approx(sample.facts["quality"]["jitter"])
            assert row["label"] == (sample.facts["label"] or "")
        assert [row["mp4_size"] > 0 for row in rows] == [True, False, False, False, False]
        assert found.document["clips"] == {"shown": 5, "there": 5}
        json.dumps(found.document)

    def test_a_choice_of_them(self, tmp_path: Path) -> None:
        built.build(tmp_path)
        two = read_contents(tmp_path, Choice(where=Where.of("people == 2")))
        assert set(two.clips["M"].to_pylist()) == {2}
        assert two.document["chosen"]["where"] == "people == 2"
        every = read_contents(tmp_path, Choice()).clips["key"].to_pylist()
        few = read_contents(tmp_path, Choice(count=3))
        assert few.clips["key"].to_pylist() == [every[0], every[2], every[4]]
        assert few.document["clips"] == {"shown": 3, "there": 5}
        assert read_contents(tmp_path, Choice(split="val")).clips.num_rows == 0

    def test_removed_ones_are_not_shown(self, tmp_path: Path) -> None:
        (first, *_), _ = built.build(tmp_path).values()
        remove_samples(tmp_path, [first.key], "asked")
        assert first.key not in read_contents(tmp_path, Choice()).clips["key"].to_pylist()

    def test_groups_of_near_duplicates(self, tmp_path: Path) -> None:
        one, two, *_ = built.build(tmp_path)[built.FIRST]
        known = {"row_id": "r", "uri": "u", "label": None, "start_seconds": 0.0, "end_seconds": 1.0, "split": "train"}
        pair = [
            {**known, "group": 3, "best": sample is two, "key": sample.key, "picture": 1.0, "mirrored": False}
            for sample in (one, two)
        ]
        assert read_contents(tmp_path, Choice()).document["duplicates"] is False
        write_groups(tmp_path, pa.Table.from_pylist(pair, schema=GROUPS_SCHEMA))
        found = read_contents(tmp_path, Choice())
        assert found.clips["group"].to_pylist() == [3, 3, -1, -1, -1]
        assert found.clips["best"].to_pylist() == [0, 1, 0, 0, 0]
        assert found.document["duplicates"] is True

    def test_previews(self, tmp_path: Path) -> None:
        one, two, *_ = built.build(tmp_path)[built.FIRST]
        folder = tmp_path / "preview" / "train-00000"
        folder.mkdir(parents=True)
        (folder / f"{one.key}.jpg").write_bytes(b"a picture")
        (folder / f"{two.key}.jpg").write_bytes(bytes(2 << 20))  # larger than any preview
        found = read_contents(tmp_path, Choice())
        assert found.clips["picture"].to_pylist() == [1, 0, 0, 0, 0]
        _, (moves,) = read_moves(tmp_path, found, None)
        assert table_in(moves)["picture"].to_pylist() == [b"a picture", b"", b"", b"", b""]
        blank = read_contents(tmp_path, Choice(background="blank"))
        assert not any(blank.clips["picture"].to_pylist())
        assert table_in(read_moves(tmp_path, blank, None)[1][0])["picture"].to_pylist() == [b""] * 5


class TestLosses:
    def test_what_was_not_kept_and_counts_of_an_unfinished_build(self, tmp_path: Path) -> None:
        samples = built.samples(2)
        record = built.record(samples, more=[LOST, EMPTY])
        record["pipeline"] = [{"name": name} for name in ("download", "decode", "track")]
        write_part(tmp_path, PartName("train", 0), samples, record=record)
        write_dataset_list(tmp_path)
        found = read_contents(tmp_path, Choice())
        assert found.losses.schema.equals(contents.LOSSES_SCHEMA)
        lines = found.losses.to_pylist()
        assert [line["reason"] for line in lines] == ["timeout", "no_person_found", "no_person_found"]
        assert lines[1]["start_seconds"] == 1.0
        assert np.isnan(lines[0]["start_seconds"])
        assert lines[2]["detail"] == "nobody"
        assert found.document["losses"] == [
            {"status": "rejected", "stage": "track", "reason": "no_person_found", "count": 2},
            {"status": "failed", "stage": "download", "reason": "timeout", "count": 1},
        ]
        assert found.document["counts"]["rows"]["kept"] == 2
        by_stage = {(line["stage"], line["unit"]): line for line in found.document["yield"]}
        assert (by_stage["download", "rows"]["in"], by_stage["download", "rows"]["out"]) == (4, 3)
        assert by_stage["track", "clips"]["rejected"] == {"no_person_found": 2}
        assert not found.document["finished"]

    def test_all_are_counted_and_the_first_of_each_reason_listed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(contents, "_MOST_OF_A_REASON", 2)
        samples = built.samples(1)
        many = [replace(LOST, row_id=f"gone-{number}") for number in range(5)]
        write_part(tmp_path, PartName("train", 0), samples, record=built.record(samples, more=[*many, EMPTY]))
        write_dataset_list(tmp_path)
        found = read_contents(tmp_path, Choice())
        assert found.losses["row_id"].to_pylist() == ["gone-0", "gone-1", "empty", "empty"]
        assert [one["count"] for one in found.document["losses"]] == [5, 2]

    def test_a_damaged_sidecar_is_named(self, tmp_path: Path) -> None:
        built.build(tmp_path)
        sidecar = tmp_path / "data/train/pose-00003.json"
        sidecar.write_bytes(sidecar.read_bytes().replace(b'"kept"', b'"lost"'))
        (damage,) = read_contents(tmp_path, Choice()).document["damaged"]
        assert "pose-00003.json" in damage


class TestMoves:
    def test_positions_scores_and_times_come_back(self, tmp_path: Path) -> None:
        made = built.build(tmp_path)
        found, (content,) = read_moves(tmp_path, read_contents(tmp_path, Choice()), None)
        assert found.document["frames"] == 600
        table = table_in(content)
        assert table.schema.equals(contents.MOVES_SCHEMA)
        samples = [sample for part in made.values() for sample in part]
        for move, sample in zip(table.to_pylist(), samples, strict=True):
            people, frames, joints, _ = sample.joints_MTJ3.shape
            np.testing.assert_allclose(np.cumsum(move["times"]) / 1000, sample.pts_T - sample.pts_T[0], atol=1e-3)
            xy = positions(move, people, joints, 640)
            seen = sample.joints_MTJ3[..., 2] > 0
            np.testing.assert_allclose(xy[seen], sample.joints_MTJ3[seen][:, :2], atol=640 / 4095)
            scores = np.array(move["scores"]).reshape(people, joints, frames).transpose(0, 2, 1) / 20
            np.testing.assert_allclose(scores, sample.joints_MTJ3[..., 2], atol=0.026)

    def test_joints_that_are_not_seen_far_away_or_no_numbers(self) -> None:
        joints = building.walkers(frames=6)
        joints[0, 2:4, 5] = 0
        joints[0, 3, 6] = [-3000, 5000, 0.01]
        joints[0, 1, 7] = [np.nan, np.inf, 0.9]
        move = contents._move(joints, np.arange(6) / 25, 600, 640)
        keys = dict(zip(("times", "x", "y", "scores"), move, strict=True))
        xy = positions(keys, 1, 17, 640)
        scores = keys["scores"].reshape(17, 6)
        assert scores[5].tolist()[2:4] == [0, 0]
        np.testing.assert_array_equal(xy[0, 2:4, 5], xy[0, [1, 1], 5])  # the position before is repeated
        assert scores[6, 3] == 1  # seen, if hardly
        np.testing.assert_allclose(xy[0, 3, 6], [-3000, 5000], atol=1)
        assert scores[7, 1] == 0

    def test_long_clips_are_thinned_and_crowds_cut(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(contents, "_MOVE_BYTES", 1)
        monkeypatch.setattr(contents, "MOST_PEOPLE", 2)
        built.build(tmp_path, {built.FIRST: [building.sample(people=3, frames=50), building.sample(frames=7, seed=1)]})
        found, (content,) = read_moves(tmp_path, read_contents(tmp_path, Choice()), None)
        assert found.document["frames"] == 12
        long, short = table_in(content).to_pylist()
        assert (len(long["times"]), len(long["x"])) == (12, 2 * 17 * 12)
        assert sum(long["times"]) == pytest.approx(49 * 40, abs=2)
        assert len(short["times"]) == 7

    def test_blocks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(contents, "CLIPS_PER_BLOCK", 2)
        built.build(tmp_path)
        _, blocks = read_moves(tmp_path, read_contents(tmp_path, Choice()), None)
        assert [table_in(block).num_rows for block in blocks] == [2, 2, 1]

    def test_pictures_that_are_too_large_together_are_thinned(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = built.build(tmp_path)[built.FIRST]
        folder = tmp_path / "preview" / "train-00000"
        folder.mkdir(parents=True)
        for sample in made:
            (folder / f"{sample.key}.jpg").write_bytes(bytes(100))
        monkeypatch.setattr(contents, "_PICTURE_BYTES", 160)
        found, (content,) = read_moves(tmp_path, read_contents(tmp_path, Choice()), None)
        assert [bool(picture) for picture in table_in(content)["picture"].to_pylist()] == [1, 0, 1, 0, 0]
        assert found.clips["picture"].to_pylist() == [1, 0, 1, 0, 0]


def test_maps_are_in_the_table_of_clips(tmp_path: Path) -> None:
    built.build(tmp_path)
    read = read_contents(tmp_path, Choice())
    assert np.isnan(read.clips["text_x"].to_numpy()).all()
    found = read_maps(tmp_path, read, "pca")
    assert found.document["maps"].keys() == {"text", "video"}
    for name in ("text_x", "text_y", "video_x", "video_y"):
        assert np.isfinite(found.clips[name].to_numpy()).all()
    both, _ = read_moves(tmp_path, read, "pca")
    assert packed(both.clips) == packed(found.clips)


def test_the_same_dataset_gives_the_same_bytes(tmp_path: Path) -> None:
    built.build(tmp_path)
    first, second = (read_moves(tmp_path, read_contents(tmp_path, Choice()), "pca") for _ in range(2))
    assert packed(first[0].clips) == packed(second[0].clips)
    assert first[1] == second[1]
    assert first[0].document == second[0].document


def test_a_dataset_in_a_store_reads_as_one_in_a_folder(location: str, tmp_path: Path) -> None:
    made: dict[PartName, list[Sample]] = built.build(location)
    built.build(tmp_path / "dataset", made)
    there, moves = read_moves(location, read_contents(location, Choice()), "pca")
    here, expected = read_moves(tmp_path / "dataset", read_contents(tmp_path / "dataset", Choice()), "pca")
    assert packed(there.clips) == packed(here.clips)
    assert moves == expected
    assert there.title == "dataset"


def test_a_remote_build_without_a_list_of_parts_has_no_clips_yet(location: str) -> None:
    samples = built.samples(1)
    write_part(location, PartName("train", 0), samples, record=built.record(samples, more=[LOST]))
    found = read_contents(location, Choice())
    assert found.clips.num_rows == (0 if "://" in location else 1)
    assert found.losses.num_rows == 1


def mapped(vectors: list[np.ndarray | None], projection: Projection = "pca") -> Map | None:
    with VectorFile() as file:
        for vector in vectors:
            file.add(vector)
        return file.map(projection)


def clusters(count: int = 40, dimension: int = 12) -> np.ndarray:
    """Two groups of vectors, the first half of them far from the second."""
    rng = np.random.default_rng(0)
    made = rng.normal(0, 0.1, (count, dimension)).astype(np.float32)
    made[: count // 2, 3] += 5
    return made


def test_the_two_largest_principal_components() -> None:
    vectors = clusters()
    found = mapped(list(vectors))
    assert found is not None
    centred = (vectors - vectors.mean(0)).astype(np.float64)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes[:2].T
    np.testing.assert_allclose(np.abs(found.xy_N2), np.abs(expected), atol=1e-4)
    np.testing.assert_allclose(found.shares, (values**2 / (values**2).sum())[:2], atol=1e-4)
    assert found.xy_N2[:20, 0].min() > found.xy_N2[20:, 0].max()  # the largest weight of an axis is positive


def test_clips_without_a_fitting_vector_lie_nowhere() -> None:
    vectors: list[np.ndarray | None] = list(clusters(6))
    nan = np.full(12, np.nan, np.float32)
    found = mapped([vectors[0], None, np.ones(5, np.float32), np.zeros(0, np.float32), nan, *vectors[1:]])
    assert found is not None
    assert np.isnan(found.xy_N2).all(1).tolist() == [False, *[True] * 4, *[False] * 5]
    plain = mapped(vectors)
    assert plain is not None
    np.testing.assert_array_equal(found.xy_N2[[0, 5, 6, 7, 8, 9]], plain.xy_N2)


def test_two_vectors_equal_ones_and_ones_of_one_number() -> None:
    assert mapped(list(clusters(2))) is None
    same = mapped([np.ones(4, np.float32)] * 5)
    assert same is not None
    np.testing.assert_allclose(same.xy_N2, 0, atol=1e-6)
    line = mapped([np.array([value], np.float32) for value in (1, 2, 6)])
    assert line is not None
    np.testing.assert_allclose(line.xy_N2, [[-2, 0], [-1, 0], [3, 0]], atol=1e-6)


def test_many_blocks_are_one_map(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = list(clusters())
    whole = mapped(vectors)
    monkeypatch.setattr("posecap.explore.contents._BLOCK_ROWS", 7)
    parts = mapped(vectors)
    assert whole is not None
    assert parts is not None
    np.testing.assert_allclose(parts.xy_N2, whole.xy_N2, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("projection", "package"), [("tsne", "sklearn"), ("umap", "umap")])
def test_neighbours_stay_together(projection: Projection, package: str) -> None:
    pytest.importorskip(package, reason=f"{package} computes {projection}")
    found = mapped([*clusters(), None], projection)
    assert found is not None
    assert found.shares == ()
    assert np.isnan(found.xy_N2[-1]).all()
    first, second = found.xy_N2[:20], found.xy_N2[20:40]
    apart = float(np.linalg.norm(first.mean(0) - second.mean(0)))
    assert apart > 2 * max(float(half.std(0).mean()) for half in (first, second))


@pytest.mark.parametrize(("projection", "module"), [("tsne", "sklearn.manifold"), ("umap", "umap")])
def test_a_missing_package_is_named(projection: Projection, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MapPackageError, match=r"pip install 'posecap\[maps\]'"):
        mapped(list(clusters()), projection)
