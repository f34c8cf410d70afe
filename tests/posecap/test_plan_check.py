"""What ``posecap plan`` says will happen is what ``posecap build`` then does."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from posecap.build import pipeline_of
from posecap.engines.ytdlp import YtDlp
from posecap.manifest.manifest_file import read_manifest
from posecap.pipeline import load_pipeline
from posecap.plan import make_plan
from posecap.plan_check import SECONDS_PER_FRAME, Forecast, forecast, show_forecast
from posecap.run.local import cores
from posecap.stages.download import Download
from tests import cheap, small

ROWS: list[dict[str, Any]] = [
    small.KEPT,
    {"id": "whole", "video": "people.mp4", "label": "balancing"},
    small.MISSING,
    {"id": "pointer", "video": "pointer.mp4", "label": "balancing"},
    {"id": "page", "video": "page.mp4", "label": "balancing"},
    {"id": "mute", "video": "people.mp4"},
    {"id": "wrong", "video": "people.mp4", "start": "1:30", "label": "balancing"},
    {**small.KEPT, "id": "again"},
    {"id": "far", "video": "https://example.org/a.mp4", "start": 2, "end": 6, "label": "x", "split": "trian"},
]


def forecast_of(path: Path) -> Forecast:
    manifest = read_manifest(path)
    plan = make_plan(manifest, path.with_name("plan.parquet"))
    return forecast(manifest, plan, pipeline_of(manifest))


def printed(found: Forecast) -> str:
    text = StringIO()
    show_forecast(found, Console(file=text, width=200))
    return text.getvalue()


@pytest.fixture
def videos(media: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "people.mp4").symlink_to(media / "people.mp4")
    (folder / "pointer.mp4").write_text("version https://git-lfs.github.com/spec/v1\nsize 5\n")
    (folder / "page.mp4").write_text("<html>")
    return folder


def test_a_forecast_says_what_a_build_then_says(videos: Path, tmp_path: Path) -> None:
    path = small.manifest(tmp_path / "m", ROWS[:-1], media_root=videos)
    found = forecast_of(path)
    assert found.rejected == {
        "not_found": 1, "not_a_video": 2, "no_caption": 1, "bad_cell": 1, "duplicate": 1
    }  # fmt: skip
    assert found.examples["not_found"].startswith("rows.csv:4: nowhere.mp4 cannot be opened")
    assert found.examples["not_a_video"].startswith("rows.csv:5: pointer.mp4 is a Git LFS pointer")
    assert found.output.endswith("dataset: nothing is built yet")
    rejected = small.build(path).report["counts"]["reasons"]
    assert {reason: rejected[reason] for reason in found.rejected} == found.rejected
    again = forecast_of(path)
    assert again.output.endswith("dataset: 4 of 4 planned parts are built")
    assert (again.work_seconds, again.measured) == (0.0, True)
    path.write_text(path.read_text().replace("rows_per_part: 2", "rows_per_part: 5"))
    changed = forecast_of(path)
    assert "0 of 2 planned parts are built, 4 no longer fit (" in changed.output
    assert "build with --update, or into another --output" in changed.output


def test_an_id_of_youtube_is_no_missing_file(tmp_path: Path) -> None:
    """LocalFile accepts it too, but an engine before it does, and that one fetches the video."""
    row = {"id": "a", "video": "youtube:dQw4w9WgXcQ", "start": 2, "end": 6, "label": "dancing"}
    path = small.manifest(tmp_path / "m", [row])
    manifest = read_manifest(path)
    pipeline = load_pipeline(manifest.pipeline)
    download, *others = pipeline.stages
    assert isinstance(download, Download)
    with_youtube = replace(download, fetchers=(YtDlp(), *download.fetchers))
    found = forecast(
        manifest, make_plan(manifest, tmp_path / "plan"), replace(pipeline, stages=(with_youtube, *others))
    )
    assert not found.rejected
    assert found.footage_seconds == 4
    assert forecast_of(path).rejected == {"not_found": 1}  # as a build of the pipeline without YtDlp says


def test_footage_is_spans_and_what_files_state(videos: Path, tmp_path: Path) -> None:
    found = forecast_of(small.manifest(tmp_path / "m", ROWS, media_root=videos))
    assert (found.probed, found.assumed, found.examined) == (1, 0, 9)
    assert found.footage_seconds == pytest.approx(0.5 + 4 + found.mean_seconds)
    assert found.work_seconds == pytest.approx(found.footage_seconds * 30 * SECONDS_PER_FRAME / cores())


def test_spans_beyond_the_end_of_a_video_are_rejected_as_a_build_does(videos: Path, tmp_path: Path) -> None:
    spans = {"behind": (10, 12), "mostly": (0, 2), "inside": (0, 0.5), "just": (0, 0.6), "open": (3, "")}
    rows = [{**small.KEPT, "id": name, "start": start, "end": end} for name, (start, end) in spans.items()]
    path = small.manifest(tmp_path / "m", rows, media_root=videos)
    found = forecast_of(path)
    assert found.rejected == {"span_outside_video": 3}
    assert "people.mp4 ends at 0.500 s, and the row's span is from 10 to 12 s" in found.examples["span_outside_video"]
    assert found.footage_seconds == pytest.approx(1.1)
    assert small.build(path).report["counts"]["reasons"] == {"span_outside_video": 3}


def test_videos_that_become_several_clips_are_counted(media: Path, tmp_path: Path) -> None:
    rows = [{"id": "whole", "video": "people.mp4", "label": "a"}, {**small.KEPT, "video": "shots.mp4"}]
    path = small.manifest(tmp_path / "m", rows, media_root=media)
    assert not forecast_of(path).longer
    pipeline = path.with_name("pipeline.py")
    pipeline.write_text(
        pipeline.read_text().replace('"shortest_seconds": 0.3}', '"shortest_seconds": 0.1, "longest_seconds": 0.4}', 1)
    )
    found = forecast_of(path)
    assert (found.longer, found.longest_seconds) == (1, 0.4)
    assert "clips: of the 1 files read for rows without an end, 1 are longer than 0.4 s and become" in printed(found)


def test_lengths_that_are_assumed_are_said_to_be(videos: Path, tmp_path: Path) -> None:
    far = [{"id": f"far{n}", "video": f"https://example.org/{n}.mp4", "label": "x"} for n in range(3)]
    found = forecast_of(small.manifest(tmp_path / "m", [small.KEPT, *far], media_root=videos))
    assert (found.probed, found.assumed, found.footage_seconds) == (0, 3, 30.5)
    assert "footage: 0:30 (assumed: 10 s for each of 3 rows without an end)" in printed(found)
    both = forecast_of(small.manifest(tmp_path / "n", [ROWS[1], *far], media_root=videos))
    assert (both.probed, both.assumed) == (1, 3)
    assert "read from 1 files, and assumed for 3 more)" in printed(both)


def test_a_media_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = forecast_of(small.manifest(tmp_path / "m", [small.KEPT], media_root=tmp_path / "none"))
    assert found.rejected == {"not_found": 1}
    warning, every = found.warnings
    assert every.startswith("every row will be rejected")
    assert warning == f"there is no folder {tmp_path / 'none'}: correct 'media_root' in {tmp_path / 'm/manifest.yaml'}"
    assert not forecast_of(small.manifest(tmp_path / "n", [small.KEPT], media_root="https://example.org/a")).warnings


def test_what_people_overlook_is_named(videos: Path, tmp_path: Path) -> None:
    path = small.manifest(tmp_path / "m", ROWS, media_root=videos)
    table = path.with_name("rows.csv")
    table.write_text(table.read_text().replace("captions,split,license", "captions,split,kind", 1))
    text = path.read_text().replace("BSD-3-Clause", "unknown")
    path.write_text(text.replace("https://example.org/contact", "somebody@example.org"))
    warnings = "\n".join(forecast_of(path).warnings)
    assert "'license: unknown' is a placeholder" in warnings
    assert "'contact: somebody@example.org' is a placeholder" in warnings
    assert "rows.csv: nothing reads 'kind'" in warnings
    assert "split 'trian' has 1 row: did you mean 'train'?" in warnings


def test_that_every_row_will_be_rejected_and_that_no_near_duplicates_are_known_is_said(tmp_path: Path) -> None:
    rows = [{**small.KEPT, "label": "", "captions": ""}]
    path = small.manifest(tmp_path, rows, media_root="https://example.org/a")
    path.write_text(path.read_text() + "near_duplicates: one_split\n")
    every, none = forecast_of(path).warnings
    assert every.startswith("every row will be rejected: the dataset would have no clips, and an update would remove")
    assert "moves no row: none are known of" in none
    assert "run `posecap duplicates`, and build it again with --update" in none


def test_it_is_printed(videos: Path, tmp_path: Path) -> None:
    text = printed(forecast_of(small.manifest(tmp_path / "m", ROWS, media_root=videos)))
    for word in ("will be rejected", "no_caption", "a clock time", "footage: 0:0", "read from 1 files", "did you mean"):
        assert word in text


def of_stages(found: Forecast) -> dict[str, tuple[int, int]]:
    """How many items of each stage are used again, and how many it runs on again."""
    return {one.stage: (one.reused, one.again) for one in found.stages}


@pytest.mark.parametrize(
    ("lines", "again", "why"),
    [
        ('changed("caption", templates=("{}",))', (), {"caption": "caption.templates", "pack": "comes behind caption"}),
        ('changed("skeleton", joint_score=0.5)', ("filter_people", "skeleton"), {"skeleton": "skeleton.joint_score"}),
        (
            'changed("embed", video=Colours(frames=2))',
            ("download", "split", "decode", "filter_people", "skeleton"),
            {"decode": "embed looks at"},
        ),
        (
            'changed("track", detector=Blobs(people=1))',
            ("download", "split", "decode", "track", "pose", "filter_people", "skeleton"),
            {},
        ),
        (
            'changed("decode", long_side=32)',
            ("download", "split", "decode", "track", "pose", "filter_people", "skeleton"),
            {"pose": "behind decode"},
        ),
    ],
)
def test_a_plan_tells_what_an_update_uses_again_and_what_it_runs(
    tmp_path: Path, lines: str, again: tuple[str, ...], why: dict[str, str]
) -> None:
    path = cheap.manifest(tmp_path)
    small.build(path)
    assert forecast_of(path).stages == []
    found = forecast_of(cheap.manifest(tmp_path, pipeline=lines))
    assert {one.stage for one in found.stages if one.again} == {*again, "caption", "embed", "pack"}
    counts = of_stages(found)
    assert (sum(counts["download"]), sum(counts["decode"]), sum(counts["track"])) == (6, 8, 7)
    assert sum(counts["pack"]) == 5
    assert all(one.seconds is not None for one in found.stages)
    for stage, words in why.items():
        assert words in next(one.why for one in found.stages if one.stage == stage)
    assert "run again" in printed(found)
    assert found.work_seconds is not None
    assert found.work_seconds * cores() == pytest.approx(sum(one.seconds or 0.0 for one in found.stages))


def test_a_plan_counts_the_clips_about_which_captioners_are_asked_again(tmp_path: Path) -> None:
    captioned = 'changed("caption", captioners=(Words(),))\n'
    small.build(cheap.manifest(tmp_path, keep="all", pipeline=captioned))

    def forecast(lines: str) -> dict[str, tuple[int, int]]:
        return of_stages(forecast_of(cheap.manifest(tmp_path, keep="all", pipeline=captioned + lines)))

    counts = forecast('changed("embed", text=Letters(dimension=4))')
    assert (counts["caption"], counts["decode"]) == ((5, 0), (8, 0))
    counts = forecast('changed("skeleton", layout="h36m17")')
    assert (counts["caption"], counts["decode"]) == ((0, 5), (0, 8))
    assert forecast('changed("caption", captioners=(Words(word="dim"),))')["caption"] == (0, 5)
    counts = forecast('changed("caption", captioners=(WordsOfPeople(),))')
    assert (counts["caption"], counts["decode"], counts["track"]) == ((0, 5), (0, 8), (7, 0))


def test_a_plan_says_which_extra_members_are_made(tmp_path: Path) -> None:
    names = 'pipeline = replace(pipeline, extra={"text.more": Letters(dimension=4), "video.few": Colours(frames=%d)})\n'
    path = cheap.manifest(tmp_path, pipeline=names % 2)
    text, video = forecast_of(path).extra
    assert text == "text.more, by letters: made for 3 of 3 parts at most, from captions alone"
    assert video.startswith("video.few, by colours: made for 3 of 3 parts at most, for which clips are decoded once")
    small.build(path)
    found = forecast_of(path)
    assert found.extra == ["text.more, by letters: is there", "video.few, by colours: is there"]
    assert "extra member text.more, by letters: is there" in printed(found)
    text, video = forecast_of(cheap.manifest(tmp_path, pipeline=names % 1)).extra
    assert text == "text.more, by letters: is there"
    assert video.endswith("2 parts made otherwise: build with --update, which makes it anew")
    changed = names % 2 + 'changed("caption", templates=("{}",))'
    text, _ = forecast_of(cheap.manifest(tmp_path, pipeline=changed)).extra
    assert text == "text.more, by letters: made for 3 of 3 parts at most, from captions alone"  # one had no sample
    wrong = 'pipeline = replace(pipeline, extra={"video.no": Letters()})\n'
    assert any("is no VideoEmbedder" in line for line in forecast_of(cheap.manifest(tmp_path, pipeline=wrong)).warnings)


def test_without_stored_results_an_update_runs_every_stage(tmp_path: Path) -> None:
    path = cheap.manifest(tmp_path, keep="none")
    small.build(path)
    found = forecast_of(cheap.manifest(tmp_path, keep="none", pipeline='changed("caption", templates=("{}",))'))
    assert not any(one.reused for one in found.stages)
    assert found.stages[0].why == "nothing is stored of it with this pipeline"


def test_a_dataset_with_stored_video_that_is_built_is_what_is_planned(tmp_path: Path) -> None:
    path = cheap.manifest(tmp_path, store_video="clip")
    small.build(path)
    found = forecast_of(path)
    assert found.output.endswith("3 of 3 planned parts are built")
    again = forecast_of(cheap.manifest(tmp_path, store_video="clip", pipeline='changed("caption", templates=("{}",))'))
    assert next(one.again for one in again.stages if one.stage == "decode") == 0
    lines = 'changed("pack", encoder=Bytes(step=4))'
    other = forecast_of(cheap.manifest(tmp_path, store_video="clip", pipeline=lines))
    assert next(one.why for one in other.stages if one.stage == "decode") == "pack looks at frames"
