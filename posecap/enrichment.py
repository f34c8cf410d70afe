"""Adds members to the samples of a built dataset: vectors of further models, captions of further captioners.

A member (:mod:`posecap.shards.extra`) is made by a pipeline of its own (:class:`Member`), part by part, by the workers
of a build: rows are staged as they end, one that was done is not done again by the next run, and a part of the member
is committed by its sidecar. The samples themselves stay as they are, down to the byte.

Vectors of captions are made from the index alone. Vectors of frames take the pipeline's own stages up to the one that
gives clips; captions those up to skeletons, which go on from stored results where there are some, so that frames are
decoded only if the captioner looks at them. A sample whose video is gone or has changed has none of the member, and the
sidecar says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from posecap import legacy
from posecap.finalize import mark_unfinished
from posecap.interfaces import Captioner, TextEmbedder, VideoEmbedder
from posecap.ledger import LEDGER_FILE, OWN_OF_ADD, Ledger, delete_ledger
from posecap.open_rows import OpenRows, files_to_keep, keep_stored_rows, staged_by, staged_names
from posecap.outcomes import ClipOutcome, RowOutcome, RowResult
from posecap.pipeline import Pipeline, Segment, Storing
from posecap.plan import Plan
from posecap.plan_store import work_folder
from posecap.progress import Progress, Shape
from posecap.run.execute import OUTPUT_NOT_WRITABLE
from posecap.run.pool import Pool
from posecap.run.schedule import PartResult, Schedule, WorkPart
from posecap.shards import Dataset, PartFiles, ShardError, read_sidecar
from posecap.shards.extra import (
    Added,
    ExtraPart,
    Kind,
    MemberName,
    extra_path,
    extra_sidecar_path,
    inputs_of,
    more_captions,
    read_extra,
    read_extra_list,
    read_extra_part,
    stored_members,
    write_extra,
    write_extra_list,
)
from posecap.shards.paths import EXTRA_FOLDER, EXTRA_LIST
from posecap.stage import Engine, Resources, Stage, TransientError
from posecap.stages.caption import Describe
from posecap.stages.pack import EmbedCaptions, EmbedFrames
from posecap.staging import OUTPUT_NOT_VISIBLE, Staging, read_additions, remove_attempts_at_end, remove_unfinished
from posecap.storage import Location, Lock, Storage, open_storage
from posecap.types import Clip, PartName, Row, SampledRow, SkeletonClip, StagedSample

_ENGINES: Mapping[Kind, type] = {"video": VideoEmbedder, "text": TextEmbedder, "captions": Captioner}
"""What makes a member of each kind."""
_COLUMNS = ["key", "row_id", "uri", "captions"]
"""Of the index, that are read of each part."""
OTHER_CLIPS = "other_clips"
"""The reason of a sample of which the video gives no such clip any more."""


class EnrichmentError(RuntimeError):
    """A member cannot be added; the message says why and what to do."""


@dataclass(frozen=True)
class Member:
    """A member and the pipeline that makes it, from rows to :class:`posecap.types.Addition`."""

    name: MemberName
    pipeline: Pipeline

    @classmethod
    def of(cls, name: MemberName, engine: Any, base: Pipeline | None) -> Member:
        """The member that an engine makes.

        Args:
            base: the dataset's pipeline, whose first stages give the clips; not used, and may be None, for ``text``.

        Raises:
            EnrichmentError: the engine is none of the kind, or the pipeline gives no such clips.
            PipelineError: they do not fit together.
        """
        port = _ENGINES[name.kind]
        if not isinstance(engine, Engine) or not isinstance(engine, port):
            raise EnrichmentError(f"{name}: {type(engine).__name__} is no {port.__name__} (posecap.interfaces)")
        if name.kind == "text":
            return cls(name, Pipeline((EmbedCaptions(engine),)))  # type: ignore[arg-type]
        if base is None:
            raise EnrichmentError(f"{name} is made of clips, for which the dataset's pipeline is needed")
        clips = [number for number, stage in enumerate(base.stages) if issubclass(stage.gives, Clip)]
        # Stages behind the first that gives skeletons change them (Smooth) or leave clips out.
        skeletons = [number for number in reversed(clips) if base.stages[number].gives is SkeletonClip]
        ends = clips if name.kind == "video" else skeletons
        if not ends:
            raise EnrichmentError(f"{name}: no stage of the pipeline gives the clips that it is made of")
        last = EmbedFrames(engine) if name.kind == "video" else Describe(captioner=engine)  # type: ignore[arg-type]
        return cls(name, replace(base, stages=(*base.stages[: ends[0] + 1], last), expected_rejections={}, extra={}))

    def shaped(self) -> list[Any]:
        """The configuration of the stages that shape clips: all but the last, and those that fetch videos, whose bytes
        have a hash."""
        stages = zip(self.pipeline.configuration(), self.pipeline.stages, strict=True)
        return [_without_signature(stage) for stage, one in [*stages][:-1] if one.takes is not Row]


def _without_signature(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's configuration without what Decode notes of frames and does not change in them."""
    return {name: value for name, value in stage.items() if name != "signature"}


