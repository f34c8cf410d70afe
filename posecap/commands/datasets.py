"""The commands of a built dataset: ``posecap status``, ``verify``, ``inspect``, ``view``, ``explore``, ``export``,
``import``, ``duplicates``, ``leakage``, ``remove`` and ``gc``.

Each command is a function of its name with an underscore before it, which takes the parsed options, prints, and returns
the exit code; errors of posecap's own that it raises are printed by :mod:`posecap.cli`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from posecap.terminal import (
    ALARM,
    COMPLETE,
    ERROR,
    PARTIAL,
    USAGE,
    Commands,
    at_least_one,
    command,
    count_text,
)

if TYPE_CHECKING:
    from posecap.outcomes import Alarm, ClipOutcome, RowOutcome
    from posecap.storage import Storage
    from posecap.verify import Problem
    from posecap.visualization.view import Footage


_MOST_PROBLEMS = 1000
"""``posecap verify`` stops after so many: our choice, more than anybody reads; the cause of the first ones is that of
most."""


_DUPLICATES_MORE = """\
Clips are compared by the signatures that pipelines with Decode(signature="perceptual") make; of others only clips of
one file that overlap in time are found. All are kept, unless --keep best removes them. To keep each group in one split,
write 'near_duplicates: one_split' or 'split: auto' in the manifest, and run `posecap build --update`.
"""
_GC_MORE = """\
Never while a build is under way: the command stops then. Samples, sidecars and indexes are never removed. Where the
manifest says 'keep_intermediates: none', stored results of earlier builds go as well. Rows of a build that was stopped
less than --older-than days ago stay, and the next build takes them.
exit codes: 0 done, also where nothing was to do, 1 error, 2 wrong usage
"""
_GROUPS_PRINTED = 20
"""Groups of near-duplicates, the first ones, a page of a terminal or two; the file has all."""


class DatasetChoiceError(ValueError):
    """No dataset was named and there is not exactly one to choose."""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the commands, in the order in which help lists them."""
    about = "how far a build is, and which rows were rejected or failed"
    more = "exit codes: 0 complete, 3 unfinished or some rows or clips failed, 1 error"
    parser = command(commands, "status", _status, about=about, more=more)
    add_dataset(parser)
    option = parser.add_argument
    option("--failed", action="store_true", help="list every failed or quarantined row and failed clip, and why")
    option("--rejected", action="store_true", help="list every rejected row, and rejected clip of other rows, and why")
    option("--refused", action="store_true", dest="rejected", help=argparse.SUPPRESS)  # until 0.1.0
    option("--nodes", action="store_true", help="list how rows ended on each node in the last run, and which are sick")
    option("--json", action="store_true", help="print the counts as JSON")

    about = "check every file, sample and count of a dataset, down to a flipped bit"
    parser = command(commands, "verify", _verify, about=about)
    add_dataset(parser)
    about = "move what is damaged aside, to be built again by `posecap build`, and write the list of parts anew"
    parser.add_argument("--repair", action="store_true", help=about)

    about = "find clips that show the same footage, and write them as groups to duplicates.parquet"
    parser = command(commands, "duplicates", _duplicates, about=about, more=_DUPLICATES_MORE)
    add_dataset(parser)
    option = parser.add_argument
    option("--output", type=Path, metavar="FILE.jpg", help="also write a contact sheet of the groups")
    option("--count", type=at_least_one, default=24, help="clips on the sheet (default: %(default)s)")
    option("--json", action="store_true", help="print the groups as JSON lines, all of them")
    about = "best removes all clips of a group but the best for good, as `posecap remove` does (default: %(default)s)"
    option("--keep", choices=("all", "best"), default="all", help=about)

    about = "find footage that stands in several splits"
    parser = command(commands, "leakage", _leakage, about=about, more="exit codes: 0 none found, 4 leaks, 1 error")
    add_dataset(parser)
    option = parser.add_argument
    column = "also look for values of this column of the manifest's tables in several splits, such as person"
    option("--group-by", action="append", default=[], metavar="COLUMN", help=column)
    option("--manifest", type=Path, metavar="FILE", help="with these columns (default: the one the dataset is from)")
    add_where(parser, "only among")
    option("--json", action="store_true", help="print what was checked and the leaks as JSON")

    about = "remove what stopped builds, replaced results and repairs have left, and nothing refers to"
    parser = command(commands, "gc", _gc, about=about, more=_GC_MORE)
    add_dataset(parser)
    option = parser.add_argument
    option("--dry-run", action="store_true", help="list every file that would go, and remove none")
    about = "age from which on rows of a stopped build and damaged files go (default: %(default)g)"
    option("--older-than", type=float, default=7.0, metavar="DAYS", help=about)

    about = "remove clips from shards, columns and index for good, as when a person in them asks"
    more = "Removed clips stay removed: later builds refuse them, and readers skip them."
    parser = command(commands, "remove", _remove, about=about, more=more)
    add_dataset(parser, words="KEY …", about="keys of clips, or their beginnings")
    several: dict[str, Any] = {"action": "append", "default": []}
    option = parser.add_argument
    option("--source", metavar="SHA256", help="every clip of a source video (its source_id)", **several)
    option("--video", metavar="URI", help="every clip of a video, by its URI in the index", **several)
    about = "instead of clips an extra member, as text.minilm, which `posecap add` has added"
    option("--member", metavar="MEMBER", help=about)
    option("--reason", default="on request", help="what the tombstone says (default: %(default)s)")


