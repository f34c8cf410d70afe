import re
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from posecap.builtin import pipelines
from posecap.cli import main
from posecap.manifest.importers import FolderSplit, from_folder, from_kinetics
from posecap.manifest.manifest_file import AutoSplit, ManifestError, read_manifest, split_ratios
from posecap.plan import Plan, make_plan
from posecap.types import Row
from tests import DATA
from tests.footage import write_sound, write_video

PIPELINE = Path("pipelines/default.py")
LIST = """\
label,youtube_id,time_start,time_end,split,is_cc
abseiling,0wR5jVB-WPk,417,427,val,0
run (fast),-aPS4FHFF8_,36,46,train,1
"""


def planned(folder: Path, name: str = "m.yaml") -> list[Row]:
    plan: Plan = make_plan(read_manifest(folder / name), folder / "plan.parquet")
    return [r.row for part in plan.parts() for r in plan.rows(part)]


def kinetics(folder: Path, text: str = LIST) -> Path:
    path = folder / "list.csv"
    path.write_text(text)
    return path


@cache
def video() -> bytes:
    with TemporaryDirectory() as folder:
        return write_video(Path(folder) / "video.mp4", codec="mpeg4", frames=2, size=(16, 16)).read_bytes()


def files(folder: Path, *names: str) -> Path:
    """The same small video under all names; ``.txt`` files have a word in them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"words" if name.endswith(".txt") else video())
    return folder


def test_a_kinetics_list_becomes_pages_with_spans(tmp_path: Path) -> None:
    made = from_kinetics(kinetics(tmp_path), tmp_path / "m.yaml", pipeline=PIPELINE)
    assert (made.rows, made.labels, made.rows_by_split, made.missing) == (2, 2, {"val": 1, "train": 1}, 0)
    one, two = sorted(planned(tmp_path), key=lambda row: row.split, reverse=True)
    assert (one.row_id, one.uri) == ("0wR5jVB-WPk_000417_000427", "https://www.youtube.com/watch?v=0wR5jVB-WPk")
    assert (one.start_seconds, one.end_seconds, one.label, one.license) == (417.0, 427.0, "abseiling", None)
    assert (two.label, two.license) == ("run (fast)", "CC-BY")


@pytest.mark.parametrize(("rows", "size"), [(2, 50), (1001, 100), (20_001, 1000)])
def test_parts_are_sized_to_what_there_is(tmp_path: Path, rows: int, size: int) -> None:
    lines = "".join(f"jumping,0wR5jVB-WPk,{number},{number + 1},train,0\n" for number in range(rows))
    header = LIST.partition("\n")[0]
    made = from_kinetics(kinetics(tmp_path, f"{header}\n{lines}"), tmp_path / "m.yaml", pipeline=PIPELINE)
    assert made.rows == rows
    assert read_manifest(made.manifest).rows_per_part == size


def test_trimmed_videos_are_found_by_their_usual_names_and_missing_ones_counted(tmp_path: Path) -> None:
    clips = files(tmp_path / "clips", "-aPS4FHFF8__000036_000046.mp4")
    made = from_kinetics(kinetics(tmp_path), tmp_path / "m.yaml", pipeline=PIPELINE, videos=clips)
    assert (made.rows, made.missing, made.examples) == (1, 1, ["0wR5jVB-WPk_000417_000427.mp4"])
    files(clips, "abseiling/0wR5jVB-WPk_000417_000427.MKV")
    made = from_kinetics(kinetics(tmp_path), tmp_path / "m.yaml", pipeline=PIPELINE, videos=clips, overwrite="yes")
    assert (made.rows, made.missing) == (2, 0)
    val = next(row for row in planned(tmp_path) if row.split == "val")
    assert val.location == (clips / "abseiling/0wR5jVB-WPk_000417_000427.MKV").as_posix()
    assert val.start_seconds is None  # the file is the span
    assert val.source == "https://www.youtube.com/watch?v=0wR5jVB-WPk"


def test_a_label_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    files(tmp_path, "0wR5jVB-WPk_000417_000427.mp4", "clips/other.mp4")
    text = "label,youtube_id,time_start,time_end\n..,0wR5jVB-WPk,417,427\n"
    with pytest.raises(ManifestError, match=r"1 row without a file, such as 0wR5jVB-WPk"):
        from_kinetics(kinetics(tmp_path, text), tmp_path / "m.yaml", pipeline=PIPELINE, videos=tmp_path / "clips")
    assert not list(tmp_path.glob("m.*"))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,short,1,2,val,0", "list.csv line 3: column 'youtube_id' is 'short'"),
        ("a,0wR5jVB-WPk,5,5,val,0", "list.csv line 3: columns 'time_start' and 'time_end' are '5' and '5'"),
        ("a,0wR5jVB-WPk,x,5,val,0", "are 'x' and '5'"),
        ("a,0wR5jVB-WPk", "are '' and ''"),
        ("caf\u00e9,0wR5jVB-WPk,1,2,val,0", "line 3: not UTF-8"),
        ('"a"b,0wR5jVB-WPk,1,2,val,0', "line 3: ',' expected after"),
    ],
)
def test_wrong_lines_of_a_kinetics_list_are_left_out_and_named(tmp_path: Path, row: str, words: str) -> None:
    header, first, last = LIST.splitlines()
    path = tmp_path / "list.csv"
    path.write_bytes(f"{header}\n{first}\n{row}\n{last}\n".encode("latin-1"))
    made = from_kinetics(path, tmp_path / "m.yaml", pipeline=PIPELINE)
    assert (made.rows, made.unusable) == (2, 1)
    assert words in made.examples[0]
    path.write_bytes(f"{header}\n{row}\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="none of its rows can be written") as caught:
        from_kinetics(path, tmp_path / "n.yaml", pipeline=PIPELINE)
    assert "1 row unusable, such as list.csv line 2" in str(caught.value)
    assert not list(tmp_path.glob("n.*"))


def test_lines_that_an_open_quote_takes_along_are_all_counted(tmp_path: Path) -> None:
    header, first, last = LIST.splitlines()
    text = f'{header}\n{first}\n"a,0wR5jVB-WPk,1,2,val,0\n{last}\n"b"c,0wR5jVB-WPk,1,2,val,0\n{last}\n'
    made = from_kinetics(kinetics(tmp_path, text), tmp_path / "m.yaml", pipeline=PIPELINE)
    assert (made.rows, made.unusable) == (2, 3)
    assert [example.partition(":")[0] for example in made.examples] == [f"list.csv line {n}" for n in (3, 4, 5)]


def test_what_is_no_kinetics_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no column youtube_id, time_start, time_end; it has a, b"):
        from_kinetics(kinetics(tmp_path, "a,b\n1,2\n"), tmp_path / "m.yaml", pipeline=PIPELINE)
    with pytest.raises(ManifestError, match="cannot be read"):
        from_kinetics(tmp_path / "none.csv", tmp_path / "m.yaml", pipeline=PIPELINE)


def test_a_folder_becomes_rows_with_labels_and_splits(tmp_path: Path) -> None:
    videos = files(
        tmp_path / "videos",
        "train/run/b.mp4", "train/run/a.MP4", "val/sports/jump/c.mkv", "loose.webm", "walk/d.avi", "walk/notes.txt",
        "walk/.hidden.mp4", ".cache/e.mp4", "test/clip:1.mp4", "walk/README",
    )  # fmt: skip
    made = from_folder(videos, tmp_path / "m.yaml", pipeline=PIPELINE)
    assert (made.rows, made.labels, made.rows_by_split) == (7, 3, {"train": 5, "val": 1, "test": 1})
    found = {Path(r.location).relative_to(videos).as_posix(): (r.label, r.split) for r in planned(tmp_path)}
    assert found == {
        "loose.webm": (None, "train"),
        "train/run/a.MP4": ("run", "train"),
        "train/run/b.mp4": ("run", "train"),
        "val/sports/jump/c.mkv": ("sports/jump", "val"),
        "walk/README": ("walk", "train"),  # what a file is its content tells
        "walk/d.avi": ("walk", "train"),
        "test/clip:1.mp4": (None, "test"),
    }


def test_what_is_no_video_is_counted_by_suffix_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = files(tmp_path / "videos", "run/a.mp4", "run/a.txt", "notes.TXT.txt")
    write_sound(videos / "run" / "song.m4a")
    (videos / "run" / "b.MP4").write_bytes(b"")
    (videos / "c.mp4").write_bytes(video()[:100])
    (videos / "d.mp4").symlink_to(videos / "gone")
    (videos / "LICENSE").write_text("You may.")
    made = from_folder(videos, tmp_path / "m.yaml", pipeline=PIPELINE)
    assert (made.rows, made.unusable) == (1, 0)
    assert made.passed_over == {
        (".txt", "text"): 2,
        (".m4a", "sound"): 1,
        (".mp4", "empty"): 1,
        (".mp4", "nothing that FFmpeg opens"): 1,
        (".mp4", "not readable"): 1,
        ("", "text"): 1,
    }
    words = made.passed_over_words(most=5)
    assert words.startswith("2 .txt (text), ")
    assert words.endswith(" and 1 others")
    assert "1 .mp4 (nothing that FFmpeg opens, such as 'c.mp4')" in made.passed_over_words()
    assert "1 without a suffix (text)" in made.passed_over_words()
    assert main(["manifest", "folder", str(videos), "--output", str(tmp_path / "n.yaml")]) == 0
    assert "passed over 7 files: 2 .txt (text), " in capsys.readouterr().out


def test_folders_that_may_be_meant_as_splits_are_named(tmp_path: Path) -> None:
    videos = files(tmp_path / "videos", "Train/run/a.mp4", "validation/b.mp4", "test/run/c.mp4", "run/valid/d.mp4")
    made = from_folder(videos, tmp_path / "m.yaml")
    assert made.like_splits == ["Train", "validation"]
    assert made.rows_by_split == {"train": 3, "test": 1}


def test_a_list_gets_a_pipeline_that_can_fetch_its_videos(tmp_path: Path) -> None:
    clips = files(tmp_path / "clips", "-aPS4FHFF8__000036_000046.mp4")
    from_kinetics(kinetics(tmp_path), tmp_path / "pages.yaml")
    from_kinetics(kinetics(tmp_path), tmp_path / "files.yaml", videos=clips)
    from_kinetics(kinetics(tmp_path), tmp_path / "mine.yaml", pipeline=PIPELINE)
    found = [read_manifest(tmp_path / f"{name}.yaml").pipeline for name in ("pages", "files", "mine")]
    assert found == [pipelines()["posecap_1m"], pipelines()["default"], PIPELINE.absolute()]


def test_names_that_no_table_can_hold_are_counted(tmp_path: Path) -> None:
    videos = files(tmp_path / "videos", "a.mp4", "b\n.mp4")
    made = from_folder(videos, tmp_path / "m.yaml", pipeline=PIPELINE)
    assert (made.rows, made.unusable, made.examples) == (1, 1, [r"'b\n.mp4'"])


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    videos = files(tmp_path / "videos", "run/a.mp4", "jump/b.mp4")
    files(tmp_path / "elsewhere", "c.mp4", "deep/d.mp4")
    (videos / "a_link").symlink_to(videos / "run")  # before run itself in the order of names
    (videos / "run" / "up").symlink_to(videos)
    (videos / "fly").symlink_to(tmp_path / "elsewhere")
    (videos / "walk").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (videos / "gone").symlink_to(tmp_path / "gone")
    (videos / "self").symlink_to(videos / "self")
    made = from_folder(videos, tmp_path / "m.yaml")
    assert {row.uri for row in planned(tmp_path)} == {"run/a.mp4", "jump/b.mp4", "fly/c.mp4", "walk/d.mp4"}
    assert (made.rows, made.repeated, made.unusable) == (4, 4, 0)
    assert made.passed_over == {("", "not readable"): 2}  # links to nothing and to themselves
    assert "leads to a folder whose videos have rows already" in made.examples[0]


def test_what_the_reader_refuses_is_not_written(tmp_path: Path) -> None:
    deep = "/".join("d" * 100 for _ in range(6))
    videos = files(tmp_path / "videos", "a.mp4", "run/b.mp4", f"{deep}/c.mp4", f"train/{deep[:500]}/d.mp4")
    made = from_folder(videos, tmp_path / "m.yaml")
    assert (made.rows, made.unusable, made.labels, made.unlabelled) == (3, 1, 2, 1)
    assert "column 'label'" in made.examples[0]
    assert "at most 512 characters" in made.examples[0]
    assert len(planned(tmp_path)) == 3


def test_the_manifest_names_what_it_needs(tmp_path: Path) -> None:
    videos = files(tmp_path / "my videos", "a.mp4")
    (tmp_path / "lists").mkdir()
    made = from_folder(videos, tmp_path / "lists" / "my set.yaml", pipeline=tmp_path / "p" / "demo.py")
    manifest = read_manifest(made.manifest)
    assert (manifest.name, manifest.pipeline) == ("my-set", tmp_path / "p" / "demo.py")
    assert manifest.media_root == videos.as_posix()
    assert manifest.output == tmp_path / "lists" / "datasets" / "my-set"
    assert made.to_fill == ("license", "contact")


def test_nothing_is_overwritten_unasked_and_the_list_never(tmp_path: Path) -> None:
    videos = files(tmp_path / "videos", "a.mp4")
    (tmp_path / "m.csv").write_text("mine")
    with pytest.raises(ManifestError, match=r"m\.csv: already exists"):
        from_folder(videos, tmp_path / "m.yaml", pipeline=PIPELINE)
    assert (tmp_path / "m.csv").read_text() == "mine"
    with pytest.raises(ManifestError, match="would replace the list itself"):
        from_kinetics(kinetics(tmp_path), tmp_path / "list.yaml", pipeline=PIPELINE, overwrite="yes")
    assert (tmp_path / "list.csv").read_text() == LIST
    with pytest.raises(ManifestError, match=r"ends in \.yaml"):
        from_folder(videos, tmp_path / "m.json", pipeline=PIPELINE)


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    with pytest.raises(ManifestError, match=r"there is no video in it or in its subfolders$"):
        from_folder(tmp_path / "videos", tmp_path / "m.yaml", pipeline=PIPELINE)
    files(tmp_path / "videos", "a.txt")
    with pytest.raises(
        ManifestError, match=r"there is no video in it or in its subfolders; passed over: 1 \.txt \(text"
    ):
        from_folder(tmp_path / "videos", tmp_path / "m.yaml", pipeline=PIPELINE)
    with pytest.raises(ManifestError, match="is not a folder"):
        from_folder(tmp_path / "none", tmp_path / "m.yaml", pipeline=PIPELINE)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows", "labels"), [("kinetics-400_val", 19_906, 400), ("kinetics-600_val", 30_000, 600)]
)
def test_the_real_lists(tmp_path: Path, name: str, rows: int, labels: int) -> None:
    path = DATA / "manifests" / f"{name}.csv"
    if not path.exists():
        pytest.skip("the Kinetics lists are not beside the checkout")
    made = from_kinetics(path, tmp_path / "m.yaml", pipeline=PIPELINE)
    assert (made.rows, made.labels, made.rows_by_split) == (rows, labels, {"val": rows})
    assert len({row.row_id for row in planned(tmp_path)}) == rows


class TestSplit:
    RULE = AutoSplit(ratios=split_ratios("0.5/0.25/0.25"))

    def test_each_label_has_its_share_in_every_split(self, tmp_path: Path) -> None:
        videos = files(tmp_path / "v", *(f"{label}/{n}.mp4" for label in ("jump", "run", "sit") for n in range(8)))
        made = from_folder(videos, tmp_path / "m.yaml", split=FolderSplit(rule=self.RULE))
        assert made.rows_by_split == {"train": 12, "val": 6, "test": 6}
        counts = Counter((row.label, row.split) for row in planned(tmp_path))
        for label in ("jump", "run", "sit"):
            assert [counts[label, split] for split in ("train", "val", "test")] == [4, 2, 2]

    def test_what_an_expression_finds_stays_together(self, tmp_path: Path) -> None:
        videos = files(tmp_path / "v", *(f"jump/p{n % 5}_{n}.mp4" for n in range(20)), "jump/nobody.mp4")
        split = FolderSplit(rule=self.RULE, group=re.compile(r"(p\d)_"))
        from_folder(videos, tmp_path / "m.yaml", split=split)
        of_person: dict[str, set[str]] = {}
        for row in planned(tmp_path):
            of_person.setdefault(Path(row.uri).name.split("_")[0], set()).add(row.split)
        assert len(of_person) == 6
        assert all(len(splits) == 1 for splits in of_person.values())

    def test_videos_that_are_added_move_no_others(self, tmp_path: Path) -> None:
        videos = files(tmp_path / "v", *(f"jump/{n}.mp4" for n in range(9)))
        split = FolderSplit(rule=self.RULE)
        from_folder(videos, tmp_path / "m.yaml", split=split)
        before = {row.uri: row.split for row in planned(tmp_path)}
        files(videos, *(f"{label}/new-{n}.mp4" for label in ("jump", "run") for n in range(9)))
        from_folder(videos, tmp_path / "m.yaml", split=split, overwrite="yes")
        after = {row.uri: row.split for row in planned(tmp_path)}
        assert len(after) == 27
        assert {uri: after[uri] for uri in before} == before

    def test_folders_of_splits_stay_what_they_are(self, tmp_path: Path) -> None:
        videos = files(tmp_path / "v", *(f"test/jump/{n}.mp4" for n in range(4)), *(f"jump/{n}.mp4" for n in range(4)))
        from_folder(videos, tmp_path / "m.yaml", split=FolderSplit(rule=self.RULE))
        assert {row.split for row in planned(tmp_path) if row.uri.startswith("test/")} == {"test"}

    def test_the_command_divides_too(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        videos = files(tmp_path / "v", *(f"jump/p{n % 4}-{n}.mp4" for n in range(12)))
        out = str(tmp_path / "m.yaml")
        asked = ["manifest", "folder", str(videos), "--output", out]
        assert main([*asked, "--split", "0.5/0.5", "--group-by", r"p\d", "--split-seed", "3"]) == 0
        assert "12 rows (6 test, 6 train)" in capsys.readouterr().out
        assert main([*asked, "--group-by", "p", "--overwrite"]) == 2
        for wrong in (["--split", "much"], ["--split", "0.5/0.5", "--group-by", "("]):
            with pytest.raises(SystemExit):
                main([*asked, *wrong])
