"""What a page of a dataset shows: its clips, what was not kept and why, and counts, as tables and as one document.

Clips are rows of one table (:data:`CLIPS_SCHEMA`), in the order on disk. Movements and pictures of a page in one file
are in further tables of :data:`CLIPS_PER_BLOCK` clips each (:data:`MOVES_SCHEMA`); a page that a server answers reads
them from the dataset itself. Everything here may come from strangers' files, so nothing of it is ever markup: texts go
into tables and JSON, and the page shows them as text.

Maps place the vectors of clips in a plane, so that clips with like vectors lie near each other.
"""

from __future__ import annotations

import gzip
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from posecap.duplicates import read_groups
from posecap.files import scratch_folder, unused_path
from posecap.finalize import read_final_report
from posecap.joints import LAYOUTS
from posecap.ledger import LEDGER_FILE, read_open_rows
from posecap.outcomes import LabelStats, RowOutcome, StageOrder, StageStats
from posecap.plan import Plan
from posecap.plan_store import stored_plan, work_folder
from posecap.shards import INDEX_SCHEMA, Dataset, ShardError, Where
from posecap.shards.paths import ARRAYS, DATASET_LIST
from posecap.shards.serialization import unpack
from posecap.shards.sidecar import each_sidecar, outcomes_of, read_sidecar
from posecap.skeletons import MEASURES
from posecap.storage import LocalStorage, Location, Storage, open_storage
from posecap.types import Floats, PartName, Seconds
from posecap.visualization.contact_sheet import WORST, preview_ranges
from posecap.visualization.drawing import PALETTE, shades_of

Background = Literal["pictures", "blank"]
"""Whether previews of clips, on which people can be recognised, are shown."""
Parts = Sequence[tuple[PartName, NDArray[np.int64]]]
"""Parts of a dataset, each with numbers of samples in it, ascending."""

MOST_CLIPS: Final = 100_000
"""On a page, where nothing else is asked for: its table takes 30 MB in a browser, and more clips are not looked at."""
CLIPS_PER_BLOCK: Final = 128
"""In a table of movements: a page of 48 cards of clips side by side needs one or two."""
MOST_PEOPLE: Final = 6
"""Of a clip, whose movements a page in one file has: the first, which are the most prominent where somebody chose."""
_MOVE_BYTES: Final = 40 << 20
_FEWEST_FRAMES, _MOST_FRAMES = 12, 600
"""All movements of a page in one file take about ``_MOVE_BYTES`` before compression: each clip has as many frames,
evenly chosen, as that allows, within these bounds. Free choices: at 100,000 clips 12 frames are left, and all take
more, but 12 still show what somebody does."""
MOVES_JOINT_BYTES: Final = 5
"""Of a joint in a frame, in a table of movements: two positions and a score."""
_GRID: Final = 4096
"""Steps into which the longer side of a video is divided: half a pixel of one 1920 pixels wide."""
SCORE_STEPS: Final = 20
"""Into which scores from 0 to 1 are divided; a joint that is seen has at least one."""
_PICTURE_BYTES: Final = 16 << 20
_MOST_PICTURE_BYTES: Final = 1 << 20
"""Of all pictures of a page in one file, of which evenly spaced ones are left where there are more; and of one, which
takes a hundredth of that."""
_MOST_OF_A_REASON: Final = 1000
"""Rejected and failed clips, and rows without clips, that are listed of each stage and reason; all are counted."""

_WORDS = pa.dictionary(pa.int32(), pa.string())
_TEXTS = pa.list_(pa.field("item", pa.string(), nullable=False))
_CATEGORIES: Final = (
    *("split", "part", "label", "license", "source", "layout", "codec"),
    *(f"{stage}_model" for stage in ("detector", "tracker", "pose", "video", "text")),
)
_NUMBERS: Final = ("start_seconds", "end_seconds", "fps")
_COUNTS: Final = ("M", "T", "J", "width", "height")
_RANGES: Final = ("joints_offset", "joints_size", "pts_offset", "pts_size", "mp4_offset", "mp4_size")

