"""Pictures kept for people to look at."""

from dataclasses import replace
from pathlib import Path

import built

from posecap.pictures.preview import CONTACT_SHEET, PREVIEW_FOLDER, forget_previews, write_preview
from posecap.types import PartName, Sample

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


def test_all_of_them_can_be_forgotten(tmp_path: Path) -> None:
    write_preview(tmp_path, PART, pictured(1))
    (tmp_path / CONTACT_SHEET).write_bytes(b"faces")
    forget_previews(tmp_path)
    assert list(tmp_path.iterdir()) == []
    forget_previews(tmp_path)
