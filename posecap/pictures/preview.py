"""Small pictures of the first clips of each part, kept beside the dataset for people to look at.

They show people, so they are no part of the dataset: nothing under ``preview/`` is listed, hashed or published.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from posecap.types import PartName, Sample

PREVIEW_FOLDER = "preview"
CONTACT_SHEET = "contact_sheet.jpg"
_PER_PART = 24


def write_preview(root: Path, part: PartName, samples: Sequence[Sample]) -> None:
    """Keep the thumbnails of the part's first samples. A carried-over sample's picture is there already."""
    folder = _folder(root, part)
    wanted = [sample.key for sample in samples[:_PER_PART]]
    for old in folder.glob("*.jpg") if folder.is_dir() else ():
        if old.stem not in wanted:
            old.unlink()
    for sample in samples[:_PER_PART]:
        if sample.thumbnail_jpeg is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{sample.key}.jpg").write_bytes(sample.thumbnail_jpeg)


def forget_previews(root: Path) -> None:
    """Remove every picture: who was in a removed clip may be in others, too."""
    shutil.rmtree(root / PREVIEW_FOLDER, ignore_errors=True)
    (root / CONTACT_SHEET).unlink(missing_ok=True)


def _folder(root: Path, part: PartName) -> Path:
    return root / PREVIEW_FOLDER / f"{part.split}-{part.number:05d}"
