"""Pictures kept for people to look at."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posecap.engines.local_file import LocalFile
from posecap.engines.pyav import PyAV
from posecap.files import file_sha256
from posecap.manifest.manifest_file import read_manifest
from posecap.outcomes import ClipOutcome, RowOutcome
from posecap.plan import make_plan
from posecap.shards import remove_samples, write_dataset_list, write_part
from posecap.types import Media, PartName, Sample, Span
from posecap.visualization import contact_sheet
from posecap.visualization.contact_sheet import (
    CONTACT_SHEET,
    PREVIEW_FOLDER,
    Choice,
    remove_previews,
    view_rejected,
    view_sheet,
    write_preview,
)
from posecap.visualization.view import Footage, ViewError
from tests import building, built
from tests import footage as numbered_footage

PART = PartName("train", 7)


def previews(root: Path) -> list[Path]:
    return sorted((root / PREVIEW_FOLDER).glob("*/*.jpg"))


def pictured(count: int) -> list[Sample]:
    return [replace(s, thumbnail_jpeg=f"picture of {s.key}".encode()) for s in built.samples(count)]


def test_each_picture_is_named_after_its_clip(tmp_path: Path) -> None:
    samples = pictured(2)
    write_preview(tmp_path, PART, building.thumbnails(*samples))
    assert {path.stem: path.read_bytes() for path in previews(tmp_path)} == {s.key: s.thumbnail_jpeg for s in samples}
    assert {path.parent.name for path in previews(tmp_path)} == {"train-00007"}


def test_pictures_of_clips_that_left_the_part_go(tmp_path: Path) -> None:
    one, two = pictured(2)
    write_preview(tmp_path, PART, building.thumbnails(one, two))
    write_preview(
        tmp_path, PART, building.thumbnails(replace(two, thumbnail_jpeg=None))
    )  # carried over from the shard: no picture
    assert [path.stem for path in previews(tmp_path)] == [two.key]
    write_preview(tmp_path, PART, [])
    assert previews(tmp_path) == []


def test_parts_do_not_share_pictures(tmp_path: Path) -> None:
    one, two = pictured(2)
    write_preview(tmp_path, PART, building.thumbnails(one))
    write_preview(tmp_path, PartName("val", 7), building.thumbnails(two))
    write_preview(tmp_path, PART, [])
    assert [path.stem for path in previews(tmp_path)] == [two.key]


def test_a_part_keeps_few_and_samples_without_pictures_leave_no_folder(tmp_path: Path) -> None:
    write_preview(tmp_path, PART, building.thumbnails(*built.samples(1)))
    assert not (tmp_path / "preview").exists()
    (one,) = pictured(1)
    write_preview(tmp_path, PART, building.thumbnails(*[replace(one, key=f"k{n:02d}") for n in range(30)]))
    assert [path.stem for path in previews(tmp_path)] == [f"k{n:02d}" for n in range(24)]


def test_all_of_them_can_be_removed(tmp_path: Path) -> None:
    write_preview(tmp_path, PART, building.thumbnails(*pictured(1)))
    (tmp_path / CONTACT_SHEET).write_bytes(b"faces")
    remove_previews(tmp_path)
    assert list(tmp_path.iterdir()) == []
    remove_previews(tmp_path)


def test_previews_are_of_all_labels(tmp_path: Path) -> None:
    """Of a sorted folder, where a label's clips follow each other."""
    samples = [
        replace(sample, key=f"{label}{n:02d}", facts={**sample.facts, "label": label})
        for label in ("dips", "pull-ups", "squats")
        for n, sample in enumerate(pictured(1) * 20)
    ]
    write_preview(tmp_path, PART, building.thumbnails(*samples))
    stems = [path.stem for path in previews(tmp_path)]
    assert [sum(stem.startswith(label) for stem in stems) for label in ("dips", "pull-ups", "squats")] == [8, 8, 8]
    write_preview(tmp_path, PART, building.thumbnails(*[replace(sample, thumbnail_jpeg=None) for sample in samples]))
    assert [path.stem for path in previews(tmp_path)] == stems  # carried over: what is there stays


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
    write_preview(tmp_path, PartName("train", 0), building.thumbnails(*samples))
    return tmp_path


