"""What other thresholds would keep, from the stored results of a dataset: for ``posecap select``. Nothing is built.

What a build stored of each clip before anything was chosen (:mod:`posecap.shards.results`) is put through the stages
behind it again, with other settings: filters of people and clips, smoothing, layouts, captions of rows, up to the first
stage that has a model. Its end is compared with that in the dataset as it is. Of a clip that all these stages let pass,
and that a later one rejected, that rejection stays: later stages ask for captions and times, which are the same.
"""

from __future__ import annotations

import heapq
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecap.files import clip_id
from posecap.outcomes import ClipOutcome
from posecap.pipeline import Pipeline
from posecap.plan import Plan
from posecap.plan_store import stored_plan
from posecap.run.execute import execute
from posecap.run.replay import RowFrames, stored_clip
from posecap.shards import read_sidecar
from posecap.shards.paths import RESULTS_FOLDER, results_part
from posecap.shards.results import (
    ResultsEntry,
    ResultsList,
    RowResults,
    StoredClip,
    decode_results,
    read_results_list,
)
from posecap.shards.sidecar import outcomes_of
from posecap.stage import Stage, engines_of
from posecap.stages.caption import WriteCaptions, inputs_of
from posecap.storage import Location, Storage, open_storage
from posecap.terminal import nearest
from posecap.types import Floats, PartName, PosedClip, Row, Span
from posecap.visualization.contact_sheet import Sheet, check_picture, places, view_pictures

if TYPE_CHECKING:
    from PIL import Image

KEPT = "kept"
"""How the end of a clip is called that reaches the dataset; of all others it is ``{stage}: {reason}``."""
_DRAWN = 240
"""Clips that change side of which pictures are kept to draw, on each side: more than anybody looks at on one sheet."""
_BLANK, _BLANK_SIDE = (38, 38, 42), 320
"""Colour, and pixels of the longer side, in place of a picture where none is stored."""


class SelectionError(ValueError):
    """There is nothing to select from, or a setting is none; the message names the remedy."""


@dataclass(frozen=True, kw_only=True)
class ChangedClip:
    """A clip that is kept now and would not be, or the other way round.

    Args:
        today, then: :data:`KEPT`, or the stage and reason for which it is not.
        detail: of the rejection, a sentence.
    """

    key: str
    row_id: str
    uri: str
    split: str
    label: str | None
    span: Span
    today: str
    then: str
    detail: str

    def as_json(self) -> dict[str, Any]:
        span = {"start_seconds": self.span.start_seconds, "end_seconds": self.span.end_seconds}
        others = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "span"}
        return {**others, **span}


@dataclass(kw_only=True)
class Selection:
    """What was found.

    Args:
        parts, rows: looked at, of the parts that have stored results.
        parts_in_all: that have stored results.
        parts_without: parts that have none, of which nothing is known.
        outdated: of the parts that were looked at, those whose people or joints were found by other models or settings
            than the pipeline has; they are counted as they are stored.
        passed_over: rows that are not in the dataset's plan any more, or of which no joints are stored.
        rows_ended: rows that ended as a whole before there was any clip, which no setting changes.
        today, then: number of clips by how they end.
        changed: clips that change side, in the order of the parts.
    """

    parts: int = 0
    parts_in_all: int = 0
    parts_without: int = 0
    outdated: int = 0
    rows: int = 0
    passed_over: int = 0
    rows_ended: int = 0
    today: Counter[str] = field(default_factory=Counter)
    then: Counter[str] = field(default_factory=Counter)
    changed: list[ChangedClip] = field(default_factory=list)
    _drawable: dict[bool, list[tuple[str, int, _Drawable]]] = field(default_factory=lambda: {True: [], False: []})

    @property
    def clips(self) -> int:
        return self.today.total()

    def as_json(self) -> dict[str, Any]:
        """Counts, by end the most frequent first, and every clip that changes side."""
        counts = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), int)}
        ends = {"today": dict(self.today.most_common()), "then": dict(self.then.most_common())}
        return {**counts, "clips": self.clips, **ends, "changed": [one.as_json() for one in self.changed]}

    def add(self, today: str, then: str, clip: ChangedClip | None = None, drawable: _Drawable | None = None) -> None:
        """Count a clip; ``clip`` and ``drawable`` are of one that changes side."""
        self.today[today] += 1
        self.then[then] += 1
        if clip is None or drawable is None:
            return
        side = self._drawable[then == KEPT]
        # Those with the smallest keys, which are hashes: a fair choice, whatever the order, in bounded memory.
        number = len(self.changed)
        self.changed.append(clip)
        side.append((clip.key, number, drawable))
        if len(side) > 2 * _DRAWN:
            self._drawable[then == KEPT] = heapq.nsmallest(_DRAWN, side, key=lambda one: one[:2])

    def sheet(self, out: Path, *, count: int = 24) -> Sheet:
        """Write a contact sheet of clips that change side, those that would be kept first; both sides have the same
        share of the places.

        Args:
            out: ``.jpg`` or ``.png``.
            count: most clips.

        Raises:
            ViewError: ``out`` has another ending.
            SelectionError: no clip changes side.
            PillowMissingError, FontError: as for any sheet.
        """
        check_picture(out)
        sides = [sorted(self._drawable[kept], key=lambda one: one[:2]) for kept in (True, False)]
        if not any(sides):
            raise SelectionError("no clip changes side, so there is no sheet")
        tiles = []
        for side, share in zip(sides, places([len(side) for side in sides], min(count, 2 * _DRAWN)), strict=True):
            for _, number, drawable in side[:share]:
                tiles.append((drawable.drawn(), _caption(self.changed[number])))
        return view_pictures(tiles, out=out)