def _status(options: argparse.Namespace) -> int:
    from posecap.finalize import read_final_report
    from posecap.plan_store import stored_plan
    from posecap.shards import committed

    dataset = only_dataset(options)
    plan = stored_plan(dataset)
    if plan is None:
        return _status_without_plan(dataset, options)
    planned = sum(part.rows for part in plan.parts())
    report = read_final_report(dataset)
    if report and not options.failed and not options.rejected:
        found = _Found(len(committed(dataset)), report["counts"])
    else:
        found = _read_outcomes(dataset, plan.labels(), failed=options.failed, rejected=options.rejected)
    # A finished build's report knows what its pipeline expects; of an unfinished one, what labels tell.
    raised = report["alarms"] if report else [alarm.as_json() for alarm in found.alarms]
    under_way = None if report else _open_rows(dataset)
    counts = {"parts": {"planned": len(plan.parts()), "built": found.built}, "rows_planned": planned, **found.counts}
    nodes = _nodes(dataset) if options.nodes else []
    if options.json:
        more = {"nodes": nodes} if options.nodes else {}
        print(json.dumps({**counts, "open": under_way, "alarms": raised, **more}, indent=1))
    else:
        alarms = (f"alarm: {alarm['sentence']}" for alarm in raised)
        print("\n".join([*_lines(dataset, counts, planned), *_open_lines(under_way), *alarms]))
        print("".join(f"{line}\n" for node in nodes for line in _node_lines(node)), end="")
    for line in (*found.damaged, *found.listed):
        print(line)
    finished = found.built == len(plan.parts()) and not found.damaged
    rows, clips = found.counts["rows"], found.counts["clips"]
    return COMPLETE if finished and not (rows["failed"] or rows["quarantined"] or clips["failed"]) else PARTIAL


@dataclass(frozen=True)
class _Found:
    """What is built: the number of sound parts, counts as a report has them, and lines about what was asked for."""

    built: int
    counts: Mapping[str, Any]
    alarms: Sequence[Alarm] = ()
    damaged: Sequence[str] = ()
    listed: Sequence[str] = ()


