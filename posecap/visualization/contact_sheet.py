"""Previews of clips of each part, and contact sheets of the clips of a dataset.

Previews show people, so they are not part of the dataset: nothing under ``preview/`` is listed, hashed or published.
"""

from __future__ import annotations

import heapq
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from posecap.outcomes import ClipOutcome, RowOutcome
from posecap.plan_store import stored_plan
from posecap.shards import Dataset, Where, sidecars
from posecap.shards.sidecar import outcomes_of
from posecap.storage import LocalStorage, Location, Storage, open_storage
from posecap.types import FileRange, PartName, Sample, Span
from posecap.visualization.drawing import (
    PAPER,
    contact_sheet,
    draw_skeletons,
    font,
    fullest_frame,
    pillow,
    sheet_font_size,
)
from posecap.visualization.view import (
    Background,
    Footage,
    ViewError,
    clip_frames,
    drawable,
    fitting_size,
    middle_frame,
    people_words,
)

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

WORST: Mapping[str, Literal["lowest", "highest"]] = {
    "coverage": "lowest",
    "mean_score": "lowest",
    "zero_pose_share": "highest",
    "jitter": "highest",
    "bone_jump_share": "highest",
    "identity_switches": "highest",
    "motion": "lowest",
}
"""Quality measures, and which of their values is the worst."""

PREVIEW_FOLDER, CONTACT_SHEET = "preview", "contact_sheet.jpg"
"""Folder and file in a dataset's folder."""
_PER_PART = 24
"""Previews that are kept of each part."""
_TILE_SIDE, _DRAWN_SIDE = 320, 480
"""Pixels of the longer side of a tile, as large as thumbnails are, and of a picture that is drawn here before it is
fitted into one."""
_MAX_COLUMNS = 6
"""With tiles of 320 pixels, a sheet as wide as a screen."""
_CANDIDATES_PER_REASON = 1000
"""Rejected clips of a reason that are kept to choose from, the first ones of the dataset: a bound on memory."""
_CANDIDATES_PER_LABEL = 4
"""Times the clips of a sheet, before those that are not chosen are dropped."""
_MAX_PREVIEW_BYTES = 4 << 20
"""Of a JPEG; thumbnails have a hundredth of it. What is larger was not written here."""
_LABELS_NAMED = 12
"""Labels that a message lists."""
_CARD = (PAPER[0] + 14, PAPER[1] + 14, PAPER[2] + 14)
"""Colour in place of footage: a little lighter than the sheet around it, by eye."""
_NEARLY = 0.5
"""Least similarity (:func:`difflib.get_close_matches`) of a label that a message proposes. Our choice, as the other
numbers here."""


@dataclass(frozen=True)
class Thumbnail:
    """A sample of a part that may have a preview.

    ``read`` gives the bytes of its JPEG; it is None for a sample without one, such as those that are carried over from
    an earlier build, whose previews may be there already.
    """

    key: str
    label: str | None
    read: Callable[[], bytes | bytearray] | None


def write_preview(location: Location, part: PartName, thumbnails: Sequence[Thumbnail]) -> None:
    """Write thumbnails of up to 24 of the part's samples, over all its labels; only these are read. Other previews of
    the part are removed.

    Raises:
        OSError: the disk or store is full or fails; or what ``Thumbnail.read`` raises.
    """
    storage, folder = open_storage(location), _folder(str(part))
    there = _previews(storage, folder).get(folder, set())
    by_label: dict[str, list[Thumbnail]] = {}
    # Samples that can have no preview come last, so that they take no place from others of their label.
    for one in sorted(thumbnails, key=lambda one: one.read is None and one.key not in there):
        by_label.setdefault(one.label or "", []).append(one)
    chosen = {one.key: one for one in _in_turn(by_label, _PER_PART)}
    storage.remove(*(f"{folder}/{key}.jpg" for key in sorted(there - chosen.keys())))
    for key, one in chosen.items():
        if one.read is None:
            continue  # its preview is there already, or it can have none
        if isinstance(storage, LocalStorage):  # a preview need not be on disk when the call returns
            content, path = one.read(), storage.root / folder / f"{key}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # it may be one file with that in staging, which must not be cut
            path.write_bytes(content)
        else:
            storage.write(f"{folder}/{key}.jpg", bytes(one.read()))


