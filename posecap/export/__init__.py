"""Writes the clips of a dataset into a file, or a folder, of another project's format.

A format is a module here, with a function ``write(clips, place)``, and its name in :data:`FORMATS`; those that are read
back have the functions of :mod:`posecap.imports`, too. ``place`` is a file open for writing, or the path of an empty
folder. Clips are read one after another, and each is written before the next is read, so that a dataset of any size
takes the memory of a few clips and of one part's index, besides what ``posecap.open`` holds (eight bytes for each clip)
and the names of labels. Packages that a format needs are imported by its module when it writes (:func:`package`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from posecap.files import Existing, atomic_folder, atomic_path
from posecap.shards import Dataset, ShardError, Where
from posecap.shards.extra import Added, MemberName
from posecap.shards.paths import MAX_MEMBER_BYTES, checked_key, part_named, video_path
from posecap.storage import Location, open_storage
from posecap.terminal import nearest
from posecap.types import FileRange

if TYPE_CHECKING:
    from posecap.stream import Streamed

FORMATS: dict[str, Literal["file", "folder"]] = {
    "coco": "file",
    "fiftyone": "folder",
    "lance": "folder",
    "parquet": "file",
    "pyskl": "file",
    "rerun": "folder",
}
"""Names of formats, which are those of modules of this package, and what each writes."""

WITH_EXTRA = ("lance", "parquet")
"""Those that can hold extra members."""

CHANGED = "clips came or went while they were exported: run it again"
"""Said where two passes over the clips do not find as many."""


Extra: TypeAlias = Mapping[MemberName, Added]
"""What extra members have for a sample."""


@dataclass(frozen=True)
class MadeWith:
    """What made an extra member, as its sidecar says: stages with their parameters, versions and weights."""

    pipeline: Sequence[Any]
    lineage: Mapping[str, Mapping[str, str]]


class ExportError(ValueError):
    """A dataset cannot be written in a format; the message names the clip, or what differs, and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Clips:
    """The clips to export, in the order on disk: those of ``split`` (None for all) for which ``where`` holds, with the
    extra members ``extra``, without clips that have none."""

    location: Location
    split: str | None = None
    where: str | None = None
    extra: tuple[str, ...] = ()

    def index(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """``columns`` of the index row of each clip; one part's index is in memory at a time.

        Raises:
            ShardError, WhereError: as ``posecap.open``.
        """
        for _, _, table in Dataset(self.location).rows(self.split, where=Where.of(self.where), columns=columns):
            yield from table.to_pylist()

    def samples(self, fields: Sequence[str]) -> Iterator[Streamed]:
        """Each clip once, as ``posecap.open`` gives it.

        Raises:
            ShardError, WhereError: as ``posecap.open``; without any clip as well.
        """
        from posecap.stream import open_dataset  # which imports torch: to read an export back needs none

        yield from open_dataset(
            self.location,
            split=self.split,
            where=self.where,
            seed=None,
            rank=0,
            world_size=1,
            fields=fields,
        )

    def samples_with_video(self, fields: Sequence[str]) -> Iterator[tuple[Streamed, bytes | None]]:
        """Each clip as :meth:`samples` gives it, with its mp4, None where the dataset stores none of it.

        Raises:
            ExportError: the dataset changed meanwhile.
            ShardError, WhereError: as :meth:`samples`.
        """
        storage, places = open_storage(self.location), self.index(["key", "part", "mp4_offset", "mp4_size"])
        contents = storage.read_ranges(_mp4_range(row) for row in places if row["mp4_size"] is not None)
        for sample, row in zip_longest(self.samples(fields), self.index(["key", "mp4_size"])):
            if sample is None or row is None or sample["key"] != row["key"]:
                raise ExportError(CHANGED)
            yield sample, None if row["mp4_size"] is None else bytes(next(contents))

    def one_layout(self, what: str) -> str:
        """The layout of joints that all clips have; ``what`` is what can hold no other.

        Raises:
            ExportError: they have several.
            ShardError, WhereError: as :meth:`index`; or there are no clips.
        """
        layouts: list[str] = sorted({row["layout"] for row in self.index(["layout"])})
        if not layouts:
            next(self.samples([]))  # which says why there are none
        if len(layouts) > 1:
            chosen = f"choose one, as with --where 'layout == \"{layouts[0]}\"'"
            raise ExportError(f"{what} has one layout of joints, and the clips have {', '.join(layouts)}: {chosen}")
        return layouts[0]

    def labels(self) -> list[str]:
        """All labels of the dataset, sorted, whichever clips are exported: a label has the same number in a file of
        one split and in that of another."""
        return sorted({row["label"] for row in Clips(location=self.location).index(["label"])} - {None})


def _mp4_range(row: dict[str, Any]) -> FileRange:
    """Where a clip's mp4 lies, by its index row. Raises ShardError where it cannot lie there."""
    offset, size = row["mp4_offset"], row["mp4_size"]
    if offset is None or offset < 0 or not 0 <= size <= MAX_MEMBER_BYTES:
        raise ShardError(f"the index puts the video of clip {row['key']} where none can be; run `posecap verify`")
    return FileRange(video_path(part_named(row["part"])), offset, size)


def package(name: str, *, extra: str) -> Any:
    """The module ``name`` of a package that a format needs, and which the extra ``extra`` of posecap installs.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed, and the format {extra} needs it: pip install 'posecap[{extra}]'"
        raise ModuleNotFoundError(message, name=error.name) from error


def clip_path(sample: Streamed, ending: str) -> Path:
    """``{split}/{key}{ending}``, for files of a clip, from its ``facts``.

    Raises:
        ShardError: split or key could lead elsewhere, which a dataset of somebody else may have.
    """
    split = part_named(f"{sample['facts'].get('split')}/00000").split
    return Path(split, f"{checked_key(sample['key'])}{ending}")


def joint_boxes(joints_MTJ3: NDArray[Any]) -> NDArray[np.float64]:
    """The box around the joints that are seen of each person in each frame, (M, T, 4): left, top, right, bottom in
    pixels; NaN where none is seen."""
    places_MTJ2 = np.where(joints_MTJ3[..., 2:] > 0, joints_MTJ3[..., :2].astype(np.float64), np.nan)
    empty_MT1 = np.isnan(places_MTJ2).all(-2)
    low_MT2 = np.where(empty_MT1, np.nan, np.nan_to_num(places_MTJ2, nan=np.inf).min(-2))
    high_MT2 = np.where(empty_MT1, np.nan, np.nan_to_num(places_MTJ2, nan=-np.inf).max(-2))
    return np.concatenate([low_MT2, high_MT2], -1)


def picture_size(sample: Streamed) -> tuple[int, int]:
    """Width and height of a clip's frames as displayed, in pixels, from its ``facts``.

    Raises:
        ExportError: the clip has none, as where its video's size was not known.
    """
    width, height = (sample["facts"].get(side) for side in ("width", "height"))
    if not width or not height:
        raise ExportError(f"clip {sample['key']} has no width and height: leave such out with --where 'width > 0'")
    return int(width), int(height)


def export(
    location: Location,
    output: str | os.PathLike[str],
    *,
    form: str,
    split: str | None = None,
    where: str | None = None,
    extra: Sequence[str] = (),
    existing: Existing = "refuse",
) -> int:
    """Write clips of a dataset to the file or folder ``output``; returns how many. Nothing is left there if it fails.

    Args:
        location: as for ``posecap.open``.
        form: one of :data:`FORMATS`.
        split: one split, or None for all.
        where: only clips for which a condition holds (:mod:`posecap.shards.where`).
        extra: extra members, as ``text.minilm`` (:mod:`posecap.shards.extra`), which formats of :data:`WITH_EXTRA` can
            hold; clips that have none are left out.
        existing: what happens where the file exists. A folder is never replaced.

    Raises:
        ExportError: there is no such format, or it cannot hold a clip.
        ModuleNotFoundError: the format needs a package that is not installed.
        OutputExistsError: the file exists and ``existing`` is ``"refuse"``, or there is a folder.
        ShardError: there is no dataset, it has no such clips, or it is damaged.
        WhereError: ``where`` is no condition.
    """
    if form not in FORMATS:
        raise ExportError(f"there is no format {form!r}: {nearest(form, FORMATS)}")
    if extra and form not in WITH_EXTRA:
        formats = " or ".join(WITH_EXTRA)
        raise ExportError(f"the format {form} holds no extra members: leave out {', '.join(extra)}, or take {formats}")
    clips = Clips(location=location, split=split, where=where, extra=tuple(extra))
    write = import_module(f"posecap.export.{form}").write
    written: int
    if FORMATS[form] == "folder":
        with atomic_folder(Path(output)) as folder:
            written = write(clips, folder)
    else:
        with atomic_path(Path(output), existing=existing) as partial, partial.open("wb") as file:
            written = write(clips, file)
    return written