def _status_without_plan(dataset: Storage, options: argparse.Namespace) -> int:
    """The status of a dataset that no build can go on from: what its parts say, all of which are there."""
    from posecap.plan import PLAN_FILE
    from posecap.shards import committed

    parts = committed(dataset)
    if not parts:
        print(f"posecap: {dataset.location} has no {PLAN_FILE}: run `posecap build`, which makes it", file=sys.stderr)
        return ERROR
    found = _read_outcomes(dataset, {}, failed=options.failed, rejected=options.rejected)
    rows, clips = found.counts["rows"], found.counts["clips"]
    if options.json:
        counts = {"parts": {"planned": None, "built": found.built}, "rows_planned": None, **found.counts}
        print(json.dumps({**counts, "open": None, "alarms": []}, indent=1))
    else:
        built = f"{count_text(found.built, 'part')}, {count_text(rows['planned'], 'row')}"
        print(
            f"{dataset.location}: {built}; without {PLAN_FILE}, as what `posecap import` makes, it cannot be built on"
        )
        print("\n".join(_count_lines(found.counts)))
    for line in (*found.damaged, *found.listed):
        print(line)
    bad = found.damaged or rows["failed"] or rows["quarantined"] or clips["failed"]
    return PARTIAL if bad else COMPLETE


def _read_outcomes(dataset: Storage, labels: Mapping[str, str], *, failed: bool, rejected: bool) -> _Found:
    """What the sidecars of all parts say; of an earlier or unfinished build, which has no report. ``labels`` are those
    of rows, by their ids. ``failed`` and ``rejected`` list rows and clips that ended so."""
    from posecap.outcomes import LabelStats, Tally
    from posecap.shards import ShardError
    from posecap.shards.sidecar import each_sidecar, odd_rows, outcomes_of

    built, tally, stats = 0, Tally(), LabelStats()
    damaged: list[str] = []
    listed: list[str] = []
    wanted = {*(("failed", "quarantined") if failed else ()), *(("rejected",) if rejected else ())}
    for part, document in each_sidecar(dataset):
        if isinstance(document, ShardError):
            damaged.append(str(document))
            continue
        kept, others = [], []
        try:
            for written in document["rows"]:
                # Most rows are kept with all their clips, and need no more than to be counted.
                if written["status"] == "kept" and not any(clip["status"] != "kept" for clip in written["clips"]):
                    kept.append((len(written["clips"]), labels.get(written["row_id"])))
                else:
                    others.append(written)
            outcomes = outcomes_of(part, others)
        except (ShardError, KeyError, TypeError):
            damaged.append(str(odd_rows(part)))
            continue
        built += 1
        for clips, label in kept:
            tally.add_kept(clips)
            stats.add_kept(label)
        for outcome in outcomes:
            tally.add(outcome)
            stats.add(labels.get(outcome.row_id), outcome)
            if outcome.status in wanted:
                listed.append(_line(outcome))
            elif wanted:
                listed += (_clip_line(outcome, clip) for clip in outcome.clips if clip.status in wanted)
    return _Found(built, tally.as_json(), stats.alarms(), damaged, listed)


def _open_rows(dataset: Storage) -> dict[str, Any] | None:
    """Counts of the rows that are done in parts under way, and when they were entered; None where none are known."""
    from posecap.ledger import LEDGER_FILE, read_open_rows
    from posecap.plan_store import work_folder

    return read_open_rows(work_folder(dataset) / LEDGER_FILE)


def _open_lines(under_way: Mapping[str, Any] | None) -> Iterator[str]:
    """A line about parts under way, if there are any with rows that are done."""
    if under_way and under_way["rows"]["planned"]:
        rows, clips = under_way["rows"], under_way["clips"]
        counted = ", ".join(f"{rows[status]:,} {status}" for status in ("kept", "rejected", "failed", "quarantined"))
        entered = datetime.fromtimestamp(under_way["entered"], UTC)
        yield (
            f"open   {count_text(rows['planned'], 'row')} done in parts under way at {entered:%Y-%m-%d %H:%M:%S} UTC: "
            f"{counted}; {count_text(clips['kept'], 'clip')} kept"
        )