@dataclass(frozen=True)
class Enriched:
    """What became of a member: parts that were made in this run, samples of the dataset, and how many have none, by
    reason."""

    member: MemberName
    parts: int
    samples: int
    missing: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ExtraJob:
    """A part of a member to write.

    Args:
        keys: of the part's samples, in order.
        additions: of some of them, in the same order.
        earlier: whether the others have what the file of the member has for them now.
    """

    member: MemberName
    part: PartName
    keys: tuple[str, ...]
    additions: tuple[StagedSample, ...]
    earlier: bool = False


@dataclass(frozen=True)
class ExtraFiles(PartFiles):
    """The file of a part of a member under its temporary name; ``dimension`` is the D of its vectors, 0 for none."""

    dimension: int = 0


@dataclass(frozen=True)
class WriteExtra(Stage):
    """Writes a part of a member from what is staged, of which one sample's is in memory at a time."""

    name: ClassVar[str] = "write"
    takes: ClassVar[type] = ExtraJob
    gives: ClassVar[type] = ExtraFiles

    staging: Staging

    def __call__(self, item: ExtraJob) -> Iterator[ExtraFiles]:
        """Write a part.

        Raises:
            TransientError: ``output_not_visible``, where this machine does not see the dataset; nothing was done.
            ShardError: what is staged cannot be read.
            OSError: the disk or store is full or fails.
        """
        storage = self.staging.storage
        if not self.staging.is_visible():
            raise TransientError(OUTPUT_NOT_VISIBLE, f"this machine does not see {storage.location}")
        name = extra_path(item.member, item.part)
        storage.remove_attempts(name)
        earlier = read_extra(storage, item.member, item.part) if item.earlier else None
        dimensions = {0}

        def rows() -> Iterator[tuple[str, Added]]:
            staged = read_additions(storage, item.additions)
            waiting = next(staged, None)
            for key in item.keys:
                found = Added() if earlier is None else earlier.added(key)
                if waiting is not None and waiting[0] == key:
                    found, waiting = waiting[1], next(staged, None)
                if found.vector is not None and found.vector.size:
                    dimensions.add(found.vector.shape[-1])
                yield key, found

        with storage.writer(name) as file:
            write_extra(file, item.member.kind, rows())
            if len(dimensions) > 2:
                raise ShardError(f"{item.member}: vectors of {sorted(dimensions - {0})} numbers in part {item.part}")
            written = file.finish()
            yield ExtraFiles({name: written}, {name: file.keep()}, len(item.keys), max(dimensions))