def preview_ranges(location: Location, part: PartName) -> dict[str, FileRange]:
    """Where the previews of a part lie, by the clip's key."""
    files = open_storage(location).list(_folder(str(part)))
    return {PurePosixPath(file.name).stem: FileRange(file.name, 0, file.size_bytes) for file in files}


def remove_previews(location: Location) -> None:
    """Remove all previews: people of a removed clip may be visible in others."""
    storage = open_storage(location)
    storage.remove_folder(PREVIEW_FOLDER)
    storage.remove(CONTACT_SHEET)


def _folder(part: str) -> str:
    """Of the previews of a part, by its name as the index has it."""
    return f"{PREVIEW_FOLDER}/{part.replace('/', '-')}"


def _previews(storage: Storage, folder: str = PREVIEW_FOLDER) -> dict[str, set[str]]:
    """Keys of the clips that have a preview, by the folder of their part."""
    found: dict[str, set[str]] = {}
    for file in storage.list(folder):
        path = PurePosixPath(file.name)
        if path.suffix == ".jpg":
            found.setdefault(str(path.parent), set()).add(path.stem)
    return found


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which clips stand on a sheet.

    Without ``worst`` every split has the same share of the places, and its labels take turns; clips that have a preview
    come before others of their label, and those before others that come first by key, which is a hash.

    Args:
        split, label: only clips of these; None for any, those without a label included.
        where: only clips for which it holds; rejected ones have no index, so not for those.
        worst: a quality measure (:data:`WORST`): the clips that are worst by it, worst first. None samples.
        count: most clips, at least 1.

    Raises:
        ViewError: ``worst`` is no measure, or ``count`` is below 1.
    """

    split: str | None = None
    label: str | None = None
    where: Where | None = None
    worst: str | None = None
    count: int = 24

    def __post_init__(self) -> None:
        if self.worst is not None and self.worst not in WORST:
            raise ViewError(f"{self.worst!r} is not a quality measure; there are {', '.join(WORST)}")
        if self.count < 1:
            raise ViewError(f"count is {self.count}; a sheet has at least 1 clip")

    def __str__(self) -> str:
        words = [f" of split {self.split!r}" if self.split else "", f" of label {self.label!r}" if self.label else ""]
        return "clips" + "".join(words) + (f" where {self.where.text}" if self.where else "")


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What was written.

    Args:
        path: the file.
        clips: on it.
        blank: how many of them have no footage behind the skeletons, although footage was wanted; all that have no
            preview where no way to get footage was given.
        why_blank: why the first of those has none; empty if there are none.
        lacking: characters of the captions that no font has.
    """

    path: Path
    clips: int
    blank: int = 0
    why_blank: str = ""
    lacking: frozenset[str] = frozenset()


def view_sheet(
    location: Location,
    *,
    out: Path,
    choice: Choice | None = None,
    background: Background = "footage",
    footage: Footage | None = None,
) -> Sheet:
    """Write a contact sheet of clips: their previews, frames of their footage, or drawings of their joints.

    Args:
        out: ``.jpg`` or ``.png``.
        choice: of the clips.
        background: ``blank`` uses no preview and no footage, so that nobody can be recognised.
        footage: how to get the videos of clips without preview; None draws the joints of those.

    Raises:
        ViewError: ``out`` has another ending, there are no such clips (the message names the nearest label), or the
            facts of one do not have what is needed to draw it.
        ShardError, PillowMissingError: see :func:`view_clip`.
        FontError: see :func:`posecap.visualization.drawing.font`.
    """
    check_picture(out)
    choice = choice or Choice()
    storage = open_storage(location)
    dataset = Dataset(storage)
    index = _chosen(storage, dataset, choice)
    tiles = _Tiles()
    for row in index.to_pylist():
        image, why = (_preview(storage, row), "") if background == "footage" else (None, "")
        if image is None:
            sample = drawable(dataset.sample(row["key"], index=index))
            if background == "footage":
                image, why = _pictured(sample, footage)
            image = image or _drawn(sample, None)
        tiles.add(image, _caption(row, choice.worst), why)
    return tiles.write(out)


