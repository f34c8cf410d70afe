"""Clusters of a dataset's clips by their vectors, as groups for :class:`posecap.stream.Balance`.

Spherical k-means (Dhillon and Modha, 2001), begun as k-means++ (Arthur and Vassilvitskii, 2007), on a sample of the
clips; then each clip goes to the centre with which it has the greatest cosine. The sample follows from the keys of
clips, and what is drawn is the same each time, so that the same clips give the same clusters. In memory are the keys,
the sample and the centres.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final, Literal

import numpy as np

from posecap.shards import Dataset, Where
from posecap.storage import Location
from posecap.types import Floats

_SAMPLE_PER_CLUSTER: Final = 64
"""Our choice: of as many clips the mean hardly moves."""
_ROUNDS: Final = 20
"""Of k-means at most. Our choice; fewer where no clip of the sample changes its cluster."""


def clusters(
    location: Location,
    count: int,
    *,
    by: Literal["video", "text"] = "video",
    split: str | None = "train",
    where: str | Where | None = None,
) -> dict[str, int]:
    """The cluster of each clip by its key, 0 to ``count - 1``; clips without a vector are left out.

    With ``by=posecap.clusters(root, 100)`` and ``at_most=50`` a :class:`posecap.stream.Balance` takes at most 50 clips
    of each. Every clip's vector is read three times: to know who has one, to draw the sample, and to find the cluster.

    Args:
        count: of clusters. Some may be empty where many clips have equal vectors.
        by: ``video`` is the vector of the clip's frames, ``text`` the mean of those of its captions.
        split: None for all.
        where: only clips for which this condition holds (:mod:`posecap.shards.where`).

    Raises:
        ValueError: ``count`` is below 1 or above the number of clips with a vector, or vectors have several lengths.
        WhereError: it is no condition.
        ShardError: the location is no dataset, or damaged.
    """
    if count < 1:
        raise ValueError(f"clusters: count is {count}; 1 is the least")
    dataset, condition = Dataset(location), Where.of(where)
    keys = [key for key, _ in _vectors(dataset, by, split, condition)]
    if len(keys) < count:
        raise ValueError(
            f"clusters: {len(keys)} clips have a vector of {by}, fewer than the {count} clusters asked for"
        )
    chosen = sorted(keys, key=lambda key: hashlib.blake2b(key.encode(), digest_size=8).digest())
    place = {key: number for number, key in enumerate(chosen[: _SAMPLE_PER_CLUSTER * count])}
    drawn = {place[key]: vector for key, vector in _vectors(dataset, by, split, condition) if key in place}
    if len(lengths := {len(vector) for vector in drawn.values()}) > 1:
        raise ValueError(f"clusters: vectors of {by} have {', '.join(map(str, sorted(lengths)))} numbers; use `where`")
    centres_CD = _centres(np.stack([drawn[number] for number in range(len(drawn))]), count)
    found = {}
    for key, vector in _vectors(dataset, by, split, condition):
        if len(vector) != centres_CD.shape[1]:
            raise ValueError(
                f"clusters: clip {key} has a vector of {len(vector)} numbers, others {centres_CD.shape[1]}"
            )
        found[key] = int((centres_CD @ vector).argmax())
    return found


def _vectors(dataset: Dataset, by: str, split: str | None, where: Where | None) -> Iterator[tuple[str, Floats]]:
    """The key and the vector, of length 1, of each clip that has one."""
    parts = [(part, rows) for part, rows in dataset.parts(split, where=where) if len(rows)]
    for _, batch, rows in dataset.columns(parts):
        for row in rows:
            values = np.asarray(batch.array(by, row), np.float32)
            vector = values.mean(0) if values.ndim == 2 and len(values) else values.reshape(-1)
            length = float(np.linalg.norm(vector)) if len(vector) else 0.0
            if length > 0:
                yield batch.keys[row], vector / np.float32(length)


def _centres(sample_ND: Floats, count: int) -> Floats:
    """(count, D) centres of length 1."""
    random = np.random.default_rng(0)
    first, nearness = [0], sample_ND @ sample_ND[0]
    while len(first) < count:
        far = np.maximum(1 - nearness, 0.0).astype(np.float64) + 1e-9  # half the squared distance
        first.append(int(random.choice(len(sample_ND), p=far / far.sum())))
        nearness = np.maximum(nearness, sample_ND @ sample_ND[first[-1]])
    centres = sample_ND[first]
    nearest = np.full(len(sample_ND), -1)
    for _ in range(_ROUNDS):
        before, nearest = nearest, (sample_ND @ centres.T).argmax(1)
        if (nearest == before).all():
            break
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, sample_ND)
        length = np.linalg.norm(sums, axis=1)
        centres[length > 0] = sums[length > 0] / length[length > 0, None]  # an empty one stays where it is
    return centres
