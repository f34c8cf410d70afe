"""Small datasets on disk for tests, sound down to the last count.

build(root)                                 two parts of split train, five samples in all
build(root, {PartName("val", 0): [...]})    parts and their samples
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from posecap.outcomes import ClipOutcome, RowOutcome, tally
from posecap.shards import write_dataset_list, write_part
from posecap.storage import Location, open_storage
from posecap.types import PartName, Sample
from tests import building

LINEAGE = {"packages": {"numpy": "2.0"}, "weights": {"made-up": "ab" * 32}}
FIRST, SECOND = PartName("train", 0), PartName("train", 3)


def samples(count: int, *, first: int = 0, split: str = "train", **changes: Any) -> list[Sample]:
    """Samples made from the seeds ``first`` to ``first + count - 1``: sizes and arrays differ, keys are unsorted."""
    made = []
    for number in range(first, first + count):
        row = building.row(row_id=f"row-{number}", split=split, uri=f"videos/{number}.mp4")
        known = {"people": 1 + number % 2, "frames": 5 + number, "seed": number, "row": row, **changes}
        made.append(building.sample(**known))
    return made


def record(kept: Sequence[Sample], *, more: Sequence[RowOutcome] = ()) -> dict[str, Any]:
    """What a build writes into the sidecar of a part: one row for each sample, and ``more`` rows."""
    rows = [
        RowOutcome(
            row_id=sample.facts["row_id"],
            uri=sample.facts["uri"],
            status="kept",
            clips=(ClipOutcome(status="kept", clip_id=sample.key, start_seconds=0.0, end_seconds=1.0),),
        )
        for sample in kept
    ]
    rows += more
    return {
        "fingerprint": "f" * 64,
        "pipeline": [{"name": "pack"}],
        "lineage": LINEAGE,
        "counts": tally(rows).as_json(),
        "rows": [row.as_json() for row in rows],
    }


def parts() -> dict[PartName, list[Sample]]:
    """Two parts with a gap between their numbers; one sample carries video."""
    one, *rest = samples(3)
    return {FIRST: [replace(one, video_mp4=b"not really an mp4" * 40), *rest], SECOND: samples(2, first=3)}


def with_another_split() -> dict[PartName, list[Sample]]:
    """These parts, and two samples of the split val."""
    return {**parts(), PartName("val", 0): samples(2, first=5, split="val")}


def build(root: Location, made: Mapping[PartName, Sequence[Sample]] | None = None) -> dict[PartName, list[Sample]]:
    """Write a dataset of these parts (:func:`parts` by default), and return its samples by part."""
    written = {part: list(kept) for part, kept in (parts() if made is None else made).items()}
    for part, kept in written.items():
        write_part(root, part, kept, record=record(kept))
    write_dataset_list(root)
    return written


def files(root: Location) -> dict[str, bytes]:
    """Every file at ``root`` with its bytes."""
    storage = open_storage(root)
    return {name: storage.read(name, limit=1 << 30) for name in sorted(file.name for file in storage.list())}


def arrays(sample: Sample) -> dict[str, Any]:
    """The arrays of a sample, by the names under which readers give them."""
    return {
        "joints": sample.joints_MTJ3,
        "pts": sample.pts_T,
        "video": sample.video_D,
        "text": sample.text_CD,
    }
