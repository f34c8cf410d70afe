"""Writes what describes a whole dataset once its parts are committed: part list, ledger, card, contact sheet, report.

``report.json`` is written last and deleted first, so a dataset that has one is finished.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from posecap import legacy
from posecap.label_stats import LabelStats, labels_of
from posecap.ledger import Ledger
from posecap.manifest.manifest_file import Manifest
from posecap.outcomes import StageOrder, StageStats
from posecap.pipeline import Pipeline
from posecap.plan import PLAN_FILE, Plan, open_plan
from posecap.release.card import CARD_FILE, make_card
from posecap.release.croissant import CROISSANT_FILE, make_croissant
from posecap.release.dataset_info import DatasetInfo, listed_files, read_index_columns, write_summary
from posecap.release.report import REPORT_FILE, Run, make_report
from posecap.shards import write_dataset_list
from posecap.shards.sidecar import is_listed
from posecap.visualization.contact_sheet import CONTACT_SHEET, Choice, view_sheet

LEDGER_EXPORT = "ledger.parquet"
_MANIFEST_PATH_FILE = ".origin.json"
_CLIPS_ON_SHEET = 24


def finalize(root: Path, *, manifest: Manifest, pipeline: Pipeline, ledger: Ledger, run: Run) -> dict[str, Any]:
    """Write everything that describes the dataset as a whole, and return the report.

    Args:
        ledger: agrees with the sidecars: the counts come from it.
        run: until here; what this takes is added to its seconds.
    """
    since = monotonic()
    write_dataset_list(root)
    ledger.export(root / LEDGER_EXPORT)
    plan = open_plan(root / PLAN_FILE, media_root="") if (root / PLAN_FILE).is_file() else None
    stage_stats, label_stats = _counted(pipeline, ledger, plan)
    info = DatasetInfo(
        name=manifest.name,
        version=manifest.version,
        license=manifest.license,
        contact=manifest.contact,
        description=manifest.description,
        store_video=manifest.store_video,
        fingerprint=pipeline.fingerprint(),
        lineage=pipeline.lineage(),
        stage_stats=stage_stats,
        index=read_index_columns(root),
        files=tuple(listed_files(root)),
    )
    write_summary(root / CARD_FILE, make_card(info))
    write_summary(root / CROISSANT_FILE, make_croissant(info, published=run.ended.date()))
    if info.clips:
        view_sheet(root, out=root / CONTACT_SHEET, choice=Choice(count=_CLIPS_ON_SHEET))
    took = monotonic() - since
    run = replace(run, ended=datetime.now(UTC), seconds=run.seconds + took, end_seconds=took)
    report = make_report(info, run, expected_rejections=pipeline.expected_rejections, label_stats=label_stats)
    write_summary(root / REPORT_FILE, report)
    return report


def _counted(pipeline: Pipeline, ledger: Ledger, plan: Plan | None) -> tuple[StageStats, LabelStats]:
    """Counts by stage and by label, from one pass over the outcomes."""
    stage_stats, label_stats = StageStats(StageOrder.of(pipeline.stages)), LabelStats()
    labels = labels_of(plan) if plan else {}
    for outcome in ledger.outcomes():
        stage_stats.add(outcome)
        label_stats.add(labels.get(outcome.row_id), outcome)
    return stage_stats, label_stats


def read_final_report(root: Path) -> dict[str, Any] | None:
    """The report of a finished dataset; None if it is unfinished or ``dataset.json`` lists other parts than it has."""
    try:
        report: dict[str, Any] = legacy.upgraded_record(json.loads((root / REPORT_FILE).read_bytes()))
    except (FileNotFoundError, ValueError):
        return None
    return report if is_listed(root) else None


def mark_unfinished(root: Path) -> None:
    """Delete the report, so that the next build finalizes the dataset again."""
    (root / REPORT_FILE).unlink(missing_ok=True)


def write_manifest_path(root: Path, manifest: Manifest) -> None:
    """Record the manifest's path, by which ``posecap view`` finds the videos. The file is not part of a release."""
    (root / _MANIFEST_PATH_FILE).write_text(json.dumps({"manifest": str(manifest.path.absolute())}))


def read_manifest_path(root: Path) -> Path | None:
    """The manifest a dataset was built from; None if it is not recorded or no longer there."""
    try:
        manifest = Path(json.loads((root / _MANIFEST_PATH_FILE).read_text())["manifest"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return manifest if manifest.is_file() else None
