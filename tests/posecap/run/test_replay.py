"""An update goes on from stored results, runs what depends on the change, and leaves what a fresh build leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from posecap import staging
from posecap.build import BuildError, BuildResult
from posecap.progress import Progress
from posecap.removal import collect_garbage, remove
from posecap.run import execute
from posecap.run.replay import LazyFrames, RowFrames, StaleResultsError
from posecap.shards import Dataset, committed, read_sidecar, write_dataset_list
from posecap.shards.results import StoredClip, decode_results, read_results_list
from posecap.shards.sidecar import encode_document
from posecap.stage import Rejected, Stage
from posecap.stages.filter_people import FilterPeople
from posecap.storage import Location, open_storage
from posecap.types import Clip, PartName, PosedClip, Row, Span, StoredRow, Video
from posecap.verify import repair, verify
from posecap.visualization.contact_sheet import Thumbnail, write_preview
from tests import building, cheap, small

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


def everything(result: BuildResult) -> dict[str, bytes]:
    """What must be the same on every machine, with stored results and previews."""
    storage = open_storage(result.location)
    more = {
        file.name: storage.read(file.name, limit=1 << 30)
        for top in ("results", "preview")
        for file in storage.list(top)
    }
    return {**small.published(result.location), **more}


def fresh(folder: Path, media: Path, rows: Any = cheap.ROWS, **settings: Any) -> dict[str, bytes]:
    return everything(small.build(cheap.manifest(folder / "fresh", rows, media=media, **settings)))


def check(tmp_path: Path, result: BuildResult, rows: Any = cheap.ROWS, **settings: Any) -> None:
    """The dataset is sound, and that of a fresh build."""
    assert everything(result) == fresh(tmp_path, tmp_path, rows, **settings)
    assert verify(result.root).problems == ()
    assert not (result.root / ".staging").exists()


@dataclass(frozen=True)
class Cut(Stage):
    """Three clips of a row, and a rejected span between them; ``given`` counts them."""

    name: ClassVar[str] = "cut"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Clip

    given: list[int]
    clips: int = 3

    def __call__(self, item: Row) -> Iterator[Clip | Rejected]:
        for number in range(self.clips):
            self.given.append(number)
            yield clip(number)
            yield Rejected(Span(90, 91), "too_short")


def clip(number: int) -> Clip:
    return building.clip(seed=number, frames=4 + number)


def lazy(frames: RowFrames, number: int, **changes: Any) -> LazyFrames:
    """The frames of a clip as they were stored."""
    was = clip(number)
    known = {"pts_T": was.pts_T, "source_id": was.video.source_id, "shape": was.frames_THW3.shape, **changes}
    return LazyFrames(frames, number, **known)


def test_frames_of_several_clips_are_decoded_once_and_one_clip_is_held() -> None:
    stage = Cut([])
    with RowFrames(building.row(), (stage,)) as frames:
        first, last = lazy(frames, 0), lazy(frames, 2)
        assert (first.dtype, first.ndim, len(first), stage.given) == (np.uint8, 4, 4, [])
        assert np.array_equal(first, clip(0).frames_THW3)
        assert np.array_equal(first[[1, 3]], clip(0).frames_THW3[[1, 3]])
        assert np.array_equal(list(last), clip(2).frames_THW3)
        assert (stage.given, frames.decoded) == ([0, 1, 2], 10)
        assert np.array_equal(first[-1], clip(0).frames_THW3[-1])  # of an earlier one they are decoded again
        assert (stage.given, frames.decoded, frames.stale) == ([0, 1, 2, 0], 14, False)


@pytest.mark.parametrize(
    "use",
    [
        lambda frames: frames.mean(),
        lambda frames: frames.astype(np.float32).transpose(0, 3, 1, 2),
        lambda frames: 255 - frames,
        lambda frames: frames / 2 > 30,
        lambda frames: np.add.reduce(frames),
        lambda frames: np.median(frames, axis=0),
        lambda frames: frames.reshape(len(frames), -1),
    ],
)
def test_frames_are_used_as_any_array(use: Any) -> None:
    """An engine that a fresh build accepts is no error of an update."""
    with RowFrames(building.row(), (Cut([]),)) as frames:
        assert np.array_equal(use(lazy(frames, 1)), use(clip(1).frames_THW3))
        assert not hasattr(lazy(frames, 1), "no_such_method")


@pytest.mark.parametrize(
    "changes", [{"source_id": "e" * 64}, {"pts_T": np.arange(4) / 7}, {"shape": (4, 8, 8, 3)}, {}], ids=str
)
def test_frames_of_another_video_than_was_stored_are_stale(changes: dict[str, Any]) -> None:
    with RowFrames(building.row(), (Cut([], clips=3 if changes else 0),)) as frames:
        with pytest.raises(StaleResultsError):
            np.asarray(lazy(frames, 0, **changes))
        assert frames.stale


def test_a_fetched_file_is_deleted_once_nobody_asks_for_frames_any_more(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Fetch(Stage):
        name: ClassVar[str] = "fetch"
        takes: ClassVar[type] = Row
        gives: ClassVar[type] = Video

        def __call__(self, item: Row) -> Iterator[Video]:
            (tmp_path / "video").touch()
            yield replace(clip(0).video, path=tmp_path / "video", keeping="temporary")

    with RowFrames(building.row(), (Fetch(), Cut([]))) as frames:
        frames.clip(1)
        assert (tmp_path / "video").exists()
    assert not (tmp_path / "video").exists()


CHANGES: dict[str, tuple[str, set[str]]] = {
    "captions": ('changed("caption", templates=("somebody {}",))', {"text"}),
    "layout": ('changed("skeleton", layout="h36m17")', set[str]()),
    "joint score": ('changed("skeleton", joint_score=0.5)', set[str]()),
    "stricter": ('changed("filter_people", person_presence=0.8)', set[str]()),
    "one person": ('changed("filter_people", people=1)', set[str]()),
    "smoothing": (
        "at = [s.name for s in pipeline.stages].index('skeleton') + 1\n"
        "stages = (*pipeline.stages[:at], Smooth(filter=SavitzkyGolay()), *pipeline.stages[at:])\n"
        "pipeline = replace(pipeline, stages=stages)",
        set[str](),
    ),
    "text model": ('changed("embed", text=Letters(dimension=4))', {"text"}),
    "video model": ('changed("embed", video=Colours(frames=2))', {"fetch", "video"}),
    "pose model": ('changed("pose", estimator=Grid(width=0.5))', {"fetch", "pose"}),
    "detector": ('changed("track", detector=Blobs(people=3))', {"fetch", "pose", "detect"}),
    "decoder": ('changed("decode", long_side=32)', {"text", "fetch", "pose", "detect", "video"}),
    "larger thumbnails": ('changed("pack", thumbnail_side=40)', set[str]()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_runs_what_depends_on_it_and_no_more(tmp_path: Path, change: str) -> None:
    lines, executed = CHANGES[change]
    manifest = cheap.manifest(tmp_path)
    small.build(manifest)
    assert {*cheap.runs(manifest)} == {"fetch", "detect", "pose", "video", "text"}
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert {*cheap.runs(manifest)} == executed
    check(tmp_path, result, pipeline=lines)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the rows of clips among whose people was chosen, once for each clip."""
    rows, choose = list[str](), FilterPeople.__call__

    def choosing(self: FilterPeople, item: PosedClip) -> Iterator[PosedClip]:
        rows.append(item.row.row_id)
        return choose(self, item)

    monkeypatch.setattr(FilterPeople, "__call__", choosing)
    return rows


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the rows that went on from what is stored one by one, not as their part was written."""
    rows, one = list[str](), execute._execute_item

    def executing(stages: Sequence[Stage], item: Any, *others: Any) -> execute.ItemResult:
        if isinstance(item, StoredRow):
            rows.append(item.row.row_id)
        return one(stages, item, *others)

    monkeypatch.setattr(execute, "_execute_item", executing)
    return rows


FILTER = """\
from posecap.stages.filter_clips import FilterClips
at = [s.name for s in pipeline.stages].index("skeleton") + 1
stages = (*pipeline.stages[:at], FilterClips(where='label not in ["runs", "swims"]'), *pipeline.stages[at:])
pipeline = replace(pipeline, stages=stages)
"""
FAILING = """
@dataclass(frozen=True)
class Failing(Letters):
    name: ClassVar[str] = "failing"

    def embed_text(self, sentences):
        if "runs" in sentences:
            raise ValueError("of runs it has no vector")
        return Letters.embed_text(self, sentences)