def view_clips(
    location: Location, clips: Sequence[tuple[str, str]], *, out: Path, footage: Footage | None = None
) -> Sheet:
    """Write a contact sheet of clips in the order in which they are given, as :func:`view_sheet` draws them.

    Args:
        clips: keys, each with the first line of its caption.
        out: ``.jpg`` or ``.png``.

    Raises:
        ViewError, ShardError, PillowMissingError, FontError: as :func:`view_sheet`.
    """
    check_picture(out)
    storage = open_storage(location)
    dataset, tiles = Dataset(storage), _Tiles()
    wanted = pc.field("key").isin([key for key, _ in clips])
    rows = {row["key"]: row for row in dataset.index().to_table(filter=wanted).to_pylist()}
    for key, heading in clips:
        image, why = _preview(storage, rows[key]), ""
        if image is None:
            sample = drawable(dataset.sample(key))
            image, why = _pictured(sample, footage)
            image = image or _drawn(sample, None)
        tiles.add(image, f"{heading}\n{_caption(rows[key], None)}", why)
    return tiles.write(out)


def view_pictures(pictures: Sequence[tuple[Image.Image, str]], *, out: Path) -> Sheet:
    """Write a contact sheet of pictures, each with its caption, of which further lines are fainter.

    Args:
        out: ``.jpg`` or ``.png``.

    Raises:
        ViewError: ``out`` has another ending.
        PillowMissingError, FontError: as :func:`view_sheet`.
    """
    check_picture(out)
    tiles = _Tiles()
    for image, caption in pictures:
        tiles.add(image, caption, "")
    return tiles.write(out)


