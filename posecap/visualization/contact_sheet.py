"""Previews of the first clips of each part, and contact sheets of clips of a dataset.

Previews show people, so they are not part of the dataset: nothing under ``preview/`` is listed, hashed or published.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecap.shards import Dataset
from posecap.types import PartName, Sample
from posecap.visualization.drawing import PAPER, contact_sheet, draw_skeletons
from posecap.visualization.fonts import pillow
from posecap.visualization.view import Background, ViewError, fitting_size, people_words

if TYPE_CHECKING:
    from PIL import Image


PREVIEW_FOLDER = "preview"
CONTACT_SHEET = "contact_sheet.jpg"
_PER_PART = 24
"""Previews that are kept of each part."""
_TILE_SIDE, _DRAWN_SIDE = 320, 480
_MAX_COLUMNS = 6
_MAX_PREVIEW_BYTES = 4 << 20


def write_preview(root: Path, part: PartName, samples: Sequence[Sample]) -> None:
    """Write the thumbnails of the part's first samples. Samples carried over from an earlier build have one already."""
    folder = _folder(root, str(part))
    wanted = [sample.key for sample in samples[:_PER_PART]]
    for old in folder.glob("*.jpg") if folder.is_dir() else ():
        if old.stem not in wanted:
            old.unlink()
    for sample in samples[:_PER_PART]:
        if sample.thumbnail_jpeg is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{sample.key}.jpg").write_bytes(sample.thumbnail_jpeg)


def remove_previews(root: Path) -> None:
    """Remove all previews: people of a removed clip may be visible in others."""
    shutil.rmtree(root / PREVIEW_FOLDER, ignore_errors=True)
    (root / CONTACT_SHEET).unlink(missing_ok=True)


def _folder(root: Path, part: str) -> Path:
    return root / PREVIEW_FOLDER / part.replace("/", "-")


def view_sheet(
    root: Path, *, out: Path, split: str | None = None, count: int = 24, background: Background = "footage"
) -> int:
    """Write a contact sheet of clips from many parts: their previews, or drawings of their joints.

    Args:
        out: ``.jpg`` or ``.png``.
        split: only clips of this split.
        count: maximum number of clips.
        background: ``blank`` uses no preview, so that nobody can be recognised.

    Returns:
        Number of clips on the sheet.

    Raises:
        ViewError: ``out`` has another ending, or there are no clips.
        ShardError, PillowMissingError: see :func:`view_clip`.
    """
    if out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ViewError(f"{out}: a contact sheet is written as .jpg or .png")
    pillow()
    dataset = Dataset(root)
    found = list(_spread(dataset, split, count))
    if not found:
        raise ViewError(f"{root} holds no clips" + (f" of split {split!r}" if split else ""))
    tiles = []
    for row in found:
        image = _preview(root, row) if background == "footage" else None
        tiles.append((image or _drawn(dataset.sample(row["key"])), _caption(row)))
    out.parent.mkdir(parents=True, exist_ok=True)
    columns = min(_MAX_COLUMNS, math.ceil(math.sqrt(len(tiles))))
    contact_sheet(tiles, columns=columns, tile_side=_TILE_SIDE).save(out, quality=90)
    return len(tiles)


def _spread(dataset: Dataset, split: str | None, count: int) -> Iterator[dict[str, Any]]:
    """Index rows of up to ``count`` clips, taken in turn from up to ``count`` parts that lie evenly among all."""
    parts = [(part, rows) for part, rows in dataset.parts(split) if len(rows)]
    if not parts:
        return
    chosen = np.unique(np.linspace(0, len(parts) - 1, min(count, len(parts))).round().astype(int)).tolist()
    columns = ["key", "split", "part", "label", "M", "T"]
    tables = [dataset.part_index(parts[i][0], columns).take(parts[i][1][:count]).to_pylist() for i in chosen]
    in_turn = (row for rows in zip_longest(*tables) for row in rows if row is not None)
    found = [row for row, _ in zip(in_turn, range(count), strict=False)]
    yield from sorted(found, key=lambda row: (row["part"], row["key"]))


def _preview(root: Path, row: Mapping[str, Any]) -> Image.Image | None:
    """The kept preview of a clip, if there is one and it is a JPEG of at most 4 MiB."""
    pil = pillow()
    path = _folder(root, row["part"]) / f"{row['key']}.jpg"
    try:
        if path.stat().st_size > _MAX_PREVIEW_BYTES:
            return None
        with pil.Image.open(path, formats=("JPEG",)) as image:
            loaded: Image.Image = image.convert("RGB")
            return loaded
    except (OSError, ValueError, pil.Image.DecompressionBombError):
        return None


def _drawn(sample: Sample) -> Image.Image:
    """The skeletons of the frame in which most joints are seen, on a dark background."""
    facts = sample.facts
    fullest = int((sample.joints_MTJ3[..., 2] > 0).sum((0, 2)).argmax())
    size = fitting_size(facts, 1, _DRAWN_SIDE)
    scale = np.array([size[0] / facts["width"], size[1] / facts["height"], 1], np.float32)
    background = pillow().Image.new("RGB", size, tuple(c + 14 for c in PAPER))  # lighter than the sheet around it
    return draw_skeletons(background, sample.joints_MTJ3[:, fullest] * scale, facts["layout"])


def _caption(row: Mapping[str, Any]) -> str:
    label = " ".join((row["label"] or "no label").split())
    return f"{row['key'][:8]} · {label}\n{row['split']}, {people_words(row['M'])}, {row['T']} frames"
