"""Clusters of clips by their vectors are the same again, leave out what has none, and balance an epoch."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import posecap
from posecap.types import PartName
from tests import building, built

DIRECTIONS = np.eye(3, 4, dtype=np.float32)


def build(root: Path) -> dict[str, int]:
    """Twelve clips of three directions, six, four and two, and one without a vector; the direction of each by key."""
    made, known = [], {}
    for number, direction in enumerate([0, 1, 2, 0, 0, 1, 0, 1, 0, 2, 1, 0]):
        vector = DIRECTIONS[direction] + np.float32(0.05) * np.sin(np.arange(4) + number).astype(np.float32)
        sample = building.sample(
            frames=5,
            seed=number,
            row=building.row(row_id=f"row-{number}"),
            video_D=(vector / np.linalg.norm(vector)).astype(np.float32),
        )
        made.append(sample)
        known[sample.key] = direction
    made.append(building.sample(frames=5, seed=99, row=building.row(row_id="bare"), video_D=np.zeros(0, np.float32)))
    built.build(root, {PartName("train", 0): made[:7], PartName("train", 1): made[7:]})
    return known


def test_clips_of_one_direction_are_one_cluster(tmp_path: Path) -> None:
    known = build(tmp_path)
    found = posecap.clusters(tmp_path, 3)
    assert found.keys() == known.keys()
    assert len({(known[key], cluster) for key, cluster in found.items()}) == 3
    assert posecap.clusters(tmp_path, 3) == found
    balanced = posecap.open(tmp_path, balance=posecap.Balance(by=found))
    assert Counter(known[sample["key"]] for sample in balanced) == {0: 2, 1: 2, 2: 2}


def test_one_cluster_has_all_and_texts_have_clusters_too(tmp_path: Path) -> None:
    known = build(tmp_path)
    assert set(posecap.clusters(tmp_path, 1).values()) == {0}
    assert len(posecap.clusters(tmp_path, 2, by="text")) == len(known) + 1
    few = posecap.clusters(tmp_path, 1, where="row_id in ['row-1', 'row-2']")
    assert len(few) == 2


def test_too_many_clusters_and_none_are_refused(tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(ValueError, match="12 clips have a vector of video, fewer than the 13 clusters asked for"):
        posecap.clusters(tmp_path, 13)
    with pytest.raises(ValueError, match="count is 0; 1 is the least"):
        posecap.clusters(tmp_path, 0)
