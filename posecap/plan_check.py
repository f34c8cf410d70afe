"""What is known of a plan before it is built, for ``posecap plan``: counts over its rows and the size of its dataset
(:func:`summarise`), and what a build would meet (:func:`forecast`): rows that it will reject, footage, time, output.

Nothing is downloaded or decoded. Local files are opened and checked as the pipeline's own download stage does it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from os import PathLike
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from posecap.build import Change, compare, part_fingerprints, rejected_by_plan
from posecap.download.file_type import check_video
from posecap.duplicates import read_groups
from posecap.engines.local_file import LocalFile
from posecap.enrichment import EnrichmentError, Member
from posecap.ledger import LEDGER_FILE, reading
from posecap.manifest.importers import SPLIT_FOLDERS, unfilled
from posecap.manifest.manifest_file import Manifest, StoreVideo, is_url
from posecap.manifest.tables import unread_columns
from posecap.outcomes import StageOrder, StageStats, largest_first
from posecap.pipeline import Perception, Pipeline, PipelineError
from posecap.plan import ASSUMED_FPS, ASSUMED_SECONDS, Plan, PlannedRow, estimate
from posecap.plan_store import output_storage, stored_plan, work_folder
from posecap.run.local import cores
from posecap.selection import share_to_describe
from posecap.shards import Dataset, ShardError, committed, read_sidecar
from posecap.shards.extra import Kind, MemberName, read_extra_part, stored_members
from posecap.shards.results import ResultsList, read_results_list
from posecap.shards.sidecar import outcomes_of
from posecap.stage import Reject, check_installed
from posecap.stages.caption import WriteCaptions
from posecap.stages.decode import Decode, Split
from posecap.stages.download import Download
from posecap.stages.pack import Embed, Pack
from posecap.storage import Storage
from posecap.terminal import count_text, duration_text
from posecap.types import PartName, Row
from posecap.uris import SCHEME, hide_secrets

NOT_STATED, OTHERS, LOCAL = "not stated", "(others)", "local path"
"""Among counts by license or scheme: of rows that state none, of those beyond ``MOST_KINDS``, and of paths."""
MOST_KINDS = 1000
"""Most different licenses or schemes that are counted by name; further ones are counted together as ``OTHERS``, since a
column that holds something else may have another word in every row."""
_SHOWN_KINDS = 20
"""Of them, the most frequent, which are printed; the rest is one line."""
_BATCH_ROWS = 1 << 16
"""Of the plan in memory at a time."""
MOST_ROWS = 200_000
"""Most rows that are looked at one by one, from the beginning; a file for each is opened. This and the next are our
choices: some seconds of looking."""
MOST_PROBED = 500
"""Most files whose duration is read, evenly over the rows that name no end; the others count as their mean. As many are
read again, evenly over the rows that name an end, since that may lie beyond the video's."""
MOST_DESCRIBED = 2_000
"""Rows, about, whose stored results are read to tell about which clips captioners would be asked, evenly over all. Our
choice: some seconds."""
SECONDS_PER_FRAME = 0.03
"""Of one core, assumed for pipelines without a GPU. The default takes half of it for one person who fills the picture,
and three times as much for five small people (docs/results/people.md)."""
_MADE_OF: Mapping[Kind, str] = {
    "video": "for which clips are decoded once more, behind the build",
    "text": "from captions alone",
    "captions": "from stored results, and frames where the captioner looks at them",
}
"""What it takes to make an extra member."""
_SHOWN_REASONS = 2
"""Why parts no longer fit, in one line."""
_ROUNDING_SECONDS = 1e-3
"""By so much may what a container states be longer than its frames: the unit in which Matroska rounds times."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts over a plan; counts by license and by scheme are largest first. All but ``estimated_bytes`` count
    duplicates too.

    Args:
        shards: tars, of skeletons and, where it is stored, of video: at most, for parts may end without samples.
        duplicates: rows that repeat an earlier one.
        rows_by_scheme: by the beginning of the video's URI, such as ``https``; ``LOCAL`` where it has none.
        rows_without_text: with neither a label nor captions.
        rows_without_span: with neither a start nor an end.
        span_seconds: sum of the spans that have both ends.
        estimated_bytes: see :func:`posecap.plan.estimate`.
    """

    rows: int
    parts: int
    shards: int
    duplicates: int
    rows_by_split: Mapping[str, int]
    parts_by_split: Mapping[str, int]
    rows_by_license: Mapping[str, int]
    rows_by_scheme: Mapping[str, int]
    rows_without_text: int
    rows_without_span: int
    span_seconds: float
    estimated_bytes: int