def _lines(dataset: Storage, counts: dict[str, dict[str, int]], planned: int) -> Iterator[str]:
    """What `posecap status` prints of the parts that are built; ``planned`` are rows."""
    parts, rows = counts["parts"], counts["rows"]
    built = f"{parts['built']:,} of {count_text(parts['planned'], 'part')} built"
    yield f"{dataset.location}: {built}, {rows['planned']:,} of {count_text(planned, 'row')} done"
    yield from _count_lines(counts)


def _count_lines(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """How rows and clips ended, and why some were not kept."""
    from posecap.outcomes import largest_first

    rows, clips = counts["rows"], counts["clips"]
    yield "rows   " + ", ".join(f"{rows[s]:,} {s}" for s in ("kept", "rejected", "failed", "quarantined"))
    yield "clips  " + ", ".join(f"{clips[s]:,} {s}" for s in ("kept", "rejected", "failed"))
    for reason, count in largest_first(counts["reasons"]).items():
        yield f"  {count:>8,}  {reason}"


def _nodes(dataset: Storage) -> list[dict[str, Any]]:
    """Records of nodes (:meth:`posecap.ledger.Ledger.nodes`)."""
    from posecap.ledger import LEDGER_FILE, read_nodes
    from posecap.plan_store import work_folder

    return read_nodes(work_folder(dataset) / LEDGER_FILE)


def _node_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """How rows ended on a node; below, why it is no longer used and what other nodes ended otherwise."""
    ended = [(rows, outcome, why) for outcome, reasons in record["ended"].items() for why, rows in reasons.items()]
    counted = ", ".join(f"{rows:,} {outcome} {why}".rstrip() for rows, outcome, why in sorted(ended, reverse=True))
    yield f"node {record['node']}  {record['state'].replace('_', ' ')}  {counted or 'no row'}"
    if record["why"]:
        yield f"  {record['why']}"
    if record["overruled"]:
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in record["overruled"].items())
        yield f"  ended otherwise on other nodes: {reasons}"
    if record["returned"]:
        yield f"  started over on other nodes: {count_text(record['returned'], 'row')}"


def _line(outcome: RowOutcome) -> str:
    """A row that was not kept, and why."""
    retry = ", may pass when tried again" if outcome.retryable else ""
    why = f"{outcome.stage}: {outcome.reason} ({outcome.detail}{retry})"
    return f"{outcome.status}  {outcome.row_id}  {outcome.uri}  {why}"


def _clip_line(outcome: RowOutcome, clip: ClipOutcome) -> str:
    """A failed or rejected clip of a row that ended otherwise."""
    span = "" if clip.start_seconds is None else f"  {clip.start_seconds:.3f} to {clip.end_seconds:.3f} s"
    return f"{clip.status}  {outcome.row_id}  {outcome.uri}{span}  {clip.stage}: {clip.reason} ({clip.detail})"


def _verify(options: argparse.Namespace) -> int:
    from posecap.verify import verify

    dataset = only_dataset(options)
    result = verify(dataset, max_problems=_MOST_PROBLEMS)
    for problem in result.problems:
        print(problem)
    counts = f"{count_text(result.parts, 'part')}, {count_text(result.samples, 'sample')}"
    size = f"{counts}, {result.size_bytes / 1e6:,.1f} MB"
    if result.problems:
        stopped = "; stopped there: solve these and verify again" if len(result.problems) == _MOST_PROBLEMS else ""
        print(f"{count_text(len(result.problems), 'problem')} in {size}{stopped}")
        return _repair(dataset, result.problems) if options.repair else ERROR
    print(f"sound: {size}")
    _print_leaks(dataset)
    return _make_descriptions_again(dataset) if options.repair else COMPLETE