def test_previews_are_used_where_there_are_any_and_drawings_elsewhere(root: Path, tmp_path: Path):
    assert view_sheet(root, out=tmp_path / "sheet.png").clips == 6
    assert red_tiles(tmp_path / "sheet.png") == 2


def test_blank_uses_no_preview(root: Path, tmp_path: Path):
    sheet = view_sheet(root, out=tmp_path / "sheet.png", background="blank")
    assert (sheet.clips, sheet.blank, sheet.why_blank) == (6, 0, "")
    assert red_tiles(tmp_path / "sheet.png") == 0


def test_split_and_count_are_obeyed_and_previews_come_first(root: Path, tmp_path: Path):
    assert view_sheet(root, out=tmp_path / "sheet.jpg", choice=Choice(split="val")).clips == 1
    assert view_sheet(root, out=tmp_path / "sheet.png", choice=Choice(split="train", count=2)).clips == 2
    assert red_tiles(tmp_path / "sheet.png") == 2


def test_removed_clips_are_not_shown(root: Path, tmp_path: Path):
    gone = sorted(path.stem for path in (root / "preview").rglob("*.jpg"))[0]
    remove_samples(root, [gone], "on request")
    assert view_sheet(root, out=tmp_path / "sheet.png").clips == 5
    assert red_tiles(tmp_path / "sheet.png") == 1


@pytest.mark.parametrize("content", [b"", b"no picture", jpeg(RED)[:200], jpeg(RED) + b"\0" * (5 << 20)])
def test_a_broken_preview_is_drawn_anew(root: Path, tmp_path: Path, content: bytes):
    broken = sorted((root / "preview").rglob("*.jpg"))[0]
    broken.write_bytes(content)
    assert view_sheet(root, out=tmp_path / "sheet.png").clips == 6
    assert red_tiles(tmp_path / "sheet.png") == 1