def summarise(plan: Plan, *, store_video: StoreVideo = "none", open_seconds: float = ASSUMED_SECONDS) -> Summary:
    """Count a plan's rows in bounded memory. A damaged plan raises Arrow's own errors.

    Args:
        store_video: as in the manifest, for the estimate and the number of shards.
        open_seconds: length of the clips that are assumed for each row that lacks an end of its span, or both.
    """
    rows = duplicates = without_text = without_span = 0
    span_seconds = clip_seconds = 0.0
    splits, licenses, schemes = Counter[str](), Counter[str](), Counter[str]()
    columns = ["uri", "start", "end", "label", "captions", "split", "license", "duplicate_of"]
    with pyarrow.parquet.ParquetFile(plan.path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            uri, start, end, label, captions, split, license_, duplicate_of = map(batch.column, columns)
            span, fresh = pc.subtract(end, start), pc.is_null(duplicate_of)
            textless = pc.equal(pc.fill_null(pc.list_value_length(captions), 0), 0)
            rows += batch.num_rows
            duplicates += batch.num_rows - fresh.true_count
            without_text += pc.and_(textless, pc.is_null(label)).true_count
            without_span += pc.and_(pc.is_null(start), pc.is_null(end)).true_count
            span_seconds += pc.sum(span).as_py() or 0.0
            clip_seconds += pc.sum(pc.fill_null(span, open_seconds).filter(fresh)).as_py() or 0.0
            _count_words(split, splits, NOT_STATED)
            _count_words(license_, licenses, NOT_STATED)
            scheme = pc.struct_field(pc.extract_regex(uri, f"(?P<scheme>{SCHEME})"), "scheme")
            _count_words(pc.utf8_rtrim(scheme, ":"), schemes, LOCAL)
    parts = Counter(part.name.split for part in plan.parts())
    return Summary(
        rows=rows,
        parts=parts.total(),
        shards=parts.total() * (2 if store_video == "clip" else 1),
        duplicates=duplicates,
        rows_by_split=dict(sorted(splits.items())),
        parts_by_split=dict(sorted(parts.items())),
        rows_by_license=largest_first(licenses),
        rows_by_scheme=largest_first(schemes),
        rows_without_text=without_text,
        rows_without_span=without_span,
        span_seconds=span_seconds,
        estimated_bytes=estimate(clips=rows - duplicates, seconds=clip_seconds, store_video=store_video),
    )


def show_summary(summary: Summary, console: Console) -> None:
    """Print a summary as small tables."""
    facts = Table("plan", "", title_justify="left")
    facts.columns[1].justify = "right"
    facts.add_row("rows", f"{summary.rows:,}")
    facts.add_row("  repeats of an earlier row, to be rejected", f"{summary.duplicates:,}")
    facts.add_row("  without a span, to be cut by shots", f"{summary.rows_without_span:,}")
    facts.add_row("  without label and captions", f"{summary.rows_without_text:,}")
    facts.add_row("seconds in the spans that have both ends", f"{summary.span_seconds:,.1f}")
    facts.add_row("parts", f"{summary.parts:,}")
    facts.add_row("shards", f"{summary.shards:,}")
    facts.add_row("size of the dataset, roughly", _size(summary.estimated_bytes))
    console.print(facts)
    splits = Table("split", "rows", "parts")
    for name, rows in summary.rows_by_split.items():
        splits.add_row(name, f"{rows:,}", f"{summary.parts_by_split[name]:,}")
    console.print(splits)
    for title, counts in (("license", summary.rows_by_license), ("video is", summary.rows_by_scheme)):
        table = Table(title, "rows")
        for name, rows in list(counts.items())[:_SHOWN_KINDS]:
            table.add_row(escape(name), f"{rows:,}")
        if len(counts) > _SHOWN_KINDS:
            more = sum(list(counts.values())[_SHOWN_KINDS:])
            table.add_row(f"… {len(counts) - _SHOWN_KINDS:,} more", f"{more:,}")
        console.print(table)


def _count_words(words: pa.Array, counter: Counter[str], missing: str) -> None:
    """Count each word, ``missing`` for null; once the counter has ``MOST_KINDS``, new ones count as ``OTHERS``."""
    for entry in pc.value_counts(pc.fill_null(words, missing)).to_pylist():
        word = entry["values"] if entry["values"] in counter or len(counter) < MOST_KINDS else OTHERS
        counter[word] += entry["counts"]


def _size(count: float) -> str:
    """Bytes in words, as ``2 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


@dataclass(kw_only=True)
class StageForecast:
    """What an update does with one stage, in the parts that it replaces.

    Args:
        reused, again: how many items' results are used again, and how many items it runs on again: rows up to the stage
            that gives clips, clips from there on.
        why: in words, empty where nothing runs again.
        seconds: worker seconds of that, at most, by those of earlier runs; None where none are known.
    """

    stage: str
    reused: int = 0
    again: int = 0
    why: str = ""
    seconds: float | None = None


@dataclass(kw_only=True)
class Forecast:
    """What a build would meet.

    Args:
        rejected: rows that will be rejected, by reason.
        examples: row and detail of the first such row, by reason.
        examined: rows looked at, the first of the plan.
        footage_seconds: of all rows that are not known to be rejected.
        mean_seconds: of a row that names no end; ``ASSUMED_SECONDS`` where no file of such a row could be read.
        probed: files whose duration was read, of rows that name no end.
        longer: those of them that have no span and are longer than ``longest_seconds``, and become several clips.
        longest_seconds: of a clip of a video without a span, as the pipeline's split stage limits it.
        assumed: rows that name no end and whose file was not read; each counts as ``mean_seconds``.
        work_seconds: estimated time on the cores of this machine for what is left to build; None where it is not known.
        measured: whether that comes from the times of an earlier run, not from an assumption.
        output: a sentence about what the output directory holds.
        stages: what an update does, stage by stage; empty where no part that is built has changed.
        extra: a sentence about each extra member that the pipeline names.
        warnings: sentences about what a person may have overlooked.
    """

    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    examined: int = 0
    footage_seconds: float = 0.0
    mean_seconds: float = ASSUMED_SECONDS
    probed: int = 0
    longer: int = 0
    longest_seconds: float = math.inf
    assumed: int = 0
    work_seconds: float | None = None
    measured: bool = False
    output: str = ""
    stages: list[StageForecast] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def reject(self, row: Row, reason: str, detail: str) -> None:
        """Count a row, and keep the first of its reason as an example."""
        self.rejected[reason] += 1
        if row.location:
            detail = hide_secrets(detail.replace(row.location, row.uri), row.location)
        self.examples.setdefault(reason, detail if detail.startswith(row.place) else f"{row.place}: {detail}")


def forecast(
    manifest: Manifest, plan: Plan, pipeline: Pipeline, *, output: str | PathLike[str] | None = None
) -> Forecast:
    """Look at a plan's rows, the local files among them, the manifest and the output directory.

    Args:
        output: None for the manifest's.

    Raises:
        ManifestError, PlanError: a table or the plan cannot be read.
        StorageError: the output is no address that can be opened, or its store fails.
        MissingWeightsError: weights that the pipeline needs are neither on this machine nor downloadable.
    """
    found = Forecast(warnings=list(_warnings(manifest, plan)))
    try:
        check_installed(pipeline.stages)
    except ModuleNotFoundError as error:
        found.warnings += str(error).splitlines()
    _look_at_rows(plan, pipeline, found)
    storage = output_storage(output, manifest)
    found.warnings += _overlooked(manifest, plan, storage, found)
    found.output, share_left, change = _output(storage, plan, pipeline)
    if change is not None and change.needs_consent:
        found.stages = stage_forecasts(storage, pipeline, change)
    _look_at_members(storage, plan, pipeline, change, found)
    seconds, found.measured = _seconds_per_frame(storage, pipeline)
    if seconds is not None:
        share = share_left
        if found.stages and change is not None:  # of parts that are there, the stages tell
            rows = {part.name: part.rows for part in plan.parts()}
            share = sum(count for name, count in rows.items() if name not in change.built) / max(1, sum(rows.values()))
        of_stages = sum(one.seconds or 0.0 for one in found.stages)
        found.work_seconds = (share * found.footage_seconds * ASSUMED_FPS * seconds + of_stages) / cores()
    return found


def _look_at_members(storage: Storage, plan: Plan, pipeline: Pipeline, change: Change | None, found: Forecast) -> None:
    """Enter what a build does for each extra member of the pipeline, at most: of a part that is built anew it stays
    where the samples, or their captions, turn out to be the same."""
    if not pipeline.extra:
        return
    planned, stays = {part.name for part in plan.parts()}, set[PartName]()
    if change is not None:
        stays = change.built.keys() - {*change.changed, *change.gone}
        planned -= stays - {part for part, _ in Dataset(storage).parts()}  # those without samples have none
    stored = stored_members(storage)
    for name in sorted(map(MemberName.of, pipeline.extra)):
        try:
            member = Member.of(name, pipeline.extra[str(name)], pipeline)
            check_installed(member.pipeline.stages)
            fingerprint, parts = member.pipeline.fingerprint(), stored.get(name, [])
            made = {part: read_extra_part(storage, name, part) for part in parts if part in planned}
        except (EnrichmentError, PipelineError, ModuleNotFoundError, ShardError) as error:
            found.warnings += str(error).splitlines()
            continue
        same = {part for part, one in made.items() if one is not None and one.fingerprint == fingerprint}
        left = len(planned) - len(same & stays)
        sentence = f"{name}, by {pipeline.extra[str(name)].name}: "
        sentence += (
            f"made for {left:,} of {len(planned):,} parts at most, {_MADE_OF[name.kind]}" if left else "is there"
        )
        if others := len(made) - len(same):
            sentence += f"; {count_text(others, 'part')} made otherwise: build with --update, which makes it anew"
        found.extra.append(sentence)


def _look_at_rows(plan: Plan, pipeline: Pipeline, found: Forecast) -> None:
    """Enter rejections and footage of the first rows; the footage is then scaled to all planned rows."""
    files, open_ended, spans = _Files(pipeline), list[tuple[Row, Path | None]](), list[tuple[Row, Path]]()
    found.longest_seconds = next((s.longest_seconds for s in pipeline.stages if isinstance(s, Split)), math.inf)
    durations = []
    for planned in _first_rows(plan):
        row = planned.row
        found.examined += 1
        result = rejected_by_plan(planned, pipeline)
        if result is not None:
            found.reject(row, result.outcome.reason, result.outcome.detail)
            continue
        try:
            path = files.checked(row)
        except Reject as reject:
            found.reject(row, reject.reason, reject.detail)
            continue
        if row.end_seconds is None:
            open_ended.append((row, path))
        else:
            found.footage_seconds += row.end_seconds - (row.start_seconds or 0.0)
            spans += [] if path is None else [(row, path)]
    _look_at_spans(_evenly(spans, MOST_PROBED), files, found)
    without_end = len(open_ended)
    for row, path in _evenly([(row, path) for row, path in open_ended if path is not None], MOST_PROBED):
        try:
            seconds = files.duration(row, path)
        except Reject as reject:
            found.reject(row, reject.reason, reject.detail)
            without_end -= 1
            continue
        if seconds is not None:
            durations.append(max(0.0, seconds - (row.start_seconds or 0.0)))
            found.longer += row.start_seconds is None and seconds > found.longest_seconds + _ROUNDING_SECONDS
    found.probed = len(durations)
    found.assumed = without_end - found.probed
    if durations:
        found.mean_seconds = sum(durations) / len(durations)
    found.footage_seconds += found.mean_seconds * without_end
    planned_rows = sum(part.rows for part in plan.parts())
    found.footage_seconds *= planned_rows / max(1, found.examined)


def _look_at_spans(rows: Sequence[tuple[Row, Path]], files: _Files, found: Forecast) -> None:
    """Take the rows, each with its end and local file, that the decode stage will reject out of the footage."""
    for row, path in rows:
        try:
            files.duration(row, path)
        except Reject as reject:
            found.reject(row, reject.reason, reject.detail)
            found.footage_seconds -= (row.end_seconds or 0.0) - (row.start_seconds or 0.0)


def _first_rows(plan: Plan) -> Iterator[PlannedRow]:
    """At most ``MOST_ROWS`` rows, from the beginning."""
    seen = 0
    for part in plan.parts():
        for planned in plan.rows(part):
            if seen == MOST_ROWS:
                return
            seen += 1
            yield planned


def _evenly(items: Sequence[tuple[Row, Path]], most: int) -> list[tuple[Row, Path]]:
    """At most so many items, evenly over all."""
    count = min(most, len(items))
    return [items[number * len(items) // count] for number in range(count)]


class _Files:
    """The local files of rows, seen with the engines of a pipeline's own stages."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._download = next((stage for stage in pipeline.stages if isinstance(stage, Download)), None)
        self._decode = next((stage for stage in pipeline.stages if isinstance(stage, Decode)), None)
        self._fetchers = self._download.fetchers if self._download else ()

    def checked(self, row: Row) -> Path | None:
        """The row's local file; None for a video that is elsewhere.

        Raises:
            Reject: the download stage will reject it.
        """
        # The first that accepts the video, as the stage takes it: LocalFile accepts youtube:ID too.
        fetcher = next((fetcher for fetcher in self._fetchers if fetcher.accepts(row.location)), None)
        if self._download is None or not isinstance(fetcher, LocalFile):
            return None
        path = fetcher.fetch(row.location, Path(), limits=self._download.limits).path
        if self._download.content == "magic":
            check_video(path, uri=row.uri)
        return path

    def duration(self, row: Row, path: Path) -> float | None:
        """Seconds that the container states; None where it states none.

        Raises:
            Reject: the decode stage will reject the row.
        """
        if self._decode is None:
            return None
        media = self._decode.prober.probe(path)
        if media.seconds is not None:
            _check_span(row, media.seconds, fps=media.fps, least_share=self._decode.least_share)
        return media.seconds


def _check_span(row: Row, seconds: float, *, fps: float, least_share: float) -> None:
    """Raise ``span_outside_video`` for a span that the decode stage will reject since the video ends after ``seconds``.

    One that is near the limit may pass here and be rejected there.
    """
    near = 1.5 / fps if fps > 0 else 0.06  # as posecap.stages.decode, which counts, reckons it: 1.5 frames, of 1/25 s
    start, end = row.start_seconds or 0.0, math.inf if row.end_seconds is None else row.end_seconds
    covered = min(end, seconds) - start
    too_few = math.isfinite(end) and covered + near < least_share * (end - start)
    if end > seconds + near and (too_few or covered < -near):
        span = f"from {start:g}" if math.isinf(end) else f"from {start:g} to {end:g}"
        where = f"{row.uri} ends at {seconds:.3f} s, and the row's span is {span} s"
        raise Reject("span_outside_video", f"{where}; correct start and end")


def stage_forecasts(storage: Storage, pipeline: Pipeline, change: Change) -> list[StageForecast]:
    """What an update does, stage by stage, with the rows that the parts to be replaced have now.

    Rows that are new are not among them, and of rows that are edited nothing is known: they count as the others.
    Parts of which nothing can be read are passed over.
    """
    perception, order = pipeline.perception(), StageOrder.of(pipeline.stages)
    names = [stage.name for stage in pipeline.stages]
    captioning = next((one.name for one in pipeline.stages if isinstance(one, WriteCaptions) and one.captioners), None)
    found = {name: StageForecast(stage=name) for name in names}
    plan = stored_plan(storage) if captioning is not None else None
    planned = {part.name: part for part in plan.parts()} if plan is not None else {}
    most_rows = max(1, MOST_DESCRIBED // max(1, len(change.changed) + len(change.gone)))
    for part in (*change.changed, *change.gone):
        try:
            stored = read_results_list(storage, part)
            outcomes = outcomes_of(part, read_sidecar(storage, part).get("rows"))
        except ShardError:
            continue
        used, frames_for, described = -1, "", 1.0
        if stored is not None and perception is not None:
            after = perception.deepest(stored.chains)
            used = _last_used(names, perception, after, stored)
            frames_for = _wants_frames(pipeline, perception, after, stored)
            if plan is not None and part in planned:
                rows = {one.row.row_id: one.row for one in plan.rows(planned[part])}
                with suppress(ShardError):
                    described = share_to_describe(storage, pipeline, stored, rows, most_rows=most_rows)
        entered = {line.stage: line.entered for line in StageStats.of(order, outcomes).lines()}
        for number, name in enumerate(names):
            one, count = found[name], entered.get(name, 0)
            decodes = perception is not None and number <= names.index(perception.stages[0])
            share, why = 0.0, ""
            if name == captioning and described < 1:
                share, why = (
                    described,
                    "captioners are asked about clips that changed for them; of the others all is stored",
                )
            elif number > used:
                share, why = 1.0, _why_again(name, number, used, names, change.reasons)
            elif decodes and frames_for:
                share, why = 1.0, f"{frames_for} looks at frames"
            elif decodes and captioning is not None and described > 0:
                share, why = described, f"{captioning} looks at frames"
            again = math.ceil(share * count)
            one.again += again
            one.reused += count - again
            one.why = one.why or why
    _add_seconds(storage, order, found)
    return list(found.values())


def _last_used(names: Sequence[str], perception: Perception, after: str | None, stored: ResultsList) -> int:
    """The position of the last stage whose results are used: of that before captions where samples are used, of which
    texts alone are made anew, else of ``after``; -1 for none."""
    if stored.samples == perception.samples != "":
        return names.index(perception.shaping[-1])
    return -1 if after is None else names.index(after)


def _wants_frames(pipeline: Pipeline, perception: Perception, after: str | None, stored: ResultsList) -> str:
    """The first stage behind ``after``, captioners aside, that looks at frames of every clip; empty where none does."""
    stages = perception.stages
    later = stages[stages.index(after) + 1 :] if after is not None else stages[1:]
    wanting = list(later)
    for stage in pipeline.stages:
        if isinstance(stage, Embed) and stored.vectors != perception.vectors:
            wanting.append(stage.name)
        if isinstance(stage, Pack) and stage.store_video == "clip" and stored.mp4 != perception.mp4:
            wanting.append(stage.name)
    return wanting[0] if wanting else ""


def _why_again(name: str, number: int, used: int, names: Sequence[str], reasons: Sequence[str]) -> str:
    """Why a stage runs again, in words.

    Args:
        number: its position among ``names``.
        used: position of the last stage whose stored results are used; -1 for none.
        reasons: how the pipeline differs, as :attr:`posecap.build.Change.reasons` has them.
    """
    own = [reason for reason in reasons if reason.startswith(f"pipeline.{name}")]
    if own:
        return own[0].removeprefix("pipeline.")
    if used < 0 and number == 0:
        return "nothing is stored of it with this pipeline"
    changed = [one for one in names[:number] if any(reason.startswith(f"pipeline.{one}") for reason in reasons)]
    return f"comes behind {changed[-1]}" if changed else "not stored: it takes next to no time, or rows changed"


def _add_seconds(storage: Storage, order: StageOrder, found: Mapping[str, StageForecast]) -> None:
    """Worker seconds by stage, as long for each item as in earlier runs."""
    path = work_folder(storage) / LEDGER_FILE
    if not path.is_file():
        return
    with reading(path) as ledger:
        seconds, _ = ledger.seconds()
        entered = {line.stage: line.entered for line in StageStats.of(order, ledger.outcomes()).lines()}
    for name, one in found.items():
        if name in seconds and entered.get(name):
            one.seconds = seconds[name] * one.again / entered[name]


def _output(storage: Storage, plan: Plan, pipeline: Pipeline) -> tuple[str, float, Change | None]:
    """A sentence about the output directory, the share of the planned rows that is left to build, and how the parts
    that are built differ; None where there are none."""
    parts = plan.parts()
    root = storage.location
    if not committed(storage):
        return f"{root}: nothing is built yet", 1.0, None
    change = compare(storage, part_fingerprints(pipeline, plan), pipeline)
    current = change.built.keys() - {*change.changed}
    left = sum(part.rows for part in parts if part.name not in current) / max(1, sum(part.rows for part in parts))
    holds = f"{root}: {len(current):,} of {len(parts):,} planned parts are built"
    if not change.needs_consent:
        return holds, left, change
    why = "; ".join(change.reasons[:_SHOWN_REASONS])
    differing = len(change.changed) + len(change.gone)
    sentence = f"{holds}, {differing:,} no longer fit ({why}): build with --update, or into another --output"
    return sentence, left, change


def _seconds_per_frame(storage: Storage, pipeline: Pipeline) -> tuple[float | None, bool]:
    """Worker seconds of a frame, or None if nothing is known, and whether they are from an earlier run."""
    path = work_folder(storage) / LEDGER_FILE
    if path.is_file():
        with reading(path) as ledger:
            stage_seconds, frames = ledger.seconds()
        if frames:
            return sum(stage_seconds.values()) / frames, True
    on_gpu = any(segment.resources.gpus for segment in pipeline.segments())
    return (None if on_gpu else SECONDS_PER_FRAME), False


def _warnings(manifest: Manifest, plan: Plan) -> Iterator[str]:
    """What a person may have overlooked: placeholders, a missing folder, unread columns, unusual splits."""
    for line in unfilled(manifest):
        yield f"'{line}' is a placeholder: write the dataset's own into {manifest.path}"
    if not is_url(manifest.media_root) and not Path(manifest.media_root).is_dir():
        yield f"there is no folder {manifest.media_root}: correct 'media_root' in {manifest.path}"
    for table, columns in unread_columns(manifest):
        names = ", ".join(map(repr, columns))
        yield f"{table}: nothing reads {names}; name the field of a row for each that matters under 'columns'"
    rows = Counter[str]()
    for part in plan.parts():
        rows[part.name.split] += part.rows
    for split in sorted(rows.keys() - {*SPLIT_FOLDERS}):
        near = get_close_matches(split, SPLIT_FOLDERS, n=1)
        meant = f"did you mean '{near[0]}'?" if near else f"usual are {', '.join(SPLIT_FOLDERS)}"
        yield f"split '{split}' has {count_text(rows[split], 'row')}: {meant}"


def _overlooked(manifest: Manifest, plan: Plan, storage: Storage, found: Forecast) -> Iterator[str]:
    """What is hardly meant of a build: to reject every row, or to move near-duplicates where none are known."""
    if plan.parts() and found.rejected.total() == sum(part.rows for part in plan.parts()):
        yield "every row will be rejected: the dataset would have no clips, and an update would remove those there are"
    if manifest.near_duplicates == "one_split" and read_groups(storage) is None:
        yield (
            f"'near_duplicates: one_split' moves no row: none are known of {storage.location}. Build it, run `posecap "
            "duplicates`, and build it again with --update"
        )


def _stage_table(stages: Sequence[StageForecast]) -> Table:
    """What an update does, a line for each stage."""
    table = Table("update: stage", "re-used", "run again", "why", "worker hours, at most", title_justify="left")
    for number in (1, 2, 4):
        table.columns[number].justify = "right"
    for one in stages:
        hours = "not known" if one.seconds is None and one.again else f"{(one.seconds or 0.0) / 3600:,.2f}"
        table.add_row(one.stage, f"{one.reused:,}", f"{one.again:,}", escape(one.why), hours)
    return table


def _show_work(found: Forecast, console: Console) -> None:
    """Print what is done stage by stage, and for extra members."""
    if found.stages:
        console.print(_stage_table(found.stages))
    for sentence in found.extra:
        console.print(escape(f"extra member {sentence}"), highlight=False, soft_wrap=True)


def show_forecast(found: Forecast, console: Console) -> None:
    """Print a forecast: the rows that will be rejected, then footage, time and output, then warnings."""
    if found.rejected:
        table = Table("will be rejected", "rows", "such as", title_justify="left")
        table.columns[1].justify = "right"
        for reason, count in largest_first(found.rejected).items():
            table.add_row(reason, f"{count:,}", escape(found.examples[reason]))
        console.print(table)
    total = f"footage: {duration_text(found.footage_seconds)}"
    if found.probed:
        more = f", and assumed for {found.assumed:,} more" if found.assumed else ""
        read = f"{found.mean_seconds:,.1f} s on average, read from {found.probed:,} files{more}"
        total += f" (rows without an end: {read})"
    elif found.assumed:
        total += f" (assumed: {found.mean_seconds:g} s for each of {found.assumed:,} rows without an end)"
    if found.work_seconds is not None:
        assumed = f"{1 / SECONDS_PER_FRAME:.0f} frames a second a core"
        basis = "as long a frame as in the earlier run" if found.measured else assumed
        where = f"this machine's {cores()} cores"
        total += f"; left to build: about {duration_text(found.work_seconds)} on {where}, {basis}"
    console.print(escape(total), highlight=False, soft_wrap=True)
    if found.longer:
        cut = f"{found.longer:,} are longer than {found.longest_seconds:g} s and become several clips"
        of = f"of the {found.probed:,} files read for rows without an end"
        console.print(f"clips: {of}, {cut} (longest_seconds of the split stage)", highlight=False, soft_wrap=True)
    console.print(escape(f"output: {found.output}"), highlight=False, soft_wrap=True)
    _show_work(found, console)
    if found.examined == MOST_ROWS:
        console.print(f"only the first {MOST_ROWS:,} rows were looked at one by one", highlight=False)
    for warning in found.warnings:
        console.print(f"[bold yellow]note:[/] {escape(warning)}", highlight=False, soft_wrap=True)
