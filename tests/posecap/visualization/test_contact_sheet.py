"""Pictures kept for people to look at."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posecap.shards import remove_samples
from posecap.types import PartName, Sample
from posecap.visualization.contact_sheet import (
    CONTACT_SHEET,
    PREVIEW_FOLDER,
    remove_previews,
    view_sheet,
    write_preview,
)
from posecap.visualization.view import ViewError
from tests import built

PART = PartName("train", 7)


def previews(root: Path) -> list[Path]:
    return sorted((root / PREVIEW_FOLDER).glob("*/*.jpg"))


def pictured(count: int) -> list[Sample]:
    return [replace(s, thumbnail_jpeg=f"picture of {s.key}".encode()) for s in built.samples(count)]


def test_each_picture_is_named_after_its_clip(tmp_path: Path) -> None:
    samples = pictured(2)
    write_preview(tmp_path, PART, samples)
    assert {path.stem: path.read_bytes() for path in previews(tmp_path)} == {s.key: s.thumbnail_jpeg for s in samples}
    assert {path.parent.name for path in previews(tmp_path)} == {"train-00007"}


def test_pictures_of_clips_that_left_the_part_go(tmp_path: Path) -> None:
    one, two = pictured(2)
    write_preview(tmp_path, PART, [one, two])
    write_preview(tmp_path, PART, [replace(two, thumbnail_jpeg=None)])  # carried over from the shard: no picture
    assert [path.stem for path in previews(tmp_path)] == [two.key]
    write_preview(tmp_path, PART, [])
    assert previews(tmp_path) == []


def test_parts_do_not_share_pictures(tmp_path: Path) -> None:
    one, two = pictured(2)
    write_preview(tmp_path, PART, [one])
    write_preview(tmp_path, PartName("val", 7), [two])
    write_preview(tmp_path, PART, [])
    assert [path.stem for path in previews(tmp_path)] == [two.key]


def test_a_part_keeps_few_and_samples_without_pictures_leave_no_folder(tmp_path: Path) -> None:
    write_preview(tmp_path, PART, built.samples(1))
    assert not (tmp_path / "preview").exists()
    (one,) = pictured(1)
    write_preview(tmp_path, PART, [replace(one, key=f"k{n:02d}") for n in range(30)])
    assert [path.stem for path in previews(tmp_path)] == [f"k{n:02d}" for n in range(24)]


def test_all_of_them_can_be_removed(tmp_path: Path) -> None:
    write_preview(tmp_path, PART, pictured(1))
    (tmp_path / CONTACT_SHEET).write_bytes(b"faces")
    remove_previews(tmp_path)
    assert list(tmp_path.iterdir()) == []
    remove_previews(tmp_path)


# .


RED = (250, 0, 0)


def jpeg(colour: tuple[int, int, int]) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (64, 32), colour).save(written, "JPEG", quality=95)
    return written.getvalue()


def red_tiles(path: Path) -> int:
    """How many tiles of 320 pixels are the red preview."""
    with Image.open(path) as sheet:
        red = np.abs(np.asarray(sheet.convert("RGB")).astype(int) - RED).max(-1) < 30
    return round(red.sum() / (320 * 160))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Parts train/0 (3 clips), train/3 (2 clips) and val/0 (1 clip); the first two clips of train/0 have previews."""
    made = {**built.parts(), PartName("val", 0): built.samples(1, first=7, split="val")}
    built.build(tmp_path, made)
    first, second, *_ = made[PartName("train", 0)]
    samples = [built.replace(sample, thumbnail_jpeg=jpeg(RED)) for sample in (first, second)]
    write_preview(tmp_path, PartName("train", 0), samples)
    return tmp_path


def test_previews_are_used_where_there_are_any_and_drawings_elsewhere(root: Path, tmp_path: Path):
    assert view_sheet(root, out=tmp_path / "sheet.png") == 6
    assert red_tiles(tmp_path / "sheet.png") == 2


def test_blank_uses_no_preview(root: Path, tmp_path: Path):
    assert view_sheet(root, out=tmp_path / "sheet.png", background="blank") == 6
    assert red_tiles(tmp_path / "sheet.png") == 0


def test_split_and_count_are_obeyed_and_parts_take_turns(root: Path, tmp_path: Path):
    assert view_sheet(root, out=tmp_path / "sheet.jpg", split="val") == 1
    assert view_sheet(root, out=tmp_path / "sheet.png", split="train", count=2) == 2
    # One clip of each part, though the first part alone has enough: one preview, one drawing.
    assert red_tiles(tmp_path / "sheet.png") == 1


def test_removed_clips_are_not_shown(root: Path, tmp_path: Path):
    gone = sorted(path.stem for path in (root / "preview").rglob("*.jpg"))[0]
    remove_samples(root, [gone], "on request")
    assert view_sheet(root, out=tmp_path / "sheet.png") == 5
    assert red_tiles(tmp_path / "sheet.png") == 1


@pytest.mark.parametrize("content", [b"", b"no picture", jpeg(RED)[:200], jpeg(RED) + b"\0" * (5 << 20)])
def test_a_broken_preview_is_drawn_anew(root: Path, tmp_path: Path, content: bytes):
    broken = sorted((root / "preview").rglob("*.jpg"))[0]
    broken.write_bytes(content)
    assert view_sheet(root, out=tmp_path / "sheet.png") == 6
    assert red_tiles(tmp_path / "sheet.png") == 1


def test_nothing_to_show_is_said(root: Path, tmp_path: Path):
    with pytest.raises(ViewError, match="holds no clips of split 'test'"):
        view_sheet(root, out=tmp_path / "sheet.png", split="test")
    with pytest.raises(ViewError, match=r"\.jpg or \.png"):
        view_sheet(root, out=tmp_path / "sheet.gif")