def _print_leaks(dataset: Storage) -> None:
    """What is known of footage in several splits, which is no damage, and what was looked at."""
    from posecap.leakage import audit_recorded

    found = audit_recorded(dataset)
    if len(found.splits) > 1:
        leaks = f"{count_text(len(found.leaks), 'leak')}" if found.leaks else "no leak"
        more = ", which `posecap leakage` lists" if found.leaks else ""
        print(f"splits {', '.join(found.splits)}: {leaks} between them{more}; checked: {found.checked}")


def _repair(dataset: Storage, problems: Sequence[Problem]) -> int:
    """Repair a dataset with problems, and say what was done; returns the exit code."""
    from posecap.verify import repair

    done = repair(dataset, problems)
    if done.moved:
        print(f"moved aside to {dataset.location}/{done.folder}: {count_text(len(done.moved), 'file')}")
    if done.parts:
        print(f"to be built again: {', '.join(map(str, done.parts))}")
    if any(name.startswith("extra/") for name in done.moved):
        print("extra members were among it: run `posecap add` with the same models again")
    for problem in done.left:
        print(f"left as it is: {problem}")
    print("run `posecap build` again: it makes these parts and what describes the dataset")
    return ERROR if done.left else PARTIAL


def _make_descriptions_again(dataset: Storage) -> int:
    """Have the next build make files that describe a sound dataset, where some are missing; returns the exit code."""
    from posecap.finalize import mark_unfinished, missing_descriptions

    missing = missing_descriptions(dataset)
    if not missing:
        return COMPLETE
    with dataset.lock():
        mark_unfinished(dataset)
    print(f"missing: {', '.join(missing)}; run `posecap build` again, which makes what describes the dataset")
    return PARTIAL


def local_footage_of(root: Storage) -> Footage | None:
    """The dataset's footage as far as it is on local disk or in a package: a sheet downloads no videos."""
    from posecap.engines.local_file import LocalFile
    from posecap.engines.registry_package import RegistryPackage

    footage = footage_of(root)
    if footage is None:
        return None
    return replace(footage, fetchers=tuple(f for f in footage.fetchers if isinstance(f, LocalFile | RegistryPackage)))


def footage_of(root: Storage) -> Footage | None:
    """The fetchers and decoders of the dataset's build; None if its manifest or pipeline cannot be read."""
    from posecap.finalize import read_manifest_path
    from posecap.manifest.manifest_file import ManifestError, read_manifest
    from posecap.pipeline import PipelineError, load_pipeline
    from posecap.stages.decode import Decode
    from posecap.stages.download import Download
    from posecap.visualization.view import Footage

    path = read_manifest_path(root)
    if path is None:
        return None
    try:
        manifest = read_manifest(path)
        stages = {type(stage): stage for stage in load_pipeline(manifest.pipeline).stages}
    except (ManifestError, PipelineError):
        return None
    download, decode = stages.get(Download), stages.get(Decode)
    if not isinstance(download, Download) or not isinstance(decode, Decode):
        return None
    return Footage(
        fetchers=download.fetchers,
        prober=decode.prober,
        decoders=decode.decoders,
        limits=download.limits,
        media_root=manifest.media_root,
    )


