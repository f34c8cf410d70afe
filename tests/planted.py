"""A dataset in which the same footage stands in two splits, in each of the ways that there are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from posecap.signatures import make_signature
from posecap.storage import Location
from posecap.types import PartName, Sample
from tests import building, built
from tests.moving import picture_at

ROWS: Mapping[str, dict[str, Any]] = {
    "alone": {"seed": 1, "person": "ann"},
    "copied": {"seed": 2, "person": "bob"},
    "copy": {"seed": 2, "source": 8, "mirror": True, "person": "cat"},
    "renamed": {"seed": 3, "source": 9, "person": "dan"},
    "renamed-too": {"seed": 4, "source": 9, "person": "dan"},
    "long-1": {"seed": 5, "uri": "long.mp4", "person": "eve"},
    "long-2": {"seed": 6, "uri": "long.mp4", "start": 9.0, "person": "eve"},
    "one-day": {"seed": 7, "person": "flo"},
    "next-day": {"seed": 8, "person": "flo"},
}
"""By id: ``seed`` of the footage, ``source`` of the file, and the person who is in it."""
SPLITS = {**dict.fromkeys(ROWS, "train"), **dict.fromkeys(("copy", "renamed-too", "long-2", "next-day"), "test")}
PERSON_BY_URI = {str(known.get("uri", f"{name}.mp4")): {str(known["person"])} for name, known in ROWS.items()}


@lru_cache(maxsize=32)
def signature(seed: int, *, mirror: bool = False) -> str:
    """The signature of two seconds of made-up footage."""
    at = np.arange(16) / 8
    frames = np.stack([picture_at(seed, seconds) for seconds in at.tolist()])
    return make_signature(np.ascontiguousarray(frames[:, :, ::-1]) if mirror else frames, at)


def sample(name: str, split: str, *, signed: bool = True) -> Sample:
    """The sample of a row of :data:`ROWS`."""
    known = ROWS[name]
    row = building.row(
        row_id=name, uri=known.get("uri", f"{name}.mp4"), split=split, label=f"label-{known['seed'] % 2}"
    )
    begin = known.get("start", 0.0)
    facts = {"signature": signature(known["seed"], mirror=known.get("mirror", False))} if signed else {}
    source, pts_T = known.get("source", known["seed"] + 100), begin + np.arange(8) / 25
    return building.sample(frames=8, seed=source, row=row, pts_T=pts_T, facts=facts)


def build(root: Location, splits: Mapping[str, str] = SPLITS, *, signed: bool = True) -> None:
    """Write the dataset with these splits; rows without one are left out."""
    made: dict[PartName, list[Sample]] = {}
    for name in (name for name in ROWS if name in splits):
        made.setdefault(PartName(splits[name], 0), []).append(sample(name, splits[name], signed=signed))
    built.build(root, made)