def test_nothing_to_show_is_said(root: Path, tmp_path: Path):
    with pytest.raises(ViewError, match="holds no clips of split 'test'"):
        view_sheet(root, out=tmp_path / "sheet.png", choice=Choice(split="test"))
    with pytest.raises(ViewError, match=r"\.jpg or \.png"):
        view_sheet(root, out=tmp_path / "sheet.gif")


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The captions of the sheets that the test writes."""
    written: list[str] = []
    draw = contact_sheet.contact_sheet

    def listening(tiles, **settings):
        written.extend(caption for _, caption in tiles)
        return draw(tiles, **settings)

    monkeypatch.setattr(contact_sheet, "contact_sheet", listening)
    return written


def labelled(label: str, count: int, *, first: int, split: str = "train", **facts: object) -> list[Sample]:
    samples = built.samples(count, first=first, split=split)
    return [replace(sample, facts={**sample.facts, "label": label, **facts}) for sample in samples]


def labels_of(captions: list[str]) -> list[str]:
    return [caption.splitlines()[0].split(" · ")[1] for caption in captions]


@pytest.fixture
def gym(tmp_path: Path) -> Path:
    """A sorted folder: 12 dips and 6 squats to train on, 3 dips and 3 深蹲 to validate on."""
    made = {
        PartName("train", 0): labelled("dips", 12, first=0),
        PartName("train", 1): labelled("squats", 6, first=12),
        PartName("val", 0): labelled("dips", 3, first=18, split="val") + labelled("深蹲", 3, first=21, split="val"),
    }
    built.build(tmp_path / "gym", made)
    return tmp_path / "gym"


def test_a_sheet_is_sampled_over_splits_and_labels(gym: Path, tmp_path: Path, captions: list[str]) -> None:
    assert view_sheet(gym, out=tmp_path / "sheet.png", choice=Choice(count=8)).clips == 8
    assert labels_of(captions) == ["dips"] * 2 + ["squats"] * 2 + ["dips"] * 2 + ["深蹲"] * 2
    assert [caption.splitlines()[1].split(",")[0] for caption in captions] == ["train"] * 4 + ["val"] * 4
    captions.clear()
    view_sheet(gym, out=tmp_path / "sheet.png", choice=Choice(count=20))
    assert sorted(labels_of(captions)) == ["dips"] * 11 + ["squats"] * 6 + ["深蹲"] * 3
    again = list(captions)
    captions.clear()
    view_sheet(gym, out=tmp_path / "again.png", choice=Choice(count=20))
    assert captions == again


def test_one_label_and_the_nearest_of_a_wrong_one(gym: Path, tmp_path: Path, captions: list[str]) -> None:
    assert view_sheet(gym, out=tmp_path / "sheet.png", choice=Choice(label="squats")).clips == 6
    assert set(labels_of(captions)) == {"squats"}
    with pytest.raises(ViewError, match="holds no clips of split 'val' of label 'squat'; near to it is 'squats'"):
        view_sheet(gym, out=tmp_path / "sheet.png", choice=Choice(label="squat", split="val"))
    with pytest.raises(ViewError, match=r"holds no clips of label 'nope'; its labels are '[^']+', .*'squats'"):
        view_sheet(gym, out=tmp_path / "sheet.png", choice=Choice(label="nope"))


@pytest.mark.parametrize(("measure", "expected"), [("jitter", ["0.4", "0.3"]), ("coverage", ["0.1", "0.2"])])
def test_the_worst_by_a_measure_come_first(
    tmp_path: Path, captions: list[str], measure: str, expected: list[str]
) -> None:
    samples = built.samples(4)
    values = [0.2, 0.4, 0.1, 0.3]
    made = [
        replace(sample, facts={**sample.facts, "quality": {**sample.facts["quality"], measure: value}})
        for sample, value in zip(samples, values, strict=True)
    ]
    built.build(tmp_path / "d", {PartName("train", 0): made[:2], PartName("train", 1): made[2:]})
    sheet = view_sheet(tmp_path / "d", out=tmp_path / "sheet.png", choice=Choice(worst=measure, count=2))
    assert sheet.clips == 2
    assert [caption.rsplit(f"{measure} ", 1)[1] for caption in captions] == expected


def test_an_unknown_measure_is_named_with_those_there_are() -> None:
    with pytest.raises(ViewError, match="'shake' is not a quality measure; there are coverage, mean_score"):
        Choice(worst="shake")
    with pytest.raises(ViewError, match="count is 0; a sheet has at least 1 clip"):
        Choice(count=0)


def test_characters_that_no_font_has_are_reported(gym: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from posecap.visualization import drawing

    monkeypatch.setattr(drawing, "_SYSTEM_FONTS", ())
    monkeypatch.setattr(drawing, "_PACKAGE", "no_such_font_package")
    drawing.font.cache_clear()
    sheet = view_sheet(gym, out=tmp_path / "sheet.png")
    drawing.font.cache_clear()
    assert sheet.lacking == {"深", "蹲"}


FOOTAGE = Footage((LocalFile(),), PyAV(), (PyAV(),))


@pytest.fixture
def filmed(tmp_path: Path) -> Path:
    """Two clips of a video that is there, one of a video that is gone; none has a preview."""
    video = numbered_footage.write_video(tmp_path / "numbered.mp4", frames=20, fps=10, size=(160, 96))
    media = Media(width=160, height=96, fps=10.0, codec="mpeg4", rotation_degrees=0, seconds=2.0)
    samples = [
        building.sample(
            key=key * 12,
            joints_MTJ3=building.walkers(frames=10),
            pts_T=np.arange(first, first + 10) / 10,
            span=Span(first / 10, first / 10 + 1),
            media=media,
            facts={"uri": uri, "source_id": file_sha256(video)},
        )
        for key, first, uri in (("ab", 0, str(video)), ("cd", 5, str(video)), ("ef", 5, str(tmp_path / "gone.mp4")))
    ]
    built.build(tmp_path / "filmed", {PartName("train", 0): samples})
    return tmp_path / "filmed"


def test_pictures_are_taken_from_footage_where_there_is_any(filmed: Path, tmp_path: Path) -> None:
    sheet = view_sheet(filmed, out=tmp_path / "sheet.png", footage=FOOTAGE)
    assert (sheet.clips, sheet.blank) == (3, 1)
    assert "gone.mp4: not_found" in sheet.why_blank
    red = (np.abs(np.asarray(Image.open(tmp_path / "sheet.png")).astype(int) - (220, 20, 20)).max(-1) < 40).sum()
    assert 2 * 80 * 48 * 0.8 < red < 2 * 80 * 48 * 1.2  # the red corners of two frames, 320 pixels wide
    blank = view_sheet(filmed, out=tmp_path / "blank.png", footage=FOOTAGE, background="blank")
    assert (blank.clips, blank.blank) == (3, 0)
    assert (np.abs(np.asarray(Image.open(tmp_path / "blank.png")).astype(int) - (220, 20, 20)).max(-1) < 40).sum() < 50


def test_without_footage_that_is_said(filmed: Path, tmp_path: Path) -> None:
    sheet = view_sheet(filmed, out=tmp_path / "sheet.png")
    assert (sheet.blank, sheet.why_blank) == (3, "no way to fetch footage was given")


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    """One kept row; of the others one never became a clip, and one gave three clips, two of which were rejected."""
    video = numbered_footage.write_video(tmp_path / "numbered.mp4", frames=30, fps=10, size=(160, 96))
    why = {"status": "rejected", "stage": "filter_people"}
    clips = (
        ClipOutcome(**why, start_seconds=0.0, end_seconds=1.0, reason="no_motion", detail="moves 0.001 sizes"),
        ClipOutcome(status="kept", clip_id="ab" * 12, start_seconds=1.0, end_seconds=2.0),
        ClipOutcome(**why, start_seconds=2.0, end_seconds=3.0, reason="low_confidence", detail="too few frames"),
    )
    more = [
        RowOutcome(row_id="r2", uri=str(video), status="kept", clips=clips),
        RowOutcome(
            row_id="r3", uri="notes.mp4", status="rejected", stage="download", reason="not_a_video", detail="HTML"
        ),
        RowOutcome(row_id="r4", uri="late.mp4", status="failed", stage="download", reason="timeout", retryable=True),
    ]
    (tmp_path / "rows.csv").write_text(f"id,video,label\nr2,{video},dips\nr3,notes.mp4,squats\nr4,late.mp4,dips\n")
    (tmp_path / "m.yaml").write_text(
        "name: n\nversion: '1'\nlicense: CC0-1.0\ncontact: a@b.org\npipeline: p.py\noutput: refused\n"
        "tables:\n  - path: rows.csv\n"
    )
    root = tmp_path / "refused"
    root.mkdir()
    make_plan(read_manifest(tmp_path / "m.yaml"), root / "plan.parquet")
    kept = built.samples(1)
    write_part(root, PartName("train", 0), kept, record=built.record(kept, more=more))
    write_dataset_list(root)
    return root


def test_what_was_rejected_is_shown_with_the_reasons(refused: Path, tmp_path: Path, captions: list[str]) -> None:
    sheet = view_rejected(refused, out=tmp_path / "sheet.png", footage=FOOTAGE)
    assert (sheet.clips, sheet.blank) == (3, 1)
    assert "notes.mp4: not_found" in sheet.why_blank
    first = captions[0].splitlines()
    assert first[:2] == ["low_confidence · dips", "too few frames"]
    assert first[2].endswith("numbered.mp4, 2.00 to 3.00 s")
    assert [caption.splitlines()[0] for caption in captions[1:]] == ["no_motion · dips", "not_a_video · squats"]
    assert captions[2].splitlines()[1:] == ["HTML", "notes.mp4"]
    red = (np.abs(np.asarray(Image.open(tmp_path / "sheet.png")).astype(int) - (220, 20, 20)).max(-1) < 40).sum()
    assert 2 * 80 * 48 * 0.8 < red < 2 * 80 * 48 * 1.2


def test_rejected_clips_of_a_label_and_reasons_take_turns(refused: Path, tmp_path: Path, captions: list[str]) -> None:
    assert view_rejected(refused, out=tmp_path / "sheet.png", choice=Choice(label="squats")).clips == 1
    assert captions[0].startswith("not_a_video · squats")
    sheet = view_rejected(refused, out=tmp_path / "sheet.png", choice=Choice(count=2))
    assert (sheet.clips, sheet.blank) == (2, 2)
    for choice in (Choice(split="val"), Choice(label="pull-ups")):
        with pytest.raises(ViewError, match=f"holds no rejected {choice}"):
            view_rejected(refused, out=tmp_path / "sheet.png", choice=choice)
    (refused / "plan.parquet").unlink()
    captions.clear()
    view_rejected(refused, out=tmp_path / "sheet.png")
    assert captions[0].splitlines()[0] == "low_confidence"