def _duplicates(options: argparse.Namespace) -> int:
    from posecap.duplicates import SignatureStore, group_clips, read_clips, write_groups
    from posecap.storage import DatasetLockedError

    root = only_dataset(options)
    with SignatureStore() as store:
        clips = read_clips(store, root)
        groups = group_clips(clips, clips.pairs())
    unrecorded: OSError | DatasetLockedError | None = None
    try:
        with root.lock():
            write_groups(root, groups)
    except (OSError, DatasetLockedError) as error:  # they are shown first: finding them may have taken hours
        unrecorded = error
    members: dict[int, list[dict[str, Any]]] = {}
    for row in groups.to_pylist():
        members.setdefault(row["group"], []).append(row)
    if options.json:
        for row in groups.to_pylist():
            print(json.dumps(row))
    else:
        _print_groups(members, clips.table.num_rows)
        _print_unsigned(len(clips.signed_S), clips.table.num_rows)
    if options.output and members:
        from posecap.visualization.contact_sheet import view_clips

        shown = [(row["key"], _heading(row)) for group in members.values() for row in group][: options.count]
        sheet = view_clips(root, shown, out=options.output, footage=local_footage_of(root))
        print(f"{sheet.path}: {count_text(sheet.clips, 'clip')}", file=sys.stderr if options.json else sys.stdout)
    if unrecorded is not None:
        raise unrecorded
    if options.keep == "best" and members:
        from posecap.removal import remove

        worse = [row["key"] for row in groups.to_pylist() if not row["best"]]
        remove(root, worse, reason="near-duplicate of a better clip")
        done = f"removed {count_text(len(worse), 'clip')}: run `posecap build` again for a report without them"
        print(done, file=sys.stderr if options.json else sys.stdout)
    return COMPLETE


def _print_groups(members: Mapping[int, list[dict[str, Any]]], clips: int) -> None:
    """Print groups of near-duplicates, by number, among so many clips."""
    from posecap.duplicates import DUPLICATES_FILE

    counts = f"{sum(map(len, members.values())):,} of {count_text(clips, 'clip')}"
    print(f"{count_text(len(members), 'group')} of near-duplicates, {counts}")
    for number, group in list(members.items())[:_GROUPS_PRINTED]:
        print(f"group {number}")
        for row in group:
            print(f"  {'best' if row['best'] else '    '}  {_group_line(row)}")
    if len(members) > _GROUPS_PRINTED:
        print(f"and {len(members) - _GROUPS_PRINTED:,} more groups, in {DUPLICATES_FILE}")


def _group_line(row: Mapping[str, Any]) -> str:
    """A clip of a group of near-duplicates, as text; ``row`` is one of :data:`posecap.duplicates.GROUPS_SCHEMA`."""
    mirrored = ", mirrored" if row["mirrored"] else ""
    when = f"{row['start_seconds']:.2f} to {row['end_seconds']:.2f} s"
    return f"{row['key']}  {row['split']}  {row['uri']}  {when}  likeness {row['picture']:.2f}{mirrored}"


def _heading(row: Mapping[str, Any]) -> str:
    """The same above its picture."""
    return f"group {row['group']}{', best' if row['best'] else ''}, {row['split']}"


def _print_unsigned(signed: int, clips: int) -> None:
    """Say how many clips have no signature, if any."""
    if signed < clips:
        print(
            f"{clips - signed:,} of {clips:,} clips have no signature, and were compared by file and time alone: build "
            'them with a pipeline that has Decode(signature="perceptual")'
        )


def _leakage(options: argparse.Namespace) -> int:
    from posecap.leakage import audit

    root = only_dataset(options)
    found = audit(root, groups=_values_by_uri(root, options.manifest, options.group_by), where=options.where)
    if options.where and not found.clips:
        print(
            f"posecap: --where {options.where}: no clip of {root.location} passes, so none is compared", file=sys.stderr
        )
        return ERROR
    if options.json:
        leaks = [{"kind": leak.kind, "what": leak.what, "clips": leak.clips, "keys": leak.keys} for leak in found.leaks]
        counts = {"clips": found.clips, "splits": found.splits, "signed": found.signed, "columns": found.columns}
        print(json.dumps({**counts, "where": options.where, "checked": found.checked, "leaks": leaks}, indent=1))
        return ALARM if found.leaks else COMPLETE
    for leak in found.leaks:
        print(leak)
    number = f"{count_text(len(found.leaks), 'leak')} between" if found.leaks else "no leak between"
    print(f"{number} splits {', '.join(found.splits)} of {count_text(found.clips, 'clip')}; checked: {found.checked}")
    _print_unsigned(found.signed, found.clips)
    return ALARM if found.leaks else COMPLETE