def _caption(clip: ChangedClip) -> str:
    heading = f"kept, not {_reason(clip.today)}" if clip.then == KEPT else f"lost: {_reason(clip.then)}"
    when = f"{clip.span.start_seconds:.2f} to {clip.span.end_seconds:.2f} s"
    label = f" · {clip.label}" if clip.label else ""
    return "\n".join(filter(None, (heading + label, clip.detail, f"{clip.uri}, {when}")))


def _reason(end: str) -> str:
    return end.rpartition(": ")[2]


@dataclass(frozen=True)
class _Drawable:
    """A picture and the skeletons to draw in it: ``joints_MJ3`` in pixels of the source, which has this ``size``."""

    jpeg: bytes
    joints_MJ3: Floats
    size: tuple[int, int]
    layout: str

    def drawn(self) -> Image.Image:
        from PIL import Image

        from posecap.visualization.drawing import draw_skeletons

        width, height = self.size
        if self.jpeg:
            image: Image.Image = Image.open(io.BytesIO(self.jpeg), formats=("JPEG",))
        else:
            scale = _BLANK_SIDE / max(self.size)
            image = Image.new("RGB", (max(1, round(width * scale)), max(1, round(height * scale))), _BLANK)
        per_pixel = np.array([image.width / width, image.height / height, 1], np.float32)
        return draw_skeletons(image, self.joints_MJ3 * per_pixel, self.layout)


def selecting_stages(pipeline: Pipeline) -> tuple[Stage, ...]:
    """The stages that a setting can be given to: from behind those whose results are stored, up to the first that has
    a model.

    Raises:
        SelectionError: there are none.
        MissingWeightsError: as :meth:`posecap.pipeline.Pipeline.lineage`.
    """
    perception = pipeline.perception()
    if perception is None or len(perception.stages) < 3:
        raise SelectionError(
            "nothing can be selected without building: the pipeline stores no joints, which takes stages that give "
            "clips, tracks and joints one after another, as Decode, Track and Pose do"
        )
    names = [stage.name for stage in pipeline.stages]
    later = pipeline.stages[names.index(perception.stages[-1]) + 1 :]
    with_model = next((number for number, stage in enumerate(later) if engines_of(stage)), len(later))
    if not with_model:
        raise SelectionError(
            f"no stage of the pipeline selects: {perception.stages[-1]} is followed by one with a model"
        )
    return later[:with_model]


def with_settings(pipeline: Pipeline, settings: Iterable[str]) -> Pipeline:
    """The pipeline with other values of fields of its :func:`selecting_stages`.

    Args:
        settings: each ``field=value``, ``stage.field=value`` where several stages have a field of the name, or with
            more dots for a field of a field, as ``prominence.size=2``. Values are JSON, or words as they are.

    Raises:
        SelectionError: it is no such text, there is no such field, or the value is of another kind or out of range.
    """
    for text in settings:
        name, equals, written = text.partition("=")
        if not equals:
            raise SelectionError(f"--set {text}: write NAME=VALUE, as person_presence=0.3")
        stages = {stage.name: stage for stage in selecting_stages(pipeline)}
        first, _, rest = name.partition(".")
        if first in stages and rest:
            stage, path = stages[first], rest.split(".")
        else:
            path = name.split(".")
            having = [one for one in stages.values() if path[0] in _fields(one)]
            if len(having) != 1:
                known = [f"{one.name}.{f}" if having else f for one in having or stages.values() for f in _fields(one)]
                several = "several stages have it" if having else "there is no such setting"
                raise SelectionError(f"--set {text}: {several}; {nearest(name, sorted({*known}))}")
            (stage,) = having
        changed = _with(stage, path, written, text)
        replaced = tuple(changed if one is stage else one for one in pipeline.stages)
        pipeline = replace(pipeline, stages=replaced)
    return pipeline


