"""Writes what describes a whole dataset once its parts are committed: part list, ledger, card, contact sheet, report.

``report.json`` is written last and deleted first, so a dataset that has one is finished.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, get_args

from posecap import legacy
from posecap.files import scratch_folder, unused_path
from posecap.leakage import audit_recorded
from posecap.ledger import Ledger
from posecap.manifest.manifest_file import Manifest, read_manifest
from posecap.outcomes import LabelStats, StageOrder, StageStats
from posecap.pipeline import Pipeline
from posecap.plan import PLAN_FILE, Plan
from posecap.plan_store import stored_plan, work_folder
from posecap.release.card import CARD_FILE, make_card
from posecap.release.croissant import CROISSANT_FILE, make_croissant
from posecap.release.dataset_info import DatasetInfo, listed_files, read_index_columns, write_summary
from posecap.release.report import REPORT_FILE, Run, make_report
from posecap.shards import write_dataset_list
from posecap.shards.extra import read_extra_list
from posecap.shards.paths import DATASET_LIST, MAX_DOCUMENT_BYTES
from posecap.shards.sidecar import is_listed
from posecap.storage import Location, open_storage
from posecap.types import KeepIntermediates
from posecap.visualization.contact_sheet import CONTACT_SHEET, Choice, view_sheet

LEDGER_EXPORT = "ledger.parquet"
DESCRIPTIVE_FILES = (DATASET_LIST, LEDGER_EXPORT, CARD_FILE, CROISSANT_FILE, REPORT_FILE)
"""Files that every finished dataset has beside its parts."""
_MANIFEST_PATH_FILE = ".origin.json"
"""See :func:`write_manifest_path`."""
_CLIPS_ON_SHEET = 24
"""Our choice: four rows of six fill a screen."""


def finalize(location: Location, *, manifest: Manifest, pipeline: Pipeline, ledger: Ledger, run: Run) -> dict[str, Any]:
    """Write everything that describes the dataset as a whole, and return the report.

    Args:
        ledger: agrees with the sidecars: the counts come from it.
        run: until here; what this takes is added to its seconds.

    Raises:
        ShardError, PlanError: a sidecar, an index or the plan is damaged.
        PillowMissingError, FontError, ViewError: the contact sheet cannot be drawn.
        OSError: the disk or store is full or fails. The next build begins here again.
    """
    since = monotonic()
    storage = open_storage(location)
    write_dataset_list(storage)
    with storage.writer(LEDGER_EXPORT) as file:
        ledger.export(file)
        file.finish()
        file.publish()
    plan = stored_plan(storage)
    stage_stats, label_stats = _counted(pipeline, ledger, plan)
    index = read_index_columns(storage)
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
        index=index,
        files=tuple(listed_files(storage)),
        audit=audit_recorded(storage, index=index),
        extra={str(name): listed for name, listed in read_extra_list(storage).items()},
    )
    write_summary(storage, CARD_FILE, make_card(info))
    write_summary(storage, CROISSANT_FILE, make_croissant(info, published=run.ended.date()))
    if info.clips:
        drawn = unused_path(scratch_folder(), CONTACT_SHEET)
        view_sheet(storage, out=drawn, choice=Choice(count=_CLIPS_ON_SHEET))
        storage.write(CONTACT_SHEET, drawn.read_bytes())
        drawn.unlink()
    took = monotonic() - since
    run = replace(run, ended=datetime.now(UTC), seconds=run.seconds + took, end_seconds=took)
    report = make_report(info, run, expected_rejections=pipeline.expected_rejections, label_stats=label_stats)
    write_summary(storage, REPORT_FILE, report)
    return report


def _counted(pipeline: Pipeline, ledger: Ledger, plan: Plan | None) -> tuple[StageStats, LabelStats]:
    """Counts by stage and by label, from one pass over the outcomes; labels of one part are in memory at a time."""
    stage_stats, label_stats = StageStats(StageOrder.of(pipeline.stages)), LabelStats()
    planned = {str(part.name): part for part in plan.parts()} if plan else {}
    for name in sorted(ledger.parts()):
        labels = plan.labels(planned[name]) if plan and name in planned else {}
        for outcome in ledger.outcomes(name):
            stage_stats.add(outcome)
            label_stats.add(labels.get(outcome.row_id), outcome)
    return stage_stats, label_stats


def read_final_report(location: Location) -> dict[str, Any] | None:
    """The report of a finished dataset; None if it is unfinished or ``dataset.json`` lists other parts than it has.

    A damaged report counts as none, since the next build then writes it anew.
    """
    try:
        content = open_storage(location).read(REPORT_FILE, limit=MAX_DOCUMENT_BYTES)
        report = legacy.upgraded_record(json.loads(content))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    sound = isinstance(report, dict) and {"counts", "alarms"} <= report.keys()
    return report if sound and is_listed(location) else None


def is_finished(location: Location) -> bool:
    """Whether nothing is left to build: there is a report, or, of a dataset that no build has left, a list of parts."""
    storage = open_storage(location)
    return read_final_report(storage) is not None or (storage.size(PLAN_FILE) is None and is_listed(storage))


def missing_descriptions(location: Location) -> list[str]:
    """Descriptive files of a dataset that are not there: the next build makes them again."""
    storage = open_storage(location)
    return [name for name in DESCRIPTIVE_FILES if storage.size(name) is None]


def mark_unfinished(location: Location) -> None:
    """Delete the report, if there is one, so that the next build finalizes the dataset again."""
    open_storage(location).remove(REPORT_FILE)


def write_manifest_path(location: Location, manifest: Manifest, *, keep: KeepIntermediates | None = None) -> None:
    """Record the manifest's path, by which ``posecap view`` finds the videos. The file is not part of a release: of a
    remote dataset it lies on this machine.

    Args:
        keep: what the build stores in place of what the manifest says; None where it does as that says.
    """
    path = work_folder(location) / _MANIFEST_PATH_FILE
    record = {"manifest": str(manifest.path.absolute())}
    path.write_text(json.dumps(record if keep is None else {**record, "keep_intermediates": keep}))


def read_keep_intermediates(location: Location) -> KeepIntermediates | None:
    """What of its rows is stored beside a dataset: what its last build was asked to store, else what its manifest says;
    None where that cannot be read, as while it is edited.
    """
    try:
        record = json.loads((work_folder(location) / _MANIFEST_PATH_FILE).read_text())
        asked = record.get("keep_intermediates")
        return (
            asked
            if asked in get_args(KeepIntermediates)
            else read_manifest(Path(record["manifest"])).keep_intermediates
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_manifest_path(location: Location) -> Path | None:
    """The manifest a dataset was built from; None if it is not recorded, as in a dataset from elsewhere, or no longer
    there.
    """
    try:
        manifest = Path(json.loads((work_folder(location) / _MANIFEST_PATH_FILE).read_text())["manifest"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return manifest if manifest.is_file() else None