def _values_by_uri(root: Storage, manifest: Path | None, columns: Sequence[str]) -> dict[str, dict[str, set[str]]]:
    """By column, all values that the manifest's tables have for a video, by URI.

    Raises:
        DatasetChoiceError: columns are asked for, and there is no manifest to read them from.
        ManifestError: it cannot be read, or no table has the column.
    """
    if not columns:
        return {}
    from posecap.finalize import read_manifest_path
    from posecap.manifest.auto_split import column_values
    from posecap.manifest.manifest_file import read_manifest

    path = manifest or read_manifest_path(root)
    if path is None:
        raise DatasetChoiceError(f"it is not known which manifest {root.location} is from: name it with --manifest")
    found, values = read_manifest(path), dict[str, dict[str, set[str]]]()
    for column in columns:
        of_column = values[column] = {}
        for uri, value in column_values(found, column):
            of_column.setdefault(uri, set()).add(value)
    return values


def _remove(options: argparse.Namespace) -> int:
    from posecap.removal import remove

    root, keys = dataset_and_keys(options)
    if options.member:
        return _remove_member(root, options.member, clips=[*keys, *options.source, *options.video])
    if not keys and not options.source and not options.video:
        print("posecap: name keys of clips, a --video or a --source", file=sys.stderr)
        return USAGE
    removed = remove(root, keys, sources=options.source, videos=options.video, reason=options.reason)
    for key in (key for key, word in zip(removed.keys, keys, strict=True) if key != word):
        print(f"removed {key}")
    parts = count_text(len(removed.rewritten), "part")
    print(f"{parts} rewritten; run `posecap build` again for a report and a card without them")
    print(
        f"verified: nothing of them is left in the indexes of {count_text(removed.indexes, 'part')}, in tar, video and "
        f"columns of those rewritten, in previews and in staging files"
    )
    if removed.deleted:
        print(f"deleted {count_text(removed.deleted, 'file')} of builds that did not end or of earlier repairs")
    return COMPLETE


def _gc(options: argparse.Namespace) -> int:
    from posecap.removal import collect_garbage

    if not options.older_than >= 0:
        print("posecap: --older-than is a number of days, 0 or more", file=sys.stderr)
        return USAGE
    dataset = only_dataset(options)
    seconds = options.older_than * 86_400
    found = collect_garbage(dataset, old_seconds=seconds, mode="list" if options.dry_run else "remove")
    kinds: dict[str, list[int]] = {}
    for one in found:
        kinds.setdefault(one.kind, []).append(one.size_bytes)
        if options.dry_run:
            print(f"{one.kind}  {one.size_bytes:,}  {one.name}")
    for kind, sizes in kinds.items():
        print(f"{kind}: {count_text(len(sizes), 'file')}, {sum(sizes):,} bytes")
    total = f"{count_text(len(found), 'file')}, {sum(one.size_bytes for one in found):,} bytes"
    print(f"{dataset.location}: {'would free' if options.dry_run else 'freed'} {total}")
    return COMPLETE


def _remove_member(root: Storage, name: str, *, clips: Sequence[str]) -> int:
    """`posecap remove --member`; returns the exit code."""
    from posecap.enrichment import remove_member
    from posecap.finalize import mark_unfinished
    from posecap.shards.extra import MemberName

    if clips:
        print("posecap: --member removes no clips: give the command once for each", file=sys.stderr)
        return USAGE
    with root.lock():
        mark_unfinished(root)
        files = remove_member(root, MemberName.of(name))
    print(f"removed {name}: {count_text(files, 'file')}; run `posecap build` again for a report and a card without it")
    return COMPLETE


def add_where(parser: argparse.ArgumentParser, words: str) -> None:
    """Accept ``--where``; ``words`` begin its help."""
    about = f"{words} clips for which this holds, such as 'coverage >= 0.8 and people == 1'"
    parser.add_argument("--where", metavar="CONDITION", help=about)