@dataclass(frozen=True)
class _Part:
    """A part of the dataset with what a member is made for: ``table`` has the columns ``key``, ``row_id``, ``uri`` and
    ``captions`` of its samples that are not removed, ``inputs`` is a hash of what the member is made of
    (:func:`posecap.shards.extra.inputs_of`), ``captions_more`` are the sentences of members of captions by sample."""

    name: PartName
    table: Any
    inputs: str
    captions_more: Sequence[Sequence[Sequence[str]]] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the samples, in order."""
        return tuple(self.table["key"].to_pylist())


def _parts(storage: Storage, kind: Kind, covers: Sequence[MemberName]) -> Iterator[_Part]:
    """Every part that holds samples; raises ShardError where an index, or a member of captions, is damaged."""
    for name, _, table in Dataset(storage).rows(columns=_COLUMNS):
        keys = table["key"].to_pylist()
        more = more_captions(storage, name, keys, covers)
        yield _Part(name, table, inputs_of(kind, table, more), more)


def covered(storage: Storage, kind: Kind) -> tuple[MemberName, ...]:
    """The members of captions that a member of texts covers when it is made now: those whose parts are all there."""
    if kind != "text":
        return ()
    parts = {part for part, _ in Dataset(storage).parts()}
    listed = read_extra_list(storage)
    return tuple(sorted(name for name, one in listed.items() if name.kind == "captions" and parts <= one.parts.keys()))


@dataclass
class Enrichment:
    """One run that adds a member, whose caller holds ``lock``, that of the dataset in ``storage``.

    Args:
        plan: of the manifest, for URIs to fetch; None where the kind needs no videos.
        start_pool: starts workers for segments.
        retry: whether samples that have none since they failed are tried again.
        remake: parts of the member that were made otherwise are made again; else they are an error.
        poison_after: a row on which a worker dies this many times has none; 3 as in :class:`posecap.build.Options`.
        shape: how progress is shown.
        log: prints a line for the user.
    """

    storage: Storage
    lock: Lock
    member: Member
    plan: Plan | None
    start_pool: Callable[[tuple[Segment, ...]], Pool]
    retry: bool = False
    remake: bool = False
    poison_after: int = 3
    shape: Shape = "auto"
    log: Callable[[str], None] = print
    _open: dict[PartName, _Part] = field(default_factory=dict)
    """Parts under way."""
    _earlier: dict[PartName, ExtraPart] = field(default_factory=dict)
    """Of those, the ones of which only samples that have none are tried again."""
    _made: bool = False
    """Whether this run has committed a part, or begun to."""
    _all_rows: dict[str, Row] | None = None
    """Of the whole plan, by id; None until they are needed (:meth:`_planned`)."""

    def run(self) -> Enriched:
        """Make what is not there of the member, and list it.

        Raises:
            EnrichmentError: the member is there, made otherwise; or clips are not those of the pipeline any more; or
                nothing can be written.
            ShardError: the dataset is damaged.
            StorageError: an object store fails.
        """
        name = self.member.name
        covers, fingerprint = covered(self.storage, name.kind), self.member.pipeline.fingerprint()
        todo, samples, total = list[PartName](), 0, 0
        missing: dict[PartName, Mapping[str, tuple[str, str, str]]] = {}
        for part in _parts(self.storage, name.kind, covers):
            samples += part.table.num_rows
            known = self._known(part, fingerprint, covers)
            if known is not None and not (self.retry and known.missing):
                missing[part.name] = known.missing
                continue
            todo.append(part.name)
            total += part.table.num_rows
            if known is not None:
                self._earlier[part.name] = known
        if todo:
            self._check_clips(todo)
            made = self._work(todo, covers, fingerprint, total)
            missing |= made
        else:
            self._remove_leftovers(fingerprint)
        self.storage.remove_attempts(EXTRA_LIST)
        write_extra_list(self.storage)
        counts: dict[str, int] = {}
        for of_part in missing.values():
            for _, reason, _ in of_part.values():
                counts[reason] = counts.get(reason, 0) + 1
        return Enriched(name, len(todo), samples, dict(sorted(counts.items())))

    def _remove_leftovers(self, fingerprint: str) -> None:
        """Remove what a run left that was killed behind its last part, unless rows of another member wait there."""
        folder = work_folder(self.storage)
        if not (folder / OWN_OF_ADD).is_file():
            return
        with Ledger(folder / OWN_OF_ADD) as ledger:
            if any(True for _ in ledger.rows_of_other_pipelines(fingerprint)):
                return
        remove_unfinished(self.storage, keep=staged_by(folder / LEDGER_FILE))
        delete_ledger(folder / OWN_OF_ADD)

    def _known(self, part: _Part, fingerprint: str, covers: Sequence[MemberName]) -> ExtraPart | None:
        """The part of the member as it is there, where it is what it would be made now."""
        try:
            known = read_extra_part(self.storage, self.member.name, part.name)
        except ShardError:
            return None
        if known is None:
            return None
        file = extra_path(self.member.name, part.name)
        if self.storage.size(file) != known.file["size_bytes"]:
            return None
        if known.fingerprint != fingerprint and not self.remake:
            raise EnrichmentError(self._made_otherwise(known))
        same = (known.fingerprint, known.inputs) == (fingerprint, part.inputs)
        return known if same and known.captions == tuple(one.name for one in covers) else None

    def _made_otherwise(self, known: ExtraPart) -> str:
        """What differs between the member as it is there and as it would be made."""
        now = {"pipeline": self.member.pipeline.configuration(), **self.member.pipeline.lineage()}
        before = {"pipeline": legacy.upgraded(list(known.pipeline)), **known.lineage}
        differing = [key for key in sorted({*now, *before}) if now.get(key) != before.get(key)]
        shown = "; ".join(f"{key}: {_short(before.get(key))} → {_short(now.get(key))}" for key in differing)
        return (
            f"{self.storage.location} has {self.member.name}, made otherwise ({shown}): give another name, or make it "
            "anew by `posecap add --replace` or, where the pipeline names it, `posecap build --update`"
        )

    def _check_clips(self, todo: Iterable[PartName]) -> None:
        """Raise EnrichmentError where a part was built with other stages than those that would give its clips."""
        if self.member.name.kind == "text":
            return
        wanted = self.member.shaped()
        for part in todo:
            built = read_sidecar(self.storage, part).get("pipeline") or []
            found = {stage.get("name"): _without_signature(stage) for stage in built if isinstance(stage, dict)}
            for stage in wanted if found else ():
                if found.get(stage["name"]) != stage:
                    raise EnrichmentError(
                        f"part {part} was built with another stage {stage['name']!r} than the pipeline has now: run "
                        "`posecap build --update` first, or name the manifest that it was built from with --manifest"
                    )

    def _work(
        self, todo: Sequence[PartName], covers: Sequence[MemberName], fingerprint: str, total: int
    ) -> dict[PartName, Mapping[str, tuple[str, str, str]]]:
        """Make parts of the member; returns which of their samples have none, and why: stage, reason and detail."""
        made: dict[PartName, Mapping[str, tuple[str, str, str]]] = {}
        lineage, configuration = self.member.pipeline.lineage(), self.member.pipeline.configuration()
        folder = work_folder(self.storage)
        with Ledger(folder / OWN_OF_ADD) as ledger:
            perception = self.member.pipeline.perception()
            if perception is not None:
                keep_stored_rows(ledger, self.storage, perception, built=())
            keep = files_to_keep(ledger, fingerprint=fingerprint)
            of_build = staged_by(folder / LEDGER_FILE)
            staging = Staging.start(self.storage, fingerprint=fingerprint, keep=keep | of_build)
            open_rows = OpenRows(ledger, staging, perception=perception)
            progress = Progress(rows=total, stages=self.member.pipeline.stages, shape=self.shape)

            def on_row(row: RowResult) -> None:
                """Enter a row that is done; EnrichmentError where the output cannot be written."""
                ended: list[RowOutcome | ClipOutcome] = [row.outcome, *row.outcome.clips]
                for one in ended:
                    if one.reason == OUTPUT_NOT_WRITABLE:
                        raise EnrichmentError(f"{one.detail}; make room or correct the output, and start again")
                open_rows.done(row)
                progress.row(row)

            try:
                with closing(self.start_pool(self._segments(staging, ledger))) as pool, progress:
                    schedule = Schedule(
                        pool,
                        poison_after=self.poison_after,
                        attempts=ledger.losses(),
                        on_row=on_row,
                        on_lost=ledger.record_loss,
                        on_node=lambda changed: self.log(changed.sentence()),
                        write_job=lambda done, renewed: None if renewed else self._job(done),
                    )
                    for done in schedule.run(self._work_parts(todo, covers, open_rows)):
                        part = self._committed(done, covers, fingerprint, configuration, lineage)
                        made[done.name] = part.missing
                        staging.remove(name for row in done.rows for name in staged_names(row))
                        open_rows.committed([row.outcome for row in done.rows])
                        progress.part(done.name)
            finally:
                open_rows.end()
            staging.end(kept=keep)
            remove_attempts_at_end(self.storage, self.lock)
        delete_ledger(folder / OWN_OF_ADD)
        if open_rows.taken:
            self.log(f"note: {open_rows.taken:,} rows are as earlier runs left them, and were not executed again")
        return made

    def _segments(self, staging: Staging, ledger: Ledger) -> tuple[Segment, ...]:
        """Those of the member's pipeline, the last of which stages its samples, and one that writes parts."""
        *before, last = self.member.pipeline.segments()
        perception, storing = self.member.pipeline.perception(), None
        if perception is not None:
            earlier = tuple(stage for segment in before for stage in segment.stages)
            storing = Storing(perception, earlier, keep="none")
        load = "on_use" if ledger.stored_files() else "first"
        last = replace(last, staging=staging, storing=storing, load=load)  # type: ignore[arg-type]
        return (*before, last, Segment((WriteExtra(staging),), Resources(cpus=0)))

    def _work_parts(
        self, todo: Sequence[PartName], covers: Sequence[MemberName], open_rows: OpenRows
    ) -> Iterator[WorkPart]:
        """Parts to make, each once it can be worked on; a row is what an earlier run made of it, if that is known."""
        wanted = set(todo)
        for part in _parts(self.storage, self.member.name.kind, covers):
            if part.name not in wanted:
                continue
            self._open[part.name] = part
            yield WorkPart(part.name, tuple(open_rows.begin([*self._rows(part)])))

    def _rows(self, part: _Part) -> Iterator[SampledRow | RowResult]:
        """The rows of a part of which there are samples to do, in order; a failure for each that no table has."""
        earlier = self._earlier.get(part.name)
        captions = part.table["captions"].to_pylist()
        samples: dict[str, list[int]] = {}
        for number, (key, row_id) in enumerate(zip(part.keys, part.table["row_id"].to_pylist(), strict=True)):
            if earlier is None or key in earlier.missing:
                samples.setdefault(row_id, []).append(number)
        uris, keys = part.table["uri"].to_pylist(), part.keys
        planned = {} if self.plan is None else self._planned(self.plan, part.name, samples)
        for row_id, numbers in samples.items():
            own = tuple(keys[number] for number in numbers)
            if self.member.name.kind == "text":
                texts = [[captions[n], *(more[n] for more in part.captions_more)] for n in numbers]
                yield SampledRow(
                    row_id=row_id,
                    uri=uris[numbers[0]],
                    split=part.name.split,
                    captions=tuple(text for of_sample in texts for of_one in of_sample for text in of_one),
                    keys=own,
                    counts=tuple(tuple(map(len, of_sample)) for of_sample in texts),
                )
            elif row_id in planned:
                row = planned[row_id]
                yield SampledRow(**{f.name: getattr(row, f.name) for f in fields(Row)}, keys=own)
            else:
                why = "no table of the manifest has this row any more"
                yield RowResult(
                    RowOutcome(
                        row_id=row_id,
                        uri=uris[numbers[0]],
                        status="failed",
                        stage="plan",
                        reason="row_gone",
                        detail=why,
                    )
                )

    def _planned(self, plan: Plan, part: PartName, wanted: Iterable[str]) -> dict[str, Row]:
        """Rows of the plan by id: those of the part, or of the whole plan where it has other parts."""
        found = {
            one.row.row_id: one.row for planned in plan.parts() if planned.name == part for one in plan.rows(planned)
        }
        if all(row_id in found for row_id in wanted):
            return found
        if self._all_rows is None:
            self._all_rows = {one.row.row_id: one.row for planned in plan.parts() for one in plan.rows(planned)}
        return self._all_rows

    def _job(self, done: PartResult) -> ExtraJob:
        """The part to write; what is staged of samples that the part does not have is left out."""
        part = self._open[done.name]
        staged = {one.key: one for row in done.rows for one in row.samples if isinstance(one, StagedSample)}
        additions = tuple(staged[key] for key in part.keys if key in staged)
        earlier = done.name in self._earlier
        return ExtraJob(member=self.member.name, part=done.name, keys=part.keys, additions=additions, earlier=earlier)

    def _committed(
        self,
        done: PartResult,
        covers: Sequence[MemberName],
        fingerprint: str,
        configuration: Sequence[Any],
        lineage: Mapping[str, Any],
    ) -> ExtraPart:
        """Commit a part of the member: its file, and its sidecar last."""
        part, files, name = self._open.pop(done.name), done.files, self.member.name
        if not isinstance(files, ExtraFiles):
            raise TypeError(f"part {done.name} has no files")
        earlier = self._earlier.get(done.name)
        has = {one.key for row in done.rows for one in row.samples if isinstance(one, StagedSample)}
        asked = part.keys if earlier is None else tuple(earlier.missing)
        row_of = dict(zip(part.keys, part.table["row_id"].to_pylist(), strict=True))
        outcomes = {row.outcome.row_id: row.outcome for row in done.rows}
        written = files.written[extra_path(name, done.name)]
        found = ExtraPart(
            member=name,
            part=done.name,
            fingerprint=fingerprint,
            inputs=part.inputs,
            pipeline=configuration,
            lineage=lineage,
            file={"sha256": written.sha256, "size_bytes": written.size_bytes},
            samples=len(part.keys),
            dimension=files.dimension,
            captions=tuple(one.name for one in covers),
            missing={key: _why(key, outcomes[row_of[key]]) for key in asked if key not in has},
        )
        self.lock.check()
        if not self._made:
            # A run that is killed behind its last part must leave no report that does not name the member.
            mark_unfinished(self.storage)
        self._made = True
        self.storage.remove(extra_sidecar_path(name, done.name))
        self.storage.publish(files.temporary)
        self.storage.write(extra_sidecar_path(name, done.name), found.encode())
        return found


