"""A small DatasetInfo for tests of report, card and Croissant: the dataset of :mod:`built` with outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posecap.outcomes import ClipOutcome, RowOutcome, StageOrder, StageStats
from posecap.release.dataset_info import DatasetInfo, listed_files, read_index_columns
from posecap.types import PartName, Sample
from tests import built

ORDER = StageOrder(("download", "decode"), ("decode", "filter_people", "pack"))


def outcomes(kept: int) -> list[RowOutcome]:
    """``kept`` rows with a clip each, one of them with a second clip rejected; two more rows that gave none."""
    rows = [
        RowOutcome(row_id=f"row-{i}", uri="u", status="kept", clips=(ClipOutcome(status="kept"),)) for i in range(kept)
    ]
    rejected = ClipOutcome(status="rejected", stage="filter_people", reason="no_motion")
    rows[0] = RowOutcome(row_id="row-0", uri="u", status="kept", clips=(*rows[0].clips, rejected))
    missing = RowOutcome(row_id="gone", uri="u", status="rejected", stage="download", reason="not_found")
    late = RowOutcome(row_id="late", uri="u", status="failed", stage="download", reason="timeout", retryable=True)
    return [*rows, missing, late]


def info(root: Path, made: dict[PartName, list[Sample]] | None = None, **changes: Any) -> DatasetInfo:
    """The info of a dataset that is written to ``root`` first; ``changes`` replace fields of the info."""
    written = built.build(root, made)
    known = {
        "name": "walkers",
        "version": "1.2.0",
        "license": "CC-BY-4.0",
        "contact": "me@example.org",
        "description": "People who walk.",
        "store_video": "none",
        "fingerprint": "f" * 64,
        "lineage": {"packages": {"numpy": "2.0"}, "weights": {"made-up": "ab" * 32}},
        "stage_stats": StageStats.of(ORDER, outcomes(sum(map(len, written.values())))),
        "index": read_index_columns(root),
        "files": tuple(listed_files(root)),
    }
    return DatasetInfo(**{**known, **changes})