def add_dataset(
    parser: argparse.ArgumentParser,
    *,
    words: Literal["", "KEY", "KEY …"] = "",
    about: str = "",
    otherwise: str = "",
) -> None:
    """Accept ``[DATASET]``, or ``[DATASET] [KEY]`` with one key or several: a word that is a directory or an address is
    the dataset, the others are keys.

    Args:
        about: what the keys are.
        otherwise: what the dataset is, before all else, where none is named.
    """
    place = "the current directory if it is a dataset, else the only one under datasets/"
    default = f"{otherwise}; without --manifest {place}" if otherwise else place
    about_dataset = f"dataset directory, or address as s3://bucket/name (default: {default})"
    parser.add_argument("dataset", nargs="?", metavar="DATASET", help=about_dataset)
    if words:
        parser.add_argument("words", nargs="*" if words == "KEY …" else "?", metavar="KEY", help=about)


def _words(options: argparse.Namespace) -> list[str]:
    """What was given for ``DATASET`` and ``KEY``, in this order; argparse takes the first word for the dataset."""
    more = getattr(options, "words", None) or []
    return [*([] if options.dataset is None else [options.dataset]), *([more] if isinstance(more, str) else more)]


def _is_location(word: str) -> bool:
    """Whether a word names a dataset: a directory, or an address."""
    return "://" in word or Path(word).is_dir()


def dataset_and_keys(options: argparse.Namespace) -> tuple[Storage, list[str]]:
    """The dataset and the keys.

    Raises:
        DatasetChoiceError: none or several could be meant, or a word is a path or an address where there is none.
        StorageError: an address cannot be opened.
    """
    from posecap.shards import is_dataset, not_a_dataset
    from posecap.storage import open_storage

    words = _words(options)
    for word in words:
        if word.startswith(("http://", "https://")):
            raise DatasetChoiceError(
                f"{word} is an address of a web server, which does not list its files: copy the dataset to this "
                "computer and name the folder; `posecap.open` reads such addresses, too"
            )
        if os.sep in word and not _is_location(word):
            raise DatasetChoiceError(not_a_dataset(Path(word)))

    found = [word for word in words if _is_location(word)]
    others = [word for word in words if not _is_location(word)]
    if len(found) > 1:
        kind = "addresses" if all("://" in word for word in found) else "directories"
        raise DatasetChoiceError(f"{found[0]} and {found[1]} are both {kind}: name one dataset")
    if found:
        storage = open_storage(found[0])
        if not is_dataset(storage):
            raise DatasetChoiceError(not_a_dataset(storage))
        return storage, others
    try:
        return open_storage(_default_dataset()), others
    except DatasetChoiceError as error:
        if not others:
            raise
        named = f"there is no directory {others[0]}" if len(others) == 1 else f"none of {', '.join(others)} is one"
        raise DatasetChoiceError(f"{error}; {named}") from None


def only_dataset(options: argparse.Namespace) -> Storage:
    """The dataset of a command that takes no key.

    Raises:
        DatasetChoiceError, StorageError: as :func:`dataset_and_keys`; or a word is no directory and no address.
    """
    for word in _words(options):
        if not _is_location(word):
            raise DatasetChoiceError(f"{word} is not a directory: name the dataset directory, or leave it out")
    return dataset_and_keys(options)[0]


def _default_dataset() -> Path:
    """The current directory, or the only dataset under ``datasets``.

    Raises:
        DatasetChoiceError: there is none, or there are several.
    """
    from posecap.shards import is_dataset

    if is_dataset(Path()):
        return Path()
    datasets = sorted(path for path in Path("datasets").glob("*") if is_dataset(path))
    if len(datasets) == 1:
        return datasets[0]
    candidates = (
        f"there are {', '.join(map(str, datasets))}"
        if datasets
        else "neither the current directory nor one under datasets/ is a dataset"
    )
    raise DatasetChoiceError(f"name the dataset directory: {candidates}")