def _why(key: str, outcome: RowOutcome) -> tuple[str, str, str]:
    """Why a sample has none: stage, reason and detail of what its clip, or its row, ended with."""
    for clip in outcome.clips:
        if clip.clip_id == key and clip.status != "kept":
            return clip.stage, clip.reason, clip.detail
    if outcome.status != "kept" and outcome.reason not in ("", "no_clips"):
        return outcome.stage, outcome.reason, outcome.detail
    return "add", OTHER_CLIPS, "its video gives other clips than it did"


def is_made_otherwise(location: Location, member: Member) -> bool:
    """Whether a dataset has parts of a member of this name that something else made, or that cannot be read."""
    storage, fingerprint = open_storage(location), member.pipeline.fingerprint()
    for part in stored_members(storage).get(member.name, []):
        try:
            found = read_extra_part(storage, member.name, part)
        except ShardError:
            return True
        if found is not None and found.fingerprint != fingerprint:
            return True
    return False


def remove_outdated(location: Location, base: Pipeline) -> dict[MemberName, int]:
    """Remove the parts of members that are not what would be made now of the samples that there are, since parts were
    built anew or are gone, and write the list of members anew; returns how many of each. What makes a member is not
    compared, but for the stages of the dataset's pipeline that give it clips. The caller holds the dataset's lock.

    Raises:
        ShardError: an index is damaged.
    """
    storage = open_storage(location)
    stored = stored_members(storage)
    if not stored:
        return {}
    found: dict[MemberName, int] = {}
    current = {part.name: part for part in _parts(storage, "video", ())}
    configurations = zip(base.configuration(), base.stages, strict=True)
    # Whose results are known by the hash of a video are None.
    stages = {stage["name"]: None if one.takes is Row else _without_signature(stage) for stage, one in configurations}
    for name, parts in sorted(stored.items(), key=lambda one: one[0].kind):  # captions before texts, which cover them
        for part in parts:
            known = current.get(part)
            if known is None or not _is_current(storage, name, known, stages):
                found[name] = found.get(name, 0) + 1
                storage.remove(extra_sidecar_path(name, part), extra_path(name, part))
    write_extra_list(storage)
    return found


