"""Writes the clips of a dataset into a file of another project's format.

A format is a module here, with a function ``write(clips, file)``, and its name in :data:`FORMATS`. Clips are read one
after another, and each is written before the next is read, so that a dataset of any size takes the memory of a few
clips and of one part's index, besides what ``posecap.open`` holds (eight bytes for each clip) and the names of labels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from posecap.files import Existing, atomic_path
from posecap.shards import Dataset, Where
from posecap.storage import Location
from posecap.stream import Streamed, open_dataset
from posecap.terminal import nearest

FORMATS = ("coco", "parquet", "pyskl")
"""Names of formats, which are those of modules of this package."""

WITH_EXTRA = ("parquet",)
"""Those that can hold extra members."""

CHANGED = "clips came or went while they were exported: run it again"
"""Said where two passes over the clips do not find as many."""


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
        yield from open_dataset(
            self.location,
            split=self.split,
            where=self.where,
            seed=None,
            rank=0,
            world_size=1,
            fields=fields,
        )

    def labels(self) -> list[str]:
        """All labels of the dataset, sorted, whichever clips are exported: a label has the same number in a file of
        one split and in that of another."""
        return sorted({row["label"] for row in Clips(location=self.location).index(["label"])} - {None})


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
    """Write clips of a dataset to the file ``output``; returns how many. Nothing is left there if it fails.

    Args:
        location: as for ``posecap.open``.
        form: one of :data:`FORMATS`.
        split: one split, or None for all.
        where: only clips for which a condition holds (:mod:`posecap.shards.where`).
        extra: extra members, as ``text.minilm`` (:mod:`posecap.shards.extra`), which the format parquet can hold; clips
            that have none are left out.
        existing: what happens where the file exists.

    Raises:
        ExportError: there is no such format, or it cannot hold a clip.
        OutputExistsError: the file exists and ``existing`` is ``"refuse"``, or it is a folder.
        ShardError: there is no dataset, it has no such clips, or it is damaged.
        WhereError: ``where`` is no condition.
    """
    if form not in FORMATS:
        raise ExportError(f"there is no format {form!r}: {nearest(form, FORMATS)}")
    if extra and form not in WITH_EXTRA:
        raise ExportError(f"the format {form} holds no extra members: leave out {', '.join(extra)}, or take parquet")
    clips = Clips(location=location, split=split, where=where, extra=tuple(extra))
    with atomic_path(Path(output), existing=existing) as partial, partial.open("wb") as file:
        written: int = import_module(f"posecap.export.{form}").write(clips, file)
    return written