def view_rejected(
    location: Location, *, out: Path, choice: Choice | None = None, footage: Footage | None = None
) -> Sheet:
    """Write a contact sheet of rejected clips, and of rows rejected before they had any, with the reasons.

    Every reason has the same share of the places, as far as it has clips; those of its first 1,000 are shown that lie
    evenly among them. The picture is the frame in the middle of the span; where there is no footage, a grey card.
    Labels are those of the dataset's plan.

    Args:
        out: ``.jpg`` or ``.png``.
        choice: split, label and most clips; rejected clips have no quality measure.
        footage: how to get the videos; None gives cards only.

    Raises:
        ViewError: ``out`` has another ending, or nothing like that was rejected.
        ShardError, PlanError: a sidecar or the plan is damaged.
        PillowMissingError, FontError: see :func:`view_sheet`.
    """
    check_picture(out)
    choice = choice or Choice()
    by_reason: dict[str, list[_Rejected]] = {}
    storage = open_storage(location)
    for rejected in _rejected(storage, choice):
        of_reason = by_reason.setdefault(rejected.ended.reason, [])
        if len(of_reason) < _CANDIDATES_PER_REASON:
            of_reason.append(rejected)
    if not by_reason:
        raise ViewError(f"{storage.location} holds no rejected {choice}")
    tiles = _Tiles()
    card = pillow().Image.new("RGB", (_TILE_SIDE, _TILE_SIDE * 9 // 16), _CARD)  # of the shape of most videos
    reasons = sorted(by_reason, key=lambda reason: (-len(by_reason[reason]), reason))
    for reason, share in zip(reasons, places([len(by_reason[r]) for r in reasons], choice.count), strict=True):
        for i in np.linspace(0, len(by_reason[reason]) - 1, share).round().astype(int).tolist():
            rejected = by_reason[reason][i]
            frames, why = middle_frame(rejected.row.uri, rejected.span, footage)
            tiles.add(card if frames is None else pillow().Image.fromarray(frames[0]), rejected.caption, why)
    return tiles.write(out)


@dataclass(frozen=True)
class _Rejected:
    """A rejected row, or a rejected clip of a row: ``ended`` is the outcome of the one or the other, ``label`` the
    row's, None where it has none."""

    row: RowOutcome
    ended: RowOutcome | ClipOutcome
    label: str | None

    @property
    def span(self) -> Span | None:
        """Of the clip; None for a row, or where none is known."""
        if isinstance(self.ended, RowOutcome) or self.ended.start_seconds is None or self.ended.end_seconds is None:
            return None
        return Span(self.ended.start_seconds, self.ended.end_seconds)

    @property
    def caption(self) -> str:
        when = "" if self.span is None else f", {self.span.start_seconds:.2f} to {self.span.end_seconds:.2f} s"
        label = f" · {self.label}" if self.label else ""
        return f"{self.ended.reason}{label}\n{self.ended.detail or self.ended.stage}\n{self.row.uri}{when}"


def _rejected(storage: Storage, choice: Choice) -> Iterator[_Rejected]:
    """What was rejected in the parts that are built."""
    plan = stored_plan(storage)
    planned = {} if plan is None else {part.name: part for part in plan.parts()}
    for part, document in sidecars(storage):
        if choice.split not in (None, part.split):
            continue
        labels: dict[str, str | None] = {}
        if plan is not None and part in planned:
            labels = {one.row.row_id: one.row.label for one in plan.rows(planned[part])}
        for row in outcomes_of(part, document.get("rows")):
            label = labels.get(row.row_id)
            for ended in row.clips or (row,):
                if ended.status == "rejected" and choice.label in (None, label):
                    yield _Rejected(row, ended, label)


@dataclass
class _Tiles:
    """Pictures and captions of a sheet in the making, and why some have no footage."""

    pictures: list[tuple[Image.Image, str]] = field(default_factory=list)
    blanks: list[str] = field(default_factory=list)

    def add(self, image: Image.Image, caption: str, why_blank: str) -> None:
        self.pictures.append((image, caption))
        self.blanks += [why_blank] if why_blank else []

    def write(self, out: Path) -> Sheet:
        """Write the sheet, about as many rows as columns."""
        out.parent.mkdir(parents=True, exist_ok=True)
        columns = min(_MAX_COLUMNS, math.ceil(math.sqrt(len(self.pictures))))
        contact_sheet(self.pictures, columns=columns, tile_side=_TILE_SIDE).save(out, quality=90)
        letters = font(sheet_font_size(_TILE_SIDE))
        lacking = frozenset().union(*(letters.lacking(caption.replace("\n", " ")) for _, caption in self.pictures))
        why = self.blanks[0] if self.blanks else ""
        return Sheet(path=out, clips=len(self.pictures), blank=len(self.blanks), why_blank=why, lacking=lacking)


def check_picture(out: Path) -> None:
    """Raise ViewError for a file that is no ``.jpg`` or ``.png``, and PillowMissingError where nothing can be drawn."""
    pillow()
    if out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ViewError(f"{out}: a contact sheet is written as .jpg or .png")


def _chosen(storage: Storage, dataset: Dataset, choice: Choice) -> pa.Table:
    """Index rows of the chosen clips, in the order of the sheet."""
    found = _worst(dataset, choice) if choice.worst else _sampled(storage, dataset, choice)
    if not found:
        raise ViewError(_nothing(dataset, choice))
    tables = {part: dataset.part_index(part) for part in {part for part, _ in found}}
    return pa.concat_tables([tables[part].slice(row, 1) for part, row in found])


def _sampled(storage: Storage, dataset: Dataset, choice: Choice) -> list[tuple[PartName, int]]:
    """Part and row of clips from all splits and labels, sorted by these."""
    groups: dict[str, dict[str, list[tuple[bool, str, PartName, int]]]] = {}
    previews = _previews(storage)
    for part, rows in dataset.parts(choice.split, where=choice.where):
        pictured = previews.get(_folder(str(part)), set())
        for row, key, label in _labelled(dataset, part, rows, choice):
            of_split = groups.setdefault(part.split, {})
            clips = of_split.setdefault(label, [])
            clips.append((key not in pictured, key, part, row))
            if len(clips) >= _CANDIDATES_PER_LABEL * choice.count:
                of_split[label] = heapq.nsmallest(choice.count, clips)
    for of_split in groups.values():
        of_split.update({label: heapq.nsmallest(choice.count, clips) for label, clips in of_split.items()})
    by_split = [of_split for _, of_split in sorted(groups.items())]
    shares = places([sum(map(len, of_split.values())) for of_split in by_split], choice.count)
    chosen = [_in_turn(of_split, share) for of_split, share in zip(by_split, shares, strict=True)]
    return [(part, row) for of_split in chosen for _, _, part, row in of_split]


def _worst(dataset: Dataset, choice: Choice) -> list[tuple[PartName, int]]:
    """Part and row of the clips that are worst by a measure, worst first; clips without the measure are left out."""
    measure = str(choice.worst)
    sign = 1 if WORST[measure] == "lowest" else -1
    worst: list[tuple[float, str, PartName, int]] = []
    for part, rows in dataset.parts(choice.split, where=choice.where):
        values = dataset.part_index(part, [measure])[measure].to_pylist()
        clips = [
            (sign * values[row], key, part, row)
            for row, key, _ in _labelled(dataset, part, rows, choice)
            if values[row] is not None
        ]
        worst = heapq.nsmallest(choice.count, [*worst, *clips])
    return [(part, row) for _, _, part, row in worst]


def _labelled(
    dataset: Dataset, part: PartName, rows: NDArray[np.int64], choice: Choice
) -> Iterator[tuple[int, str, str]]:
    """Row, key and label of the part's clips that have the wanted label."""
    table = dataset.part_index(part, ["key", "label"]).take(rows)
    for row, key, label in zip(rows.tolist(), table["key"].to_pylist(), table["label"].to_pylist(), strict=True):
        if choice.label in (None, label):
            yield row, key, label or ""


def _nothing(dataset: Dataset, choice: Choice) -> str:
    """Why there are no clips to show, with the labels that there are: the nearest, or some of all."""
    said = f"{dataset.location} holds no {choice}"
    if choice.label is None:
        return said
    everybody = replace(choice, label=None)
    labels = {label for part, rows in dataset.parts() for _, _, label in _labelled(dataset, part, rows, everybody)}
    near = get_close_matches(choice.label, sorted(labels), n=3, cutoff=_NEARLY)
    if near:
        return f"{said}; near to it is {', '.join(map(repr, near))}"
    named = sorted(labels - {""})
    more = f" and {len(named) - _LABELS_NAMED:,} more" if len(named) > _LABELS_NAMED else ""
    return f"{said}; its labels are {', '.join(map(repr, named[:_LABELS_NAMED]))}{more}" if named else said


def _in_turn(groups: Mapping[str, Sequence[T]], count: int) -> list[T]:
    """Up to ``count`` items: the first of each group, then the second of each, by the groups' names.

    Where fewer are left to take than groups, those are taken that lie evenly among the sorted names.
    """
    taken: list[tuple[str, int]] = []
    for turn in range(count):
        names = [name for name in sorted(groups) if len(groups[name]) > turn]
        left = count - len(taken)
        if len(names) > left:
            names = [names[i] for i in np.linspace(0, len(names) - 1, left).round().astype(int).tolist()]
        taken += [(name, turn) for name in names]
    return [groups[name][turn] for name, turn in sorted(taken)]


def places(sizes: Sequence[int], count: int) -> list[int]:
    """How many of ``count`` places each group has: the same for all, but no more than it has members."""
    shares = [0] * len(sizes)
    for _ in range(min(count, sum(sizes))):
        shares[min((i for i, size in enumerate(sizes) if shares[i] < size), key=lambda i: (shares[i], i))] += 1
    return shares


def _preview(storage: Storage, row: Mapping[str, Any]) -> Image.Image | None:
    """The kept preview of a clip, if there is one and it is a JPEG of at most 4 MiB; else the clip is drawn anew."""
    pil = pillow()
    try:
        content = storage.read(f"{_folder(row['part'])}/{row['key']}.jpg", limit=_MAX_PREVIEW_BYTES)
        with pil.Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            loaded: Image.Image = image.convert("RGB")
            return loaded
    except (OSError, ValueError, pil.Image.DecompressionBombError):  # OSError: there is none, or no JPEG
        return None


def _pictured(sample: Sample, footage: Footage | None) -> tuple[Image.Image | None, str]:
    """The skeletons on the clip's own frame, or None and the reason why it is not to be had."""
    frames, why = clip_frames(sample, np.array([fullest_frame(sample.joints_MTJ3)]), _drawn_size(sample), footage)
    return (None, why) if frames is None else (_drawn(sample, pillow().Image.fromarray(frames[0])), "")


def _drawn(sample: Sample, background: Image.Image | None) -> Image.Image:
    """The skeletons of the frame in which most joints are seen, on the frame or on a dark background."""
    facts, size = sample.facts, _drawn_size(sample)
    scale = np.array([size[0] / facts["width"], size[1] / facts["height"], 1], np.float32)
    if background is None:
        background = pillow().Image.new("RGB", size, _CARD)
    return draw_skeletons(background, sample.joints_MTJ3[:, fullest_frame(sample.joints_MTJ3)] * scale, facts["layout"])


def _drawn_size(sample: Sample) -> tuple[int, int]:
    """(width, height) of the picture on which a sample's skeletons are drawn."""
    return fitting_size(sample.facts, 1, _DRAWN_SIDE)


def _caption(row: Mapping[str, Any], measure: str | None) -> str:
    label = " ".join((row["label"] or "no label").split())
    more = f", {measure} {row[measure]:.3g}" if measure else ""
    return f"{row['key'][:8]} · {label}\n{row['split']}, {people_words(row['M'])}, {row['T']} frames{more}"