CLIPS_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("key", pa.string()),
            ("uri", pa.string()),
            ("captions", _TEXTS),
            ("caption_origins", _TEXTS),
            *((name, _WORDS) for name in _CATEGORIES),
            *((name, pa.float32()) for name in _NUMBERS),
            *((name, pa.int32()) for name in _COUNTS),
            *((name, pa.float32()) for name in MEASURES),
            *((f"{kind}_{axis}", pa.float32()) for kind in ("text", "video") for axis in "xy"),
            *(("group", pa.int32()), ("best", pa.int32()), ("picture", pa.int32())),
            *((name, pa.float64()) for name in _RANGES),
        )
    ]
)
"""Columns of the clips, most of them those of the index (:data:`posecap.shards.INDEX_SCHEMA`). Texts that are missing
are empty, numbers NaN, and counts 0. ``text_x`` … ``video_y`` are where the maps have the clip. ``group`` is the number
of its group of near-duplicates, or -1, and ``best`` 1 for the best of it. ``picture`` is 1 where there is a preview.
Offsets and sizes are bytes in the part's tars, floats because JavaScript has no other numbers of that size."""

MOVES_SCHEMA = pa.schema(
    [
        pa.field("times", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
        *(pa.field(axis, pa.list_(pa.field("item", pa.int16(), nullable=False)), nullable=False) for axis in "xy"),
        pa.field("scores", pa.list_(pa.field("item", pa.uint8(), nullable=False)), nullable=False),
        pa.field("picture", pa.binary(), nullable=False),
    ]
)
"""Movements of clips, a row for each, with F of its T frames and P of its M people.

``times`` (F) are milliseconds since the clip's first frame; ``x`` and ``y`` (P, J, F) positions, of which 4,096 make
the longer side of the video; ``scores`` (P, J, F) twentieths, 0 where a joint is not seen. Of times and positions each
is stored as the difference to the one before it in the clip, the joint; positions of joints that are not seen repeat
the one before. ``picture`` is a JPEG, or empty."""

LOSSES_SCHEMA = pa.schema(
    [
        *(pa.field(name, _WORDS, nullable=False) for name in ("status", "stage", "reason", "split", "label")),
        *(pa.field(name, pa.string(), nullable=False) for name in ("row_id", "uri", "detail")),
        *(pa.field(name, pa.float32(), nullable=False) for name in ("start_seconds", "end_seconds")),
    ]
)
"""What was not kept: clips, and rows that ended without clips, whose span is NaN."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which clips are shown, and what of them.

    Args:
        split, where: only clips of this split, and for which this condition holds; None for all.
        count: most clips; of more, evenly spaced ones are shown.
        background: ``blank`` leaves out pictures of people.
        projection: how the maps are made; None for none.
    """

    split: str | None = None
    where: Where | None = None
    count: int = MOST_CLIPS
    background: Background = "pictures"
    projection: Projection | None = "pca"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a page shows.

    Args:
        title: name and version of the dataset, or the name of its folder.
        document: JSON-able: counts, yield, alarms, layouts, measures, colours (``docs/explore.md``).
        clips: the table of clips, without maps until :func:`read_moves` or :func:`read_maps` has read the vectors.
        losses: :data:`LOSSES_SCHEMA`.
        parts: where the clips lie, in their order.
        pictures: by key, the names of files of previews.
    """

    title: str
    document: Mapping[str, Any]
    clips: Any
    losses: Any
    parts: Parts
    pictures: Mapping[str, str] = field(default_factory=dict)


def read_contents(location: Location, choice: Choice) -> Contents:
    """What a page of the dataset shows, from its index, its sidecars and what describes it; no sample is read.

    Raises:
        ShardError, PlanError: the dataset is damaged.
        WhereError: the condition cannot be evaluated.
    """
    storage = open_storage(location)
    total, parts = _chosen_parts(storage, choice)
    pictures = _pictures(storage, parts) if choice.background == "pictures" else {}
    groups = read_groups(storage)
    clips = _clips(storage, parts, pictures, groups)
    report = read_final_report(storage)
    plan = stored_plan(storage)
    outcomes = _Outcomes()
    outcomes.read(storage, plan, counting=report is None)
    named = (report or {}).get("dataset") or {}
    folder = storage.location.rstrip("/").rpartition("/")[2]
    title = f"{named['name']} {named.get('version') or ''}".strip() if named.get("name") else folder
    document = {
        "title": title,
        "description": named.get("description"),
        "license": named.get("license"),
        "clips": {"shown": clips.num_rows, "there": total},
        "chosen": {"split": choice.split, "where": choice.where.text if choice.where else None},
        "finished": report is not None,
        "build": _build(storage, plan, outcomes),
        "yield": (report or {}).get("yield") or [{**line, "seconds": None} for line in outcomes.lines()],
        "counts": report["counts"] if report else outcomes.stats.tally.as_json(),
        "alarms": report["alarms"] if report else [alarm.as_json() for alarm in outcomes.labels.alarms()],
        "losses": outcomes.counted(),
        "damaged": outcomes.damaged,
        "duplicates": groups is not None,
        "measures": [{"name": name, "about": about, "worst": WORST[name]} for name, about in MEASURES.items()],
        "layouts": {name: _layout(name) for name in clips["layout"].unique().to_pylist() if name in LAYOUTS},
        "palette": [shades_of(hue) for hue in PALETTE],
        "clips_per_block": CLIPS_PER_BLOCK,
        "most_people": MOST_PEOPLE,
        "score_steps": SCORE_STEPS,
        "maps": {},
    }
    return Contents(
        title=title,
        document=document,
        clips=clips,
        losses=outcomes.table(),
        parts=parts,
        pictures=pictures,
    )


def _chosen_parts(storage: Storage, choice: Choice) -> tuple[int, Parts]:
    """How many clips fit the choice, and where those lie that are shown. Of a remote build that has not written its
    list of parts yet there are none."""
    if not isinstance(storage, LocalStorage) and storage.size(DATASET_LIST) is None:
        return 0, []
    parts = Dataset(storage).parts(choice.split, where=choice.where)
    total = sum(len(rows) for _, rows in parts)
    if total <= choice.count:
        return total, parts
    wanted = np.unique(np.linspace(0, total - 1, choice.count).round().astype(np.int64))
    ends = np.cumsum([len(rows) for _, rows in parts])
    first = np.searchsorted(wanted, ends - [len(rows) for _, rows in parts])
    last = np.searchsorted(wanted, ends)
    chosen = [
        (part, rows[wanted[low:high] - (end - len(rows))])
        for (part, rows), low, high, end in zip(parts, first, last, ends, strict=True)
    ]
    return total, [(part, rows) for part, rows in chosen if len(rows)]


def _clips(storage: Storage, parts: Parts, pictures: Mapping[str, str], groups: Any) -> Any:
    """The table of clips; all maps are empty."""
    names = ["key", "uri", "captions", "caption_origins", *_CATEGORIES, *_NUMBERS, *_COUNTS, *MEASURES, *_RANGES]
    dataset = Dataset(storage)
    tables = [pa.schema([INDEX_SCHEMA.field(name) for name in names]).empty_table()]
    tables += [dataset.part_index(part, names).take(rows) for part, rows in parts]
    table = pa.concat_tables(tables).combine_chunks()
    in_group, best = {}, set()
    if groups is not None:
        in_group = dict(zip(groups["key"].to_pylist(), groups["group"].to_pylist(), strict=True))
        best = set(groups.filter(groups["best"])["key"].to_pylist())
    keys = table["key"].to_pylist()
    nowhere = np.full(table.num_rows, np.nan, np.float32)
    made: dict[str, Any] = {
        "group": [in_group.get(key, -1) for key in keys],
        "best": [int(key in best) for key in keys],
        "picture": [int(key in pictures) for key in keys],
    }
    columns = []
    for column in CLIPS_SCHEMA:
        if column.name in made:
            values = pa.array(made[column.name], column.type)
        elif column.name in names:
            values = _filled(table[column.name], column.type)
        else:
            values = pa.array(nowhere)
        columns.append(values)
    return pa.table(columns, schema=CLIPS_SCHEMA)


def _filled(column: Any, kind: Any) -> Any:
    """A column of the index as one of the page's table, in one piece and without nulls."""
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(kind):
        return pc.fill_null(column, "").dictionary_encode()
    if pa.types.is_floating(kind):
        return pc.fill_null(column.cast(kind), float("nan"))
    if pa.types.is_integer(kind):
        return pc.fill_null(column, 0).cast(kind)
    return column


def _pictures(storage: Storage, parts: Parts) -> dict[str, str]:
    """Names of the files of previews, by key."""
    return {
        key: file.file
        for part, _ in parts
        for key, file in preview_ranges(storage, part).items()
        if file.size <= _MOST_PICTURE_BYTES
    }


def _layout(name: str) -> dict[str, Any]:
    layout = LAYOUTS[name]
    sides = [joint.startswith("right_") - joint.startswith("left_") + 1 for joint in layout.names]
    return {"names": layout.names, "bones": layout.bones, "sides": sides}


def _build(storage: Storage, plan: Plan | None, outcomes: _Outcomes) -> dict[str, Any] | None:
    """How far the build is; None for a dataset without a plan, as one that was copied or imported."""
    if plan is None:
        return None
    planned = {"parts": len(plan.parts()), "rows": sum(part.rows for part in plan.parts())}
    return {
        "planned": planned,
        "built": outcomes.parts,
        "open": read_open_rows(work_folder(storage) / LEDGER_FILE),
    }


@dataclass
class _Outcomes:
    """What sidecars say of rows and clips that were not kept, and, where that is counted, of all."""

    parts: int = 0
    damaged: list[str] = field(default_factory=list)
    stats: StageStats = field(default_factory=lambda: StageStats(StageOrder((), ())))
    labels: LabelStats = field(default_factory=LabelStats)
    _counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _listed: list[tuple[Any, ...]] = field(default_factory=list)

    def read(self, storage: Storage, plan: Plan | None, *, counting: bool) -> None:
        """Read every sidecar; one that is damaged is noted. Labels of rows are those of the plan."""
        planned = {} if plan is None else {part.name: part for part in plan.parts()}
        for part, document in each_sidecar(storage):
            if isinstance(document, ShardError):
                self.damaged.append(str(document))
                continue
            if counting and not self.stats.order.row_stages:
                self.stats.order = _order_of(storage, part)
            labels = plan.labels(planned[part]) if plan is not None and part in planned else {}
            try:
                rows = document["rows"] if counting else [row for row in document["rows"] if _has_losses(row)]
                outcomes = outcomes_of(part, rows)
            except (ShardError, KeyError, TypeError) as error:
                self.damaged.append(f"part {part}: its rows are not the outcomes of rows ({type(error).__name__})")
                continue
            self.parts += 1
            for row in outcomes:
                self._add(part, row, labels.get(row.row_id), counting=counting)

    def _add(self, part: PartName, row: RowOutcome, label: str | None, *, counting: bool) -> None:
        if counting:
            self.stats.add(row)
            self.labels.add(label, row)
        for ended in row.clips or (row,):
            if ended.status == "kept":
                continue
            why = (ended.status, ended.stage, ended.reason)
            self._counts[why] += 1
            if self._counts[why] <= _MOST_OF_A_REASON:
                span = (None, None) if isinstance(ended, RowOutcome) else (ended.start_seconds, ended.end_seconds)
                self._listed.append((*why, part.split, label or "", row.row_id, row.uri, ended.detail, *span))

    def lines(self) -> list[dict[str, Any]]:
        """The yield by stage, of what is built."""
        return [line.as_json() for line in self.stats.lines()]

    def counted(self) -> list[dict[str, Any]]:
        """How many were lost for each reason, the most frequent first."""
        order = sorted(self._counts.items(), key=lambda one: (-one[1], one[0]))
        return [{"status": s, "stage": stage, "reason": why, "count": n} for (s, stage, why), n in order]

    def table(self) -> Any:
        """What was not kept, in the order of the parts."""
        columns = list(zip(*self._listed, strict=True)) or [()] * len(LOSSES_SCHEMA)
        arrays = []
        for column, values in zip(LOSSES_SCHEMA, columns, strict=True):
            text = pa.string() if pa.types.is_dictionary(column.type) else column.type
            arrays.append(_filled(pa.array(values, text), column.type))
        return pa.table(arrays, schema=LOSSES_SCHEMA)


def _has_losses(row: Mapping[str, Any]) -> bool:
    return row["status"] != "kept" or any(clip["status"] != "kept" for clip in row["clips"])


def _order_of(storage: Storage, part: PartName) -> StageOrder:
    """The order of a build's stages, by the names in a sidecar. Rows become clips in the stage named ``decode``, in
    pipelines without one of that name in none."""
    names = [str(stage.get("name")) for stage in read_sidecar(storage, part).get("pipeline", [])]
    decode = names.index("decode") if "decode" in names else len(names) - 1
    return StageOrder(tuple(names[: decode + 1]), tuple(names[decode:]))


def read_moves(location: Location, contents: Contents, projection: Projection | None) -> tuple[Contents, list[bytes]]:
    """The contents with maps, and tables of movements (:data:`MOVES_SCHEMA`) as :func:`packed` makes them.

    All samples are read, one after another: of a folder from its columns files, which are mapped, of an object store in
    ranges of its tars. In memory are the tables, and of the samples one block.

    Args:
        projection: None for no maps.

    Raises:
        ShardError: a part is damaged.
        MapPackageError: the package of the projection is not installed.
    """
    storage, clips = open_storage(location), contents.clips
    pictures = _readable(storage, contents)
    people = np.minimum(clips["M"].to_numpy(), MOST_PEOPLE)
    frame_bytes = max(1, int((people * clips["J"].to_numpy()).sum()) * MOVES_JOINT_BYTES)
    frames = min(_MOST_FRAMES, max(_FEWEST_FRAMES, _MOVE_BYTES // frame_bytes))
    grids = np.maximum(clips["width"].to_numpy(), clips["height"].to_numpy())
    keys, tables, waiting = clips["key"].to_pylist(), [], []
    with _Vectors(projection) as vectors:
        for number, arrays in enumerate(_arrays(storage, contents.parts)):
            vectors.add(arrays)
            picture = (
                storage.read(pictures[key], limit=_MOST_PICTURE_BYTES) if (key := keys[number]) in pictures else b""
            )
            waiting.append((*_move(arrays["joints"], arrays["pts"], frames, int(grids[number])), picture))
            if len(waiting) == CLIPS_PER_BLOCK:
                tables.append(packed(_moves_table(waiting)))
                waiting = []
        tables += [packed(_moves_table(waiting))] if waiting else []
        maps = vectors.maps()
    shown = pa.array([int(key in pictures) for key in keys], pa.int32())
    clips = clips.set_column(clips.schema.get_field_index("picture"), CLIPS_SCHEMA.field("picture"), shown)
    document = {**contents.document, "frames": frames}
    return with_maps(replace(contents, clips=clips, document=document), maps), tables


def read_maps(location: Location, contents: Contents, projection: Projection) -> Contents:
    """The contents with maps; samples are read as :func:`read_moves` reads them.

    Raises:
        ShardError, MapPackageError: as :func:`read_moves`.
    """
    with _Vectors(projection) as vectors:
        for arrays in _arrays(open_storage(location), contents.parts):
            vectors.add(arrays)
        return with_maps(contents, vectors.maps())


def with_maps(contents: Contents, maps: Mapping[str, Map]) -> Contents:
    """The contents with the places of clips on maps, by ``text`` and ``video``."""
    clips = contents.clips
    for kind, found in maps.items():
        for axis, values in zip("xy", found.xy_N2.T, strict=True):
            name = f"{kind}_{axis}"
            column = pa.array(np.ascontiguousarray(values))
            clips = clips.set_column(clips.schema.get_field_index(name), CLIPS_SCHEMA.field(name), column)
    shares = {kind: {"shares": found.shares} for kind, found in maps.items()}
    return replace(contents, clips=clips, document={**contents.document, "maps": shares})


def packed(table: Any) -> bytes:
    """A table as an Arrow IPC file of one record batch, compressed with gzip; the same for the same table."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_batch(table.combine_chunks().to_batches()[0] if table.num_rows else _no_rows(table.schema))
    return gzip.compress(sink.getvalue(), compresslevel=6, mtime=0)


def _no_rows(schema: Any) -> Any:
    return pa.record_batch([pa.array([], column.type) for column in schema], schema=schema)


class _Vectors:
    """The vectors of clips, of their first captions and of their videos; a context manager.

    Without a projection nothing is kept, and there are no maps.
    """

    def __init__(self, projection: Projection | None) -> None:
        self._projection = projection
        self._stack = ExitStack()
        kinds = ("text", "video") if projection else ()
        self._files = {kind: self._stack.enter_context(VectorFile()) for kind in kinds}

    def __enter__(self) -> _Vectors:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def add(self, arrays: Mapping[str, Any]) -> None:
        for kind, file in self._files.items():
            vector = arrays[kind]
            if kind == "text":
                vector = vector[0] if len(vector) else None
            file.add(vector)

    def maps(self) -> dict[str, Map]:
        found = {kind: file.map(self._projection) for kind, file in self._files.items() if self._projection}
        return {kind: one for kind, one in found.items() if one is not None}


def _arrays(storage: Storage, parts: Parts) -> Iterator[Mapping[str, Any]]:
    """The arrays of each clip by their names (:data:`posecap.shards.paths.ARRAYS`), in order."""
    dataset = Dataset(storage)
    if isinstance(storage, LocalStorage):
        for _, batch, rows in dataset.columns(parts):
            for row in rows:
                yield {name: batch.array(name, row) for name in ARRAYS}
        return
    for _, key, members in dataset.members(parts):
        sample = unpack(key, members)
        yield {
            "joints": sample.joints_MTJ3,
            "pts": sample.pts_T,
            "video": sample.video_D,
            "text": sample.text_CD,
        }


def _readable(storage: Storage, contents: Contents) -> dict[str, str]:
    """The pictures that a page in one file has: all, or where they are too large together evenly spaced ones."""
    sizes = {name: storage.size(name) or 0 for name in contents.pictures.values()}
    step = max(1, -(-sum(sizes.values()) // _PICTURE_BYTES))
    shown = [key for key in contents.clips["key"].to_pylist() if key in contents.pictures]
    return {key: contents.pictures[key] for key in shown[::step]}


def _move(
    joints_MTJ3: Floats, pts_T: Seconds, frames: int, longer_side: int
) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.int16], NDArray[np.uint8]]:
    """Times, x, y and scores of a row of :data:`MOVES_SCHEMA`.

    Args:
        frames: most that are taken.
        longer_side: of the video, in pixels; of one whose size is not known, 0, the farthest joint stands for it.
    """
    count = joints_MTJ3.shape[1]
    taken_F = np.unique(np.linspace(0, count - 1, min(count, frames)).round().astype(np.int64))
    joints_PJF3 = joints_MTJ3[:MOST_PEOPLE, taken_F].transpose(0, 2, 1, 3)
    seen_PJF = joints_PJF3[..., 2] > 0
    # What is not a number, in a dataset of somebody else's making, counts as not seen.
    seen_PJF &= np.isfinite(joints_PJF3).all(-1)
    xy_PJF2 = np.where(seen_PJF[..., None], joints_PJF3[..., :2], 0)
    grid = (_GRID - 1) / max(1.0, float(longer_side) or float(xy_PJF2.max(initial=1.0)))
    last_PJF = np.maximum.accumulate(np.where(seen_PJF, np.arange(len(taken_F)), 0), axis=-1)
    # Differences wrap around as sums do, so any position within 16 bits comes back.
    xy_PJF2 = np.take_along_axis((xy_PJF2 * grid).round().clip(-8 * _GRID, 8 * _GRID - 1), last_PJF[..., None], axis=2)
    steps_PJF2 = np.diff(xy_PJF2, axis=2, prepend=0).astype(np.int64).astype(np.int16)
    scores_PJF = np.where(seen_PJF, (joints_PJF3[..., 2] * SCORE_STEPS).round().clip(1, SCORE_STEPS), 0)
    times_F = np.round((pts_T[taken_F] - pts_T[taken_F[0]]) * 1000)
    return (
        np.diff(times_F, prepend=0).astype(np.int32),
        steps_PJF2[..., 0].ravel(),
        steps_PJF2[..., 1].ravel(),
        scores_PJF.astype(np.uint8).ravel(),
    )


def _moves_table(rows: Sequence[tuple[Any, ...]]) -> Any:
    """Rows of :data:`MOVES_SCHEMA` as a table."""
    *lists, pictures = zip(*rows, strict=True)
    columns = []
    for column, arrays in zip(MOVES_SCHEMA, lists, strict=False):
        ends = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
        columns.append(pa.ListArray.from_arrays(ends, np.concatenate(arrays), type=column.type))
    return pa.table([*columns, pa.array(pictures, pa.binary())], schema=MOVES_SCHEMA)


Doubles = NDArray[np.float64]

Projection = Literal["pca", "tsne", "umap"]
"""How vectors are placed: by their two largest principal components, or by t-SNE (scikit-learn) or UMAP (umap-learn)
of their first 50 components."""

_COMPONENTS: Final = 50
"""Principal components that t-SNE and UMAP start from, as the papers of both do: distances in them are nearly those of
the vectors, and quick to compute."""
_BLOCK_ROWS: Final = 4096
"""Of a file of vectors, read at a time. A free choice."""


class MapPackageError(ImportError):
    """The package that computes a projection is not installed; the message names the remedy."""


@dataclass(frozen=True, kw_only=True)
class Map:
    """Where clips lie.

    Args:
        xy_N2: float32, NaN for a clip that has no vector or one of another length than the first clip's.
        shares: of the vectors' variance, what x and y show; of ``tsne`` and ``umap``, whose axes mean nothing, empty.
    """

    xy_N2: Floats
    shares: tuple[float, ...]


class VectorFile:
    """Vectors of N clips in a file, given one by one; a context manager, which deletes it. In memory are which clips
    have one, and while a map is made a few thousand vectors and the covariance of their components (of 1,280, 13 MB).
    """

    def __init__(self) -> None:
        self._path = unused_path(scratch_folder(), "vectors")
        self._file = self._path.open("w+b")
        self._length = 0
        self._there: list[bool] = []

    def __enter__(self) -> VectorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, vector_D: Floats | None) -> None:
        """Add the vector of the next clip; None where it has none."""
        fits = vector_D is not None and vector_D.size > 0 and bool(np.isfinite(vector_D).all())
        if vector_D is not None and fits:
            self._length = self._length or len(vector_D)
            fits = len(vector_D) == self._length
            if fits:
                self._file.write(np.ascontiguousarray(vector_D, np.float32).tobytes())
        self._there.append(fits)

    def map(self, projection: Projection) -> Map | None:
        """Where the clips lie; None where fewer than three have a vector, of which there is nothing to see.

        The same vectors give the same map with ``pca``; with the others, with the same version of the package on the
        same machine.

        Raises:
            MapPackageError: the package of ``tsne`` or ``umap`` is not installed.
        """
        there_N = np.array(self._there, np.bool_)
        if there_N.sum() < 3:
            return None
        placed, shares = self._components(2 if projection == "pca" else _COMPONENTS)
        if projection != "pca":
            placed, shares = _embedded(placed, projection), ()
        xy_N2 = np.full((len(there_N), 2), np.nan, np.float32)
        xy_N2[there_N, : placed.shape[1]] = placed
        if placed.shape[1] < 2:  # vectors of one number
            xy_N2[there_N, 1] = 0
        return Map(xy_N2=xy_N2, shares=shares)

    def _blocks(self) -> Iterator[Doubles]:
        self._file.seek(0)
        while content := self._file.read(_BLOCK_ROWS * self._length * 4):
            yield np.frombuffer(content, np.float32).reshape(-1, self._length).astype(np.float64)

    def _components(self, most: int) -> tuple[Doubles, tuple[float, ...]]:
        """The vectors by their largest principal components, and the shares of the variance of these.

        A component's sign is free; here its largest weight is positive.
        """
        count, total_D, products_DD = 0, np.zeros(self._length), np.zeros((self._length, self._length))
        for block_ND in self._blocks():
            count += len(block_ND)
            total_D += block_ND.sum(0)
            products_DD += block_ND.T @ block_ND
        mean_D = total_D / count
        variances_D, axes_DD = np.linalg.eigh(products_DD / count - np.outer(mean_D, mean_D))
        axes_DK = axes_DD[:, ::-1][:, :most]
        largest_K = np.abs(axes_DK).argmax(0)
        axes_DK = axes_DK * np.where(axes_DK[largest_K, np.arange(axes_DK.shape[1])] < 0, -1.0, 1.0)
        variance = max(float(variances_D.clip(0).sum()), 1e-30)  # of vectors that are all the same it is 0
        shares = tuple(round(float(value) / variance, 4) for value in variances_D[::-1][:2].clip(0))
        return np.concatenate([(block_ND - mean_D) @ axes_DK for block_ND in self._blocks()]), shares


def _embedded(placed_NK: Doubles, projection: Projection) -> Doubles:
    """The components in a plane, by t-SNE or UMAP."""
    start = placed_NK.astype(np.float32)
    try:
        if projection == "tsne":
            from sklearn.manifold import TSNE

            # A perplexity of 30 is the package's own; it must be below the number of clips.
            method: Any = TSNE(n_components=2, init="pca", perplexity=min(30.0, (len(start) - 1) / 3), random_state=0)
        else:
            from umap import UMAP

            method = UMAP(n_components=2, n_neighbors=min(15, len(start) - 1), init="random", random_state=0)
    except ImportError as error:
        package = "scikit-learn" if projection == "tsne" else "umap-learn"
        raise MapPackageError(
            f"--map {projection} needs {package}, which is not installed: pip install 'posecap[maps]'"
        ) from error
    return np.asarray(method.fit_transform(start), np.float64)