changed("embed", text=Failing())"""


@pytest.mark.parametrize("change", ["captions", "text model"])
def test_samples_of_which_texts_alone_change_are_not_made_from_clips(
    tmp_path: Path, chosen: list[str], alone: list[str], change: str
) -> None:
    lines, _ = CHANGES[change]
    small.build(cheap.manifest(tmp_path))
    assert {*chosen} == {"span", "shots", "other"}
    chosen.clear()
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert chosen == alone == []
    check(tmp_path, result, pipeline=lines)


def test_rows_with_other_captions_label_or_license_keep_their_samples_where_no_clip_depends_on_these(
    tmp_path: Path, chosen: list[str]
) -> None:
    small.build(cheap.manifest(tmp_path))
    chosen.clear()
    span, shots, *rest = cheap.ROWS
    rows = ({**span, "captions": "Somebody strolls."}, {**shots, "label": "swims", "license": "CC0-1.0"}, *rest)
    result = small.build(cheap.manifest(tmp_path, rows), on_change="update")
    assert chosen == []
    check(tmp_path, result, rows)


def test_where_clips_are_filtered_by_the_label_a_row_with_another_one_is_made_from_its_clips(
    tmp_path: Path, chosen: list[str]
) -> None:
    span, shots, dark, broken, gone, other = cheap.ROWS
    before = (span, {**shots, "label": "walks"}, dark, broken, gone, other)
    small.build(cheap.manifest(tmp_path, before, pipeline=FILTER))
    chosen.clear()
    rows = (span, {**shots, "label": "strolls"}, dark, broken, gone, {**other, "captions": "Somebody jumps."})
    result = small.build(cheap.manifest(tmp_path, rows, pipeline=FILTER), on_change="update")
    assert {*chosen} == {"shots"}
    check(tmp_path, result, rows, pipeline=FILTER)


def test_a_row_of_which_no_clip_is_left_is_done_alone_where_clips_are_filtered_by_the_row(
    tmp_path: Path, alone: list[str]
) -> None:
    lines = "\n".join((FILTER, CHANGES["captions"][0]))
    small.build(cheap.manifest(tmp_path, pipeline=FILTER))
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert alone == ["dark"], "there is nobody in it; of the one whose label is left out the plan knows"
    check(tmp_path, result, pipeline=lines)


def test_a_row_whose_texts_get_no_vector_is_made_from_its_clips_which_say_so(
    tmp_path: Path, chosen: list[str], alone: list[str]
) -> None:
    small.build(cheap.manifest(tmp_path))
    chosen.clear()
    result = small.build(cheap.manifest(tmp_path, pipeline=FAILING), on_change="update")
    assert {*chosen} == {"shots"}
    assert sorted(alone) == ["dark", "shots", "span"], "the others of its part as well"
    check(tmp_path, result, pipeline=FAILING)


def test_samples_that_are_not_as_they_were_written_are_made_from_clips(tmp_path: Path, chosen: list[str]) -> None:
    lines, _ = CHANGES["captions"]
    root = small.build(cheap.manifest(tmp_path)).root
    (columns,) = (root / "data/val").glob("*.columns")
    content = bytearray(columns.read_bytes())
    content[-200] ^= 1
    columns.write_bytes(content)
    chosen.clear()
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert chosen == ["other"]
    check(tmp_path, result, pipeline=lines)


def test_after_a_crash_rows_are_done_one_by_one_so_that_each_is_noted(tmp_path: Path, alone: list[str]) -> None:
    lines, _ = CHANGES["captions"]
    root = small.build(cheap.manifest(tmp_path)).root
    (root / ".crash").write_text("Fatal Python error: Segmentation fault\n")
    (root / ".rows-under-way").write_bytes(b"")
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert sorted(alone) == ["dark", "other", "shots", "span"]
    check(tmp_path, result, pipeline=lines)


def test_clips_that_were_removed_do_not_come_back_with_new_texts(tmp_path: Path, alone: list[str]) -> None:
    lines, _ = CHANGES["captions"]
    root = small.build(cheap.manifest(tmp_path)).root
    (line,) = (line for line in index(root) if line["row_id"] == "span")
    remove(root, [line["key"]], reason="asked")
    small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert sorted(alone) == ["dark", "other", "shots"]
    assert {one["row_id"] for one in index(root)} == {"shots", "other"}
    assert verify(root).problems == ()


def test_a_part_that_cannot_be_written_with_new_texts_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: list[str]
) -> None:
    lines, _ = CHANGES["text model"]
    small.build(cheap.manifest(tmp_path))
    failed = set[PartName]()

    def preview(location: Location, part: PartName, thumbnails: Sequence[Thumbnail]) -> None:
        if thumbnails and part not in failed:
            failed.add(part)
            raise OSError("no space")
        write_preview(location, part, thumbnails)

    monkeypatch.setattr(staging, "write_preview", preview)
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert sorted(alone) == ["dark", "other", "shots", "span"]
    check(tmp_path, result, pipeline=lines)
    assert not [name for top in ("data", "index", "results") for name in (result.root / top).rglob(".*")]


def test_clips_that_a_looser_threshold_lets_through_are_decoded_for_their_vectors_alone(tmp_path: Path) -> None:
    strict = 'changed("filter_people", fewest_frames=18)'
    manifest = cheap.manifest(tmp_path, pipeline=strict)
    small.build(manifest)
    cheap.runs(manifest)
    result = small.build(cheap.manifest(tmp_path), on_change="update")
    done = cheap.runs(manifest)
    assert {*done} == {"fetch", "video", "text"}
    assert done["fetch"] < 3
    check(tmp_path, result)


def test_an_update_that_would_leave_no_row_changes_nothing(tmp_path: Path) -> None:
    root = small.build(cheap.manifest(tmp_path)).root
    before = small.published(root)
    table = tmp_path / "rows.csv"
    table.write_text(table.read_text().replace("label", "action", 1))
    with pytest.raises(BuildError, match=r"nothing was changed, as every row would be rejected, the first one as"):
        small.build(tmp_path / "manifest.yaml", on_change="update")
    assert small.published(root) == before


def test_edited_rows_cost_no_decoding_and_new_rows_cost_their_own(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path)
    small.build(manifest)
    cheap.runs(manifest)
    span, shots, dark, *rest = cheap.ROWS
    rows = (
        {"id": "new", "video": "one.mp4", "start": 0.2, "end": 0.9, "label": "new"},
        {**span, "label": "strolls", "split": "val"},
        {**shots, "id": "renamed", "captions": "Somebody runs."},
        dark,
        *rest,
    )
    result = small.build(cheap.manifest(tmp_path, rows), on_change="update")
    done = cheap.runs(manifest)
    assert (done["fetch"], done["detect"], done["video"]) == (1, 1, 1)
    check(tmp_path, result, rows)


def test_nothing_is_stored_where_the_manifest_says_so_and_an_update_takes_the_videos(tmp_path: Path) -> None:
    lines, _ = CHANGES["captions"]
    manifest = cheap.manifest(tmp_path, keep="none")
    built = small.build(manifest)
    assert not (built.root / "results").exists()
    first = cheap.runs(manifest)
    result = small.build(cheap.manifest(tmp_path, keep="none", pipeline=lines), on_change="update")
    assert cheap.runs(manifest) == first
    check(tmp_path, result, keep="none", pipeline=lines)


def test_what_is_stored_can_be_used_and_then_be_stored_no_more(tmp_path: Path) -> None:
    lines, executed = CHANGES["captions"]
    manifest = cheap.manifest(tmp_path)
    small.build(manifest)
    cheap.runs(manifest)
    result = small.build(cheap.manifest(tmp_path, keep="none", pipeline=lines), on_change="update")
    assert {*cheap.runs(manifest)} == executed
    check(tmp_path, result, keep="none", pipeline=lines)


CAPTIONED = 'changed("caption", captioners=(WordsOfPeople(), Words(word="light")))\n'


@pytest.mark.parametrize(
    ("change", "executed"),
    [
        ("text model", {"text"}),
        ("captions", {"text"}),
        ("layout", {"fetch", "write"}),
        ("one person", {"fetch", "write", "text"}),
        ("video model", {"fetch", "video"}),
        ("decoder", {"text", "fetch", "pose", "detect", "video", "write"}),
    ],
)
def test_captioners_are_asked_again_where_what_they_look_at_has_changed(
    tmp_path: Path, change: str, executed: set[str]
) -> None:
    manifest = cheap.manifest(tmp_path, keep="all", pipeline=CAPTIONED)
    small.build(manifest)
    written = cheap.runs(manifest)["write"]
    lines = CAPTIONED + CHANGES[change][0]
    result = small.build(cheap.manifest(tmp_path, keep="all", pipeline=lines), on_change="update")
    done = cheap.runs(manifest)
    assert {*done} == executed
    both = change in ("one person", "decoder")  # the first looks at how many people there are, and at no joints
    assert done["write"] == (0 if "write" not in executed else written if both else written // 2)
    check(tmp_path, result, keep="all", pipeline=lines)


def test_a_captioner_that_takes_another_place_keeps_its_sentences_and_a_new_one_is_asked(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path, keep="all", pipeline=CAPTIONED)
    small.build(manifest)
    written = cheap.runs(manifest)["write"]
    lines = 'changed("caption", most=9, captioners=(Words(word="dim"), Words(word="light"), WordsOfPeople()))\n'
    result = small.build(cheap.manifest(tmp_path, keep="all", pipeline=lines), on_change="update")
    assert cheap.runs(manifest)["write"] == written // 2
    assert everything(result) == fresh(tmp_path / "with", tmp_path, keep="all", pipeline=lines)
    result = small.build(cheap.manifest(tmp_path, keep="all"), on_change="update")
    check(tmp_path, result, keep="all")
    assert "words" not in repr(stored_clips(result.root))


def test_sentences_are_stored_where_all_is_kept_and_used_wherever_they_are(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path, pipeline=CAPTIONED)
    root = small.build(manifest).root
    assert not any(clip.sentences for clip in stored_clips(root))
    written = cheap.runs(manifest)["write"]
    lines = CAPTIONED + CHANGES["text model"][0]
    small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update", keep_intermediates="all")
    assert cheap.runs(manifest)["write"] == written
    assert all(len(clip.sentences) == 2 for clip in stored_clips(root) if clip.video_vector is not None)
    assert collect_garbage(root) == []
    result = small.build(cheap.manifest(tmp_path, pipeline=CAPTIONED), on_change="update")
    assert not cheap.runs(manifest)["write"]
    check(tmp_path, result, pipeline=CAPTIONED)


def test_captioners_are_not_asked_again_about_clips_that_have_too_few_sentences(tmp_path: Path) -> None:
    few = CAPTIONED + 'changed("caption", fewest=8)\n'
    manifest = cheap.manifest(tmp_path, keep="all", pipeline=few)
    root = small.build(manifest).root
    assert cheap.runs(manifest)["write"]
    assert {len(clip.sentences) for clip in stored_clips(root)} == {0, 2}  # none of clips that end before
    lines = few + CHANGES["text model"][0]
    result = small.build(cheap.manifest(tmp_path, keep="all", pipeline=lines), on_change="update")
    assert not cheap.runs(manifest)["write"]
    check(tmp_path, result, keep="all", pipeline=lines)


def stored_clips(root: Path) -> list[StoredClip]:
    """Every clip of which something is stored."""
    storage, found = open_storage(root), list[StoredClip]()
    for part in committed(storage):
        stored = read_results_list(storage, part)
        for entry in () if stored is None else stored.entries:
            if entry.results is not None:
                at = entry.results.at
                block = storage.read_range(at.file, at.offset, at.size)
                clips = decode_results(block, name=at.file).entries
                found += [clip for clip in clips if isinstance(clip, StoredClip)]
    return found


def stop(manifest: Path, monkeypatch: pytest.MonkeyPatch, *, after: int, **options: Any) -> None:
    """A build that ends with an error after so many rows."""
    count, seen = Progress.row, list[Any]()

    def stopping(self: Progress, row: Any) -> None:
        seen.append(row)
        count(self, row)
        if len(seen) > after:
            raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "row", stopping)
        with pytest.raises(OSError, match="the disk is gone"):
            small.build(manifest, **options)


@pytest.mark.parametrize("change", ["captions", "pose model", "decoder"])
def test_rows_that_a_stopped_build_had_done_are_used_by_another_pipeline_as_far_as_they_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    rows = [{"id": f"{n}", "video": "one.mp4", "start": n / 20, "end": 0.5 + n / 20, "label": "runs"} for n in range(5)]
    lines, _ = CHANGES[change]
    manifest = cheap.manifest(tmp_path, rows, rows_per_part=10)
    stop(manifest, monkeypatch, after=3)
    cheap.runs(manifest)
    result = small.build(cheap.manifest(tmp_path, rows, pipeline=lines, rows_per_part=10))
    done = cheap.runs(manifest)
    # The fourth row may be done and not be entered yet when the build is stopped.
    used = {"captions": ("fetch", "detect", "pose"), "pose model": ("detect",), "decoder": ()}[change]
    assert all(1 <= done[what] <= 2 for what in used)
    others = {"fetch", "detect", "pose"} - {*used}
    assert all(done[what] == 5 for what in others)
    check(tmp_path, result, rows, pipeline=lines, rows_per_part=10)


def test_rows_of_an_update_that_was_stopped_go_before_those_of_the_part_that_it_would_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = cheap.manifest(tmp_path, rows_per_part=10)
    small.build(manifest)
    pose, captions = CHANGES["pose model"][0], CHANGES["captions"][0]
    stop(cheap.manifest(tmp_path, pipeline=pose, rows_per_part=10), monkeypatch, after=5, on_change="update")
    cheap.runs(manifest)
    lines = f"{pose}\n{captions}"
    result = small.build(cheap.manifest(tmp_path, pipeline=lines, rows_per_part=10), on_change="update")
    assert cheap.runs(manifest)["pose"] < 3
    check(tmp_path, result, pipeline=lines, rows_per_part=10)


@pytest.mark.parametrize("after", [2, 3, 5])
def test_rows_that_were_renewed_when_a_build_was_stopped_are_renewed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    lines, _ = CHANGES["captions"]
    small.build(cheap.manifest(tmp_path))
    stop(cheap.manifest(tmp_path, pipeline=lines), monkeypatch, after=after, on_change="update")
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    check(tmp_path, result, pipeline=lines)


def harm(root: Path, what: str) -> None:
    for path in (root / "results").iterdir():
        content = bytearray(path.read_bytes())
        if what == "blocks":
            content[60] ^= 1
        elif what == "list":
            content[-60] ^= 1
        path.write_bytes(content)
        if what == "gone":
            path.unlink()


@pytest.mark.parametrize("what", ["blocks", "list", "gone"])
def test_rows_with_damaged_results_are_done_from_the_beginning(tmp_path: Path, what: str) -> None:
    lines, _ = CHANGES["captions"]
    manifest = cheap.manifest(tmp_path)
    built = small.build(manifest)
    harm(built.root, what)
    cheap.runs(manifest)
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert cheap.runs(manifest)["detect"]
    check(tmp_path, result, pipeline=lines)


def test_a_video_that_was_replaced_is_done_from_the_beginning_once_its_frames_are_wanted(tmp_path: Path) -> None:
    lines, _ = CHANGES["video model"]
    manifest = cheap.manifest(tmp_path)
    small.build(manifest)
    cheap.runs(manifest)
    (tmp_path / "one.mp4").write_bytes((tmp_path / "two.mp4").read_bytes())
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert cheap.runs(manifest)["detect"] == 2  # of the two rows of that video
    check(tmp_path, result, pipeline=lines)


def test_three_updates_in_a_row_lose_nothing(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path)
    small.build(manifest)
    for change in ("captions", "pose model", "stricter"):
        cheap.runs(manifest)
        lines, _ = CHANGES[change]
        result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
        assert not cheap.runs(manifest)["detect"]
    check(tmp_path, result, pipeline=lines)


@pytest.mark.parametrize("change", ["captions", "stricter"])
def test_stored_video_is_taken_from_the_samples_that_were(tmp_path: Path, change: str) -> None:
    lines, executed = CHANGES[change]
    manifest = cheap.manifest(tmp_path, store_video="clip")
    small.build(manifest)
    cheap.runs(manifest)
    result = small.build(cheap.manifest(tmp_path, store_video="clip", pipeline=lines), on_change="update")
    assert {*cheap.runs(manifest)} == executed
    check(tmp_path, result, store_video="clip", pipeline=lines)


def test_stored_video_of_another_encoder_or_that_is_damaged_is_made_from_the_frames(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path, store_video="clip")
    root = small.build(manifest).root
    first = cheap.runs(manifest)
    lines = 'changed("pack", encoder=Bytes(step=6))'
    small.build(cheap.manifest(tmp_path, store_video="clip", pipeline=lines), on_change="update")
    assert cheap.runs(manifest) == {"fetch": 3, "encode": first["encode"]}
    (tar,) = (root / "data/val").glob("video-*.tar")
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.write_bytes(content)
    lines += "\n" + CHANGES["stricter"][0].replace("0.8", "0.3")
    result = small.build(cheap.manifest(tmp_path, store_video="clip", pipeline=lines), on_change="update")
    assert cheap.runs(manifest) == {"fetch": 1, "encode": 1}
    check(tmp_path, result, store_video="clip", pipeline=lines)


def test_vectors_of_sentences_come_from_samples_that_are_as_they_were_written(tmp_path: Path) -> None:
    lines, _ = CHANGES["stricter"]
    manifest = cheap.manifest(tmp_path)
    root = small.build(manifest).root
    cheap.runs(manifest)
    (columns,) = (root / "data/val").glob("*.columns")
    content = bytearray(columns.read_bytes())
    content[-200] ^= 1
    columns.write_bytes(content)
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert cheap.runs(manifest) == {"text": 1}
    check(tmp_path, result, pipeline=lines)


def test_a_part_that_is_lost_comes_back_from_its_results(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path)
    built = small.build(manifest)
    before = everything(built)
    cheap.runs(manifest)
    (built.root / "data/train/pose-00000.tar").unlink()
    assert everything(small.build(manifest)) == before
    assert not cheap.runs(manifest)


def test_results_are_checked_and_can_be_moved_aside(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path)
    root = small.build(manifest).root
    harm(root, "blocks")
    (root / "results" / "train-00009.results").write_bytes(b"of no part")
    found = verify(root)
    assert [(problem.file, problem.part) for problem in found.problems] == [
        ("results/train-00000.results", None),
        ("results/train-00001.results", None),
        ("results/val-00000.results", None),
        ("results/train-00009.results", None),
    ]
    assert repair(root, found.problems).parts == ()
    assert verify(root).problems == ()
    assert small.build(manifest).parts_built == 0


@pytest.mark.parametrize("by", ["key", "source"])
def test_what_is_removed_leaves_no_results_and_is_stored_no_more(tmp_path: Path, by: str) -> None:
    manifest = cheap.manifest(tmp_path)
    root = small.build(manifest).root
    (line,) = (line for line in index(root) if line["row_id"] == "span")
    if by == "key":
        remove(root, [line["key"]], reason="asked")
    else:
        remove(root, sources=[line["source_id"]], reason="asked")
    assert verify(root).problems == ()
    gone = {"span"} if by == "key" else {"span", "other"}
    lines, _ = CHANGES["captions"]
    assert {"span", "shots", "other"} - stored_rows(root) == gone
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update")
    assert {"span", "shots", "other"} - stored_rows(result.root) == gone
    assert verify(root).problems == ()


@pytest.mark.parametrize("by", ["key", "source"])
def test_sentences_about_who_was_removed_are_gone_and_verify_looks_for_them(tmp_path: Path, by: str) -> None:
    root = small.build(cheap.manifest(tmp_path, keep="all", pipeline=CAPTIONED)).root
    (line,) = (line for line in index(root) if line["row_id"] == "other")
    file = root / "results/val-00000.results"
    before, sidecar = file.read_bytes(), read_sidecar(root, PartName("val", 0))
    assert any("light" in text for clip in stored_clips(root) for one in clip.sentences.values() for text in one.texts)
    remove(
        root, [line["key"]] if by == "key" else [], sources=[line["source_id"]] if by == "source" else [], reason="x"
    )
    assert not file.exists()
    assert "other" not in stored_rows(root)
    assert verify(root).problems == ()
    file.write_bytes(before)  # as after a removal by a program that knows nothing of them
    changed = {**read_sidecar(root, PartName("val", 0)), "results": sidecar["results"]}
    (root / "data/val/pose-00000.json").write_bytes(encode_document(changed))
    write_dataset_list(root)
    (problem,) = verify(root).problems
    named = f"`posecap remove {line['key']}`" if by == "key" else f"`posecap remove --source {line['source_id']}`"
    assert (problem.file, problem.remedy) == ("results/val-00000.results", f"run {named} again")


def index(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Dataset(root).index().to_table(["key", "source_id", "row_id"]).to_pylist()
    return found


def stored_rows(root: Path) -> set[str]:
    """Ids of the rows of which something is stored."""
    storage = open_storage(root)
    lists = [read_results_list(storage, part) for part in committed(storage)]
    return {entry.row_id for found in lists if found is not None for entry in found.entries}


def test_results_of_parts_that_are_gone_do_not_outlast_a_removal(tmp_path: Path) -> None:
    manifest = cheap.manifest(tmp_path)
    root = small.build(manifest).root
    (root / "data/val/pose-00000.json").unlink()
    remove(root, [index(root)[0]["key"]], reason="asked")
    assert not (root / "results" / "val-00000.results").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", ["captions", "video model"])
def test_rays_workers_go_on_from_what_threads_stored(tmp_path: Path, ray_cluster: Cluster, change: str) -> None:
    lines, executed = CHANGES[change]
    manifest = cheap.manifest(tmp_path)
    small.build(manifest)
    cheap.runs(manifest)
    by_ray = {"runner": "ray", "address": ray_cluster.address}
    result = small.build(cheap.manifest(tmp_path, pipeline=lines), on_change="update", **by_ray)
    assert {*cheap.runs(manifest)} == executed
    check(tmp_path, result, pipeline=lines)


@pytest.mark.slow
def test_an_update_in_an_object_store_goes_on_from_what_is_stored_there(tmp_path: Path, bucket: str) -> None:
    lines, executed = CHANGES["captions"]
    manifest, output = cheap.manifest(tmp_path), f"{bucket}/poses"
    small.build(manifest, output=output)
    cheap.runs(manifest)
    cheap.manifest(tmp_path, pipeline=lines)
    result = small.build(manifest, output=output, on_change="update")
    assert {*cheap.runs(manifest)} == executed
    assert everything(result) == fresh(tmp_path, tmp_path, pipeline=lines)
    assert verify(result.location).problems == ()
