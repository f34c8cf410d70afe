"""``report.json``: what a build did, its yield and its times; also printed as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from posecap import __version__
from posecap.outcomes import LOST, LabelStats, alarms
from posecap.release.dataset_info import DatasetInfo
from posecap.terminal import count_text

REPORT_FILE = "report.json"
_EXAMPLES = 3
"""Content duplicates that the printed table names."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The last run of a build; earlier runs may have built other parts of the dataset.

    Args:
        started, ended: aware of their time zone.
        seconds: wall time of the run, from after planning to before the report is written.
        start_seconds: of those, the time until the workers were ready; 0 for threads, which load their engines while
            others work already.
        end_seconds: of ``seconds``, those that the end took: the list of parts, card, contact sheet and counts.
        runner: ``ray`` or ``local``.
        workers: as asked for (:class:`posecap.build.Options`); None for as many as there were cores or GPUs.
        parts, clips, frames: numbers of what this run built, kept and decoded; without what was carried over from
            earlier runs into a part that was built again.
        stage_seconds: worker seconds by stage over every run whose times are known.
        nodes: how rows ended on each node (:meth:`posecap.run.pool.NodeRecord.as_json`).
    """

    started: datetime
    ended: datetime
    seconds: float
    start_seconds: float
    end_seconds: float = 0.0
    runner: str
    workers: int | None
    parts: int
    clips: int
    frames: int
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    nodes: Sequence[Mapping[str, Any]] = ()


def make_report(
    info: DatasetInfo,
    run: Run,
    *,
    expected_rejections: Mapping[str, float] | None = None,
    label_stats: LabelStats | None = None,
) -> dict[str, Any]:
    """The report as JSON-able data.

    Args:
        expected_rejections: see :func:`posecap.outcomes.alarms`.
        label_stats: of all rows that have a label; None for no alarms on labels.
    """
    lines = info.stage_stats.lines()
    raised = alarms(lines, expected_rejections=expected_rejections)
    raised += label_stats.alarms(expected_rejections=expected_rejections) if label_stats else []
    return {
        "dataset": {field: getattr(info, field) for field in ("name", "version", "license", "store_video")},
        "posecap": __version__,
        "run": {
            "started": _utc(run.started),
            "ended": _utc(run.ended),
            **{field: getattr(run, field) for field in ("runner", "workers", "parts", "clips", "frames")},
        },
        "rates": _rates(run),
        "nodes": [dict(node) for node in run.nodes],
        "counts": info.stage_stats.tally.as_json(),
        "yield": _yield(info, run),
        "alarms": [alarm.as_json() for alarm in raised],
        "splits": info.by_split(),
        "content_duplicates": info.content_duplicates(),
        "quality": info.quality(),
        "pipeline": {"fingerprint": info.fingerprint, "lineage": info.lineage},
    }


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the table of the yield by stage, the times of the run, nodes that were sick, and alarms."""
    dataset, rows, clips = report["dataset"], report["counts"]["rows"], report["counts"]["clips"]
    table = Table(title=f"{dataset['name']} {dataset['version']}: yield by stage", title_justify="left")
    table.add_column("stage", no_wrap=True)
    for column in ("in", "out", "rejected", "failed", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    unit = ""
    for line in report["yield"]:
        if unit and line["unit"] != unit:
            table.add_section()
        unit = line["unit"]
        rejected, failed, quarantined = (sum(line[outcome].values()) for outcome in LOST)
        table.add_row(
            f"{escape(line['stage'])} [dim]{unit}[/dim]",
            *(f"{n:,}" if n else "·" for n in (line["in"], line["out"], rejected, failed + quarantined)),
            "" if line["seconds"] is None else f"{line['seconds']:,.1f}",
            escape(_reasons(line)),
        )
    console.print(table)
    console.print(
        f"rows: {rows['planned']:,} planned = {rows['kept']:,} kept + {rows['rejected']:,} rejected + "
        f"{rows['failed']:,} failed + {rows['quarantined']:,} quarantined; clips: {clips['kept']:,} kept",
        highlight=False,
    )
    console.print(_took(report), highlight=False)
    for node in report.get("nodes", ()):
        if node["state"] in ("drained", "left_out"):
            state = node["state"].replace("_", " ")
            console.print(f"node {escape(node['node'])} was {state}: {escape(node['why'])}", highlight=False)
    if repeated := _repeated(report):
        console.print(repeated, highlight=False)
    for alarm in report["alarms"]:
        console.print(f"[bold yellow]alarm:[/] {escape(alarm['sentence'])}", highlight=False)


def _repeated(report: Mapping[str, Any]) -> str:
    """The clips that share their footage with another one, if there are any."""
    found = report.get("content_duplicates") or {"spans": 0}
    if not found["spans"]:
        return ""
    such_as = ", ".join(f"{one['first_key']} and {one['clips'] - 1} more" for one in found["examples"][:_EXAMPLES])
    return (
        f"content duplicates: {found['clips']:,} clips are of {count_text(found['spans'], 'span')} of the same bytes, "
        f"under several rows, such as {such_as}; source_id in the index tells which"
    )


def _took(report: Mapping[str, Any]) -> str:
    """A line about the last run: what it kept, in which time."""
    run, rates = report["run"], report["rates"]
    if not run["parts"]:
        return "every part was built already"
    workers = f"{run['workers']} workers" if run["workers"] else "all workers"
    return (
        f"this run: {run['clips']:,} clips kept, {run['frames']:,} frames decoded in {rates['wall_seconds']:,.1f} s "
        f"({rates['start_seconds']:.1f} s of it start-up) on {run['runner']}, {workers}: "
        f"{rates['clips_per_second']:.2f} clips/s, {rates['frames_per_second']:.1f} frames/s"
    )


def _reasons(line: Mapping[str, Any]) -> str:
    """Why items ended in a stage, the commonest reason first."""
    lost = sum((Counter(line[outcome]) for outcome in LOST), Counter[str]())
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(lost.items(), key=lambda r: (-r[1], r[0])))


def _yield(info: DatasetInfo, run: Run) -> list[dict[str, Any]]:
    """Lines with their seconds; a stage with two lines has them on its last, where its work is finished."""
    lines = [line.as_json() for line in info.stage_stats.lines()]
    last = {line["stage"]: number for number, line in enumerate(lines)}
    for number, line in enumerate(lines):
        spent = run.stage_seconds.get(line["stage"])
        line["seconds"] = round(spent, 3) if spent is not None and last[line["stage"]] == number else None
    return lines


def _rates(run: Run) -> dict[str, float]:
    """Rates without start-up, which does not depend on the amount of work."""
    working = max(run.seconds - run.start_seconds, 1e-9)  # never 0, by which it divides
    return {
        "wall_seconds": round(run.seconds, 3),
        "start_seconds": round(run.start_seconds, 3),
        "end_seconds": round(run.end_seconds, 3),
        "clips_per_second": round(run.clips / working, 3),
        "frames_per_second": round(run.frames / working, 3),
    }


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
