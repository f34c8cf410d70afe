import io
from pathlib import Path

import built
import numpy as np
import pytest
from PIL import Image

from posecap.pictures.preview import write_preview
from posecap.pictures.sheet import view_sheet
from posecap.pictures.view import ViewError
from posecap.shards import forget
from posecap.types import PartName

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
    forget(root, [gone], "on request")
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
