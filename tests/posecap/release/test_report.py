import io
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from rich.console import Console

from posecap import __version__
from posecap.outcomes import StageStats
from posecap.release.dataset_info import write_summary
from posecap.release.report import REPORT_FILE, Run, make_report, show
from tests import dataset_infos


def run(**changes: Any) -> Run:
    known = {
        "started": datetime(2026, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2))),
        "ended": datetime(2026, 5, 1, 10, 0, 25, tzinfo=UTC),
        "seconds": 25.0,
        "start_seconds": 5.0,
        "end_seconds": 2.0,
        "runner": "ray",
        "workers": 2,
        "parts": 2,
        "clips": 5,
        "frames": 400,
        "nodes": [{"node": "a", "state": "used"}],
        "stage_seconds": {"download": 1.0, "decode": 2.5, "filter_people": 0.25},
    }
    return Run(**{**known, **changes})


def shown(report: dict[str, Any]) -> str:
    text = io.StringIO()
    show(report, Console(file=text, width=140, color_system=None))
    return text.getvalue()


def test_counts_rates_and_times(tmp_path: Path):
    report = make_report(dataset_infos.info(tmp_path), run())
    assert report["dataset"] == {"name": "walkers", "version": "1.2.0", "license": "CC-BY-4.0", "store_video": "none"}
    assert (report["run"]["started"], report["run"]["ended"]) == ("2026-05-01T10:00:00Z", "2026-05-01T10:00:25Z")
    assert report["posecap"] == __version__
    assert report["rates"] == {
        "wall_seconds": 25.0,
        "start_seconds": 5.0,
        "end_seconds": 2.0,
        "clips_per_second": 0.25,
        "frames_per_second": 20.0,
    }
    assert report["counts"] == {
        "rows": {"planned": 7, "kept": 5, "rejected": 1, "failed": 1, "quarantined": 0},
        "clips": {"kept": 5, "rejected": 1, "failed": 0, "quarantined": 0},
        "reasons": {"no_motion": 1, "not_found": 1, "timeout": 1},
    }
    assert report["pipeline"]["fingerprint"] == "f" * 64
    assert report["nodes"] == [{"node": "a", "state": "used"}]
    assert report["quality"]["coverage"]["max"] == 1.0


def test_the_yield_has_each_stage_s_seconds_once(tmp_path: Path):
    lines = make_report(dataset_infos.info(tmp_path), run())["yield"]
    assert [(line["unit"], line["stage"], line["in"], line["out"], line["seconds"]) for line in lines] == [
        ("rows", "download", 7, 5, 1.0),
        ("rows", "decode", 5, 5, None),
        ("clips", "decode", 6, 6, 2.5),
        ("clips", "filter_people", 6, 5, 0.25),
        ("clips", "pack", 5, 5, None),
    ]


def test_alarms_follow_the_pipeline_s_expectations(tmp_path: Path):
    outcomes = dataset_infos.outcomes(1) * 15
    info = dataset_infos.info(tmp_path, stage_stats=StageStats.of(dataset_infos.ORDER, outcomes))
    assert [alarm["stage"] for alarm in make_report(info, run())["alarms"]] == ["download"]
    strict = make_report(info, run(), expected_rejections={"filter_people": 0.3})["alarms"]
    assert [(alarm["stage"], alarm["kind"], alarm["share"]) for alarm in strict] == [
        ("download", "failed", 0.333333),
        ("filter_people", "rejected", 0.5),
    ]


def test_it_is_written_as_json_that_reads_back_the_same(tmp_path: Path):
    report = make_report(dataset_infos.info(tmp_path), run())
    path = tmp_path / REPORT_FILE
    write_summary(tmp_path, REPORT_FILE, report)
    assert path == tmp_path / "report.json"
    assert json.loads(path.read_text()) == report


def test_the_table_shows_what_was_lost_where(tmp_path: Path):
    sick = {"node": "host/1", "state": "left_out", "why": "a worker could not start: no weights"}
    text = shown(
        make_report(dataset_infos.info(tmp_path), run(nodes=[sick, {"node": "a", "state": "lost", "why": ""}]))
    )
    assert "node host/1 was left out: a worker could not start: no weights" in text
    assert "node a" not in text
    lines = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    assert "download rows 7 5 1 1 1.0 not_found 1, timeout 1" in lines
    assert "filter_people clips 6 5 1 · 0.2 no_motion 1" in lines
    assert "rows: 7 planned = 5 kept + 1 rejected + 1 failed + 0 quarantined; clips: 5 kept" in lines
    assert any(
        "5 clips kept, 400 frames decoded in 25.0 s (5.0 s of it start-up) on ray, 2 workers" in line for line in lines
    )


def test_content_duplicates_are_named(tmp_path: Path):
    report = make_report(dataset_infos.info(tmp_path), run())
    assert "content duplicates" not in shown(report)
    example = {"source_id": "s", "start_seconds": 0.0, "end_seconds": 1.0, "clips": 3, "first_key": "abc"}
    report["content_duplicates"] = {"spans": 1, "clips": 3, "examples": [example]}
    said = " ".join(shown(report).split())
    assert "content duplicates: 3 clips are of 1 span of the same bytes, under several rows, such as abc and 2" in said


def test_names_from_outside_are_no_markup(tmp_path: Path):
    report = make_report(dataset_infos.info(tmp_path), run())
    report["yield"][0]["rejected"] = {"[bold]odd[/nothing]": 1}
    report["alarms"] = [{"sentence": "[red]oh[/]"}]
    text = shown(report)
    assert "[bold]odd[/nothing] 1" in text
    assert "alarm: [red]oh[/]" in text


def test_a_run_with_nothing_to_do_says_so(tmp_path: Path):
    report = make_report(dataset_infos.info(tmp_path), run(parts=0, clips=0, frames=0, seconds=0.0, start_seconds=0.0))
    assert "every part was built already" in shown(report)
    assert report["rates"]["clips_per_second"] == 0.0