def _is_current(storage: Storage, name: MemberName, part: _Part, stages: Mapping[str, Any]) -> bool:
    """Whether a member of a part's samples is of these samples and, of clips, by these stages: name → configuration,
    None for one that is not compared."""
    try:
        known = read_extra_part(storage, name, part.name)
    except ShardError:
        return False
    if known is None:
        return False
    shaped = [_without_signature(stage) for stage in legacy.upgraded(list(known.pipeline))[:-1]]
    if any(stages.get(stage["name"], {}) not in (None, stage) for stage in shaped):
        return False
    try:
        covers = [MemberName("captions", one) for one in known.captions]
        more = more_captions(storage, part.name, part.keys, covers)
    except ShardError:
        return False
    return known.inputs == inputs_of(name.kind, part.table, more)


def remove_member(location: Location, name: MemberName) -> int:
    """Remove a member for good; returns the number of its files. The caller holds the dataset's lock.

    Raises:
        EnrichmentError: there is no such member.
    """
    storage = open_storage(location)
    files = [file.name for file in storage.list(f"{EXTRA_FOLDER}/{name}")]
    if not files:
        there = ", ".join(map(str, stored_members(storage))) or "none"
        raise EnrichmentError(f"{storage.location} has no {name}; its extra members: {there}")
    write_extra_list(storage, leave=name)  # first, so that no reader looks for files being deleted
    sidecars = [one for one in files if one.endswith(".json")]
    storage.remove(*sidecars, *(one for one in files if one not in sidecars))
    return len(files)


def _short(value: Any) -> str:
    """A value as messages quote it: cut when longer than 120 characters, about a line of a terminal."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "…"