def _fields(part: object) -> list[str]:
    return [f.name for f in fields(part) if f.init] if is_dataclass(part) else []


def _with(part: Any, path: Sequence[str], written: str, text: str) -> Any:
    """``part`` with the field at the end of ``path`` replaced."""
    name, *rest = path
    if name not in _fields(part):
        known = _fields(part)
        raise SelectionError(f"--set {text}: " + (nearest(name, known) if known else "it has no fields"))
    before = getattr(part, name)
    after = _with(before, rest, written, text) if rest else _value(written, before, text)
    try:
        return replace(part, **{name: after})
    except (ValueError, TypeError) as error:
        raise SelectionError(f"--set {text}: {error}") from error


def _value(written: str, before: Any, text: str) -> Any:
    """A value as the field has it now: of the same kind; of one that is None now, any."""
    try:
        value = json.loads(written)
    except ValueError:
        value = None if written == "None" else written
    if isinstance(before, float) and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    if isinstance(value, float) and not math.isfinite(value):
        raise SelectionError(f"--set {text}: write a finite number")
    if before is not None and value is not None and type(value) is not type(before):
        raise SelectionError(f"--set {text}: it is {before!r} now, so write a value of that kind")
    if value is None and not is_dataclass(before):
        raise SelectionError(f"--set {text}: it is {before!r} now, and cannot be left out")
    return value


def selectable(location: Location) -> tuple[Plan, list[PartName]]:
    """The plan of a dataset, and its planned parts that have stored results.

    Raises:
        SelectionError: none has.
        PlanError: the plan is damaged.
    """
    storage = open_storage(location)
    plan = stored_plan(storage)
    planned = {part.name for part in plan.parts()} if plan is not None else set()
    listed = (results_part(file.name) for file in storage.list(RESULTS_FOLDER))
    stored = sorted(part for part in listed if part is not None and part in planned)
    if plan is None or not stored:
        raise SelectionError(
            f"{storage.location} has no stored results to select from: build it with 'keep_intermediates: perception' "
            "in the manifest, which is the default; copies that were pushed, and what was imported, have none"
        )
    return plan, stored


def select(location: Location, pipeline: Pipeline, *, most_rows: int = 10_000) -> Selection:
    """Look at a dataset's stored results.

    Args:
        pipeline: with the settings to try.
        most_rows: rows to look at, about: whole parts are taken, evenly over all.

    Raises:
        SelectionError: no part has stored results, or a stage of the pipeline looks at frames.
        ShardError, PlanError: a sidecar, stored results or the plan are damaged.
        MissingWeightsError: as :meth:`posecap.pipeline.Pipeline.lineage`.
    """
    storage = open_storage(location)
    stages, perception = selecting_stages(pipeline), pipeline.perception()
    plan, stored = selectable(storage)
    planned = {part.name: part for part in plan.parts()}
    found = Selection(parts_in_all=len(stored), parts_without=len(planned) - len(stored))
    for part in _evenly(stored, [planned[part].rows for part in stored], most_rows):
        listed = read_results_list(storage, part)
        if listed is None:
            continue
        found.parts += 1
        found.outdated += perception is not None and perception.deepest(listed.chains) != perception.stages[-1]
        rows = {one.row.row_id: one.row for one in plan.rows(planned[part])}
        today = {one.row_id: one for one in outcomes_of(part, read_sidecar(storage, part).get("rows"))}
        for entry, results in _read(storage, listed.entries):
            found.rows += 1
            row, outcome = rows.get(entry.row_id), today.get(entry.row_id)
            if results is None:
                found.rows_ended += 1
            elif row is None or outcome is None:
                found.passed_over += 1
            else:
                ended = {clip.clip_id: clip for clip in outcome.clips if clip.clip_id is not None}
                _select_row(stages, row, results, ended, found)
    return found


