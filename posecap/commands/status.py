"""``posecap status`` prints how far a build is; ``posecap verify`` checks a dataset."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from posecap.commands import COMPLETE, ERROR, PARTIAL, Commands, add_dataset, command, only_dataset

if TYPE_CHECKING:
    from posecap.status.outcome import RowOutcome

_NOT_STARTED = "no plan here: nothing was built yet"


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    about = "how far a build is, and which rows were rejected or failed"
    more = "exit codes: 0 complete, 3 unfinished or some rows failed, 1 error"
    parser = command(commands, "status", run, about=about, more=more)
    add_dataset(parser)
    parser.add_argument("--failed", action="store_true", help="list every failed or quarantined row, and why")
    parser.add_argument("--rejected", action="store_true", help="list every rejected row, and why")
    parser.add_argument("--refused", action="store_true", dest="rejected", help=argparse.SUPPRESS)  # until 0.1.0
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def run(options: argparse.Namespace) -> int:
    from posecap.planning.plan_file import PLAN_FILE, open_plan
    from posecap.shards import ShardError, committed, read_sidecar
    from posecap.status.outcome import RowOutcome, Tally

    root = only_dataset(options)
    if not (root / PLAN_FILE).is_file():
        print(f"posecap: {root}: {_NOT_STARTED}")
        return ERROR
    plan = open_plan(root / PLAN_FILE, media_root="")
    planned = sum(part.rows for part in plan.parts())
    built, damaged, tally = 0, [], Tally()
    listed: list[RowOutcome] = []
    wanted = {*(("failed", "quarantined") if options.failed else ()), *(("rejected",) if options.rejected else ())}
    for part in committed(root):
        try:
            rows = read_sidecar(root, part)["rows"]
        except ShardError as error:
            damaged.append(str(error))
            continue
        built += 1
        for written in rows:
            outcome = RowOutcome.from_json(written)
            tally.add(outcome)
            if outcome.status in wanted:
                listed.append(outcome)
    counts = {"parts": {"planned": len(plan.parts()), "built": built}, "rows_planned": planned, **tally.as_json()}
    print(json.dumps(counts, indent=1) if options.json else "\n".join(_lines(root, counts, planned)))
    for line in (*damaged, *map(_line, listed)):
        print(line)
    finished = built == len(plan.parts()) and not damaged
    return COMPLETE if finished and not tally.rows["failed"] and not tally.rows["quarantined"] else PARTIAL


def _lines(root: Path, counts: dict[str, dict[str, int]], planned: int) -> Iterator[str]:
    parts, rows, clips = counts["parts"], counts["rows"], counts["clips"]
    built = f"{parts['built']:,} of {parts['planned']:,} parts built"
    yield f"{root}: {built}, {rows['planned']:,} of {planned:,} rows done"
    yield "rows   " + ", ".join(f"{rows[s]:,} {s}" for s in ("kept", "rejected", "failed", "quarantined"))
    yield "clips  " + ", ".join(f"{clips[s]:,} {s}" for s in ("kept", "rejected", "failed"))
    for reason, count in sorted(counts["reasons"].items(), key=lambda item: (-item[1], item[0])):
        yield f"  {count:>8,}  {reason}"


def _line(outcome: RowOutcome) -> str:
    retry = ", may pass when tried again" if outcome.retryable else ""
    why = f"{outcome.stage}: {outcome.reason} ({outcome.detail}{retry})"
    return f"{outcome.status}  {outcome.row_id}  {outcome.uri}  {why}"


def add_verify(commands: Commands[argparse.ArgumentParser]) -> None:
    about = "check every file, sample and count of a dataset, down to a flipped bit"
    add_dataset(command(commands, "verify", run_verify, about=about))


def run_verify(options: argparse.Namespace) -> int:
    from posecap.checks.verify import verify

    found = verify(only_dataset(options))
    for problem in found.problems:
        print(problem)
    size = f"{found.parts:,} parts, {found.samples:,} samples, {found.size_bytes / 1e6:,.1f} MB"
    if found.problems:
        print(f"{len(found.problems):,} problems in {size}")
        return ERROR
    print(f"sound: {size}")
    return COMPLETE