def share_to_describe(
    storage: Storage, pipeline: Pipeline, stored: ResultsList, rows: Mapping[str, Row], *, most_rows: int
) -> float:
    """Share of a part's clips, of those that come to its captioners, about which one of them would be asked in an
    update, 0 to 1, since what it looks at has changed or was not stored. 1 where that cannot be told, as where the
    joints are found anew.

    Args:
        stored: the list of the part's results.
        rows: by their id; others are passed over.
        most_rows: to look at, evenly over all.

    Raises:
        ShardError: stored results are damaged.
    """
    perception = pipeline.perception()
    captioning = next((one for one in pipeline.stages if isinstance(one, WriteCaptions)), None)
    if perception is None or captioning is None or perception.deepest(stored.chains) != perception.stages[-1]:
        return 1.0
    if not {*perception.captioners} <= {*stored.captioners}:
        return 1.0
    names = [stage.name for stage in pipeline.stages]
    places = [stored.captioners.index(one) for one in perception.captioners]
    between = pipeline.stages[names.index(perception.stages[-1]) + 1 : names.index(captioning.name)]
    entries = [one for one in stored.entries if one.results is not None and one.row_id in rows]
    count, reached, written = min(most_rows, len(entries)), 0, 0
    chosen = [entries[number * len(entries) // count] for number in range(count)]
    for entry, results in _read(storage, chosen):
        frames = RowFrames(rows[entry.row_id], ())
        clips = () if results is None else (one for one in results.entries if isinstance(one, StoredClip))
        for number, clip in enumerate(clips):
            if results is None or clip.lost is not None or clip.joints_MTJ3 is None:
                continue
            done = execute(between, stored_clip(clip, number, results, frames))
            if frames.stale:
                return 1.0
            for skeleton in done.outputs:
                known = [clip.sentences.get(place) for place in places]
                inputs = [inputs_of(captioner, skeleton) for captioner in captioning.captioners]
                reached += 1
                written += [one and one.inputs for one in known] != inputs
    return written / reached if reached else 1.0


def _evenly(parts: Sequence[Any], rows: Sequence[int], most_rows: int) -> list[Any]:
    """Parts, evenly over all, with about so many rows."""
    share = min(1.0, most_rows / max(1, sum(rows)))
    count = max(1, round(share * len(parts)))
    return [parts[number * len(parts) // count] for number in range(count)]


def _read(storage: Storage, entries: Iterable[ResultsEntry]) -> Iterator[tuple[ResultsEntry, RowResults | None]]:
    """The rows with their results; None for those that ended as a whole."""
    for entry in entries:
        if entry.results is None:
            yield entry, None
        else:
            at = entry.results.at
            block = storage.read_range(at.file, at.offset, at.size)
            yield entry, decode_results(block, name=at.file)


def _select_row(
    stages: Sequence[Stage], row: Row, results: RowResults, today: Mapping[str, ClipOutcome], found: Selection
) -> None:
    """Count the clips of a row. ``today`` is how they ended, by their id."""
    frames = RowFrames(row, ())  # without stages nothing can be decoded
    for number, entry in enumerate(one for one in results.entries if isinstance(one, StoredClip)):
        key = clip_id(results.source_id, row.row_id, entry.span)
        now = today.get(key)
        if now is None or (entry.lost is None and entry.joints_MTJ3 is None):
            found.passed_over += 1
            continue
        if entry.lost is not None:
            found.add(_end(now), _end(now))
            continue
        clip = stored_clip(entry, number, results, frames)
        done = execute(stages, clip)
        if frames.stale:
            raise SelectionError(
                "a stage behind the joints looks at frames, which takes a build: `posecap build --update` into a copy"
            )
        later = now.stage not in {stage.name for stage in stages}
        then = done.clips[0] if done.clips else (now if later else replace(now, status="kept", stage="", reason=""))
        before, after = _end(now), _end(then)
        if (before == KEPT) == (after == KEPT):
            found.add(before, after)
            continue
        why = then if after != KEPT else now
        changed = ChangedClip(
            key=key,
            row_id=row.row_id,
            uri=row.uri,
            split=row.split,
            label=row.label,
            span=entry.span,
            today=before,
            then=after,
            detail=why.detail,
        )
        kept = done.outputs[0] if done.outputs and isinstance(done.outputs[0], PosedClip) else clip
        found.add(before, after, changed, _drawable(entry, kept))


def _end(outcome: ClipOutcome) -> str:
    return KEPT if outcome.status == "kept" else f"{outcome.stage}: {outcome.reason}"


def _drawable(entry: StoredClip, clip: Any) -> _Drawable:
    """The clip's picture with the people of ``clip``: of one that is lost, everybody who was followed."""
    size = entry.media.width, entry.media.height
    frame = 0 if entry.picture is None else entry.picture.frame
    jpeg = b"" if entry.picture is None else entry.picture.jpeg
    return _Drawable(jpeg, np.array(clip.joints_MTJ3[:, frame]), size, clip.layout)
