"""``posecap build``, ``plan`` and ``manifest`` as people run them: words, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posecap import stage
from posecap.cli import main
from posecap.ledger import Ledger
from posecap.manifest.manifest_file import read_manifest
from posecap.shards import committed
from posecap.verify import verify
from tests import small
from tests.footage import write_video
from tests.small import KEPT, MISSING, SILENT


def build(path: Path, *more: str) -> int:
    return main(["build", "--manifest", str(path), "--runner", "local", "--workers", "1", *more])


def test_a_complete_build_ends_with_0_and_tells_what_came_of_it(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small.manifest(tmp_path, [KEPT, MISSING], media_root=media)
    assert build(path) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "rows: 2 planned = 1 kept + 1 rejected + 0 failed + 0 quarantined; clips: 1 kept" in said
    assert said.endswith(f"dataset: {tmp_path / 'dataset'}")
    assert build(path) == 0
    assert "every part is built; nothing to do" in capsys.readouterr().out
    assert main(["status", str(tmp_path / "dataset")]) == 0
    assert main(["verify", str(tmp_path / "dataset")]) == 0


def test_failed_rows_end_it_with_3_and_the_way_on(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small.manifest(tmp_path, [MISSING, SILENT], media_root=media)
    assert build(path, "--output", str(tmp_path / "here")) == 3
    assert "some rows or clips failed: `posecap status --failed`" in capsys.readouterr().out
    assert not (tmp_path / "dataset").exists()
    assert main(["status", str(tmp_path / "here"), "--failed"]) == 3
    assert "failed  silent" in capsys.readouterr().out
    assert build(path, "--output", str(tmp_path / "here"), "--retry-failed") == 3


def test_alarms_end_it_with_4_until_they_are_accepted(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small.manifest(tmp_path, [{"id": f"r{n}", "video": f"{n}.mp4", "label": "gone"} for n in range(25)])
    assert build(path) == 4
    said = " ".join(capsys.readouterr().out.split())
    assert "alarm: download rejected 100 % of 25 rows" in said
    assert said.endswith("or end this command with 0 by --accept-alarms")
    assert build(path, "--accept-alarms") == 0
    assert "--accept-alarms" not in capsys.readouterr().out
    assert build(path) == 4


def test_progress_is_chosen_and_quiet_says_nothing(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small.manifest(tmp_path, [MISSING], media_root=media)
    assert build(path, "--output", str(tmp_path / "a")) == 0
    assert json.loads(capsys.readouterr().err)["rows"]["rejected"] == 1
    assert build(path, "--output", str(tmp_path / "b"), "--progress", "plain") == 0
    assert capsys.readouterr().err.startswith("1/1 rows (100 %)")
    assert build(path, "--output", str(tmp_path / "c"), "--quiet") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_metrics_are_written_where_they_can_be(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small.manifest(tmp_path, [MISSING], media_root=media)
    assert build(path, "--metrics-file", str(tmp_path / "none" / "posecap.prom")) == 1
    assert "posecap.prom: metrics cannot be written here (No such file or directory)" in capsys.readouterr().err
    assert build(path, "--metrics-file", str(tmp_path / "posecap.prom")) == 0
    assert 'posecap_rows_done{dataset="small"} 1' in (tmp_path / "posecap.prom").read_text()


def test_what_threads_cannot_do_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(tmp_path / "m.yaml", "--row-seconds", "5") == 2
    assert capsys.readouterr().err == "posecap: --row-seconds is for --runner ray: threads cannot be stopped\n"


@pytest.mark.slow
def test_an_address_is_an_output(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    path = small.manifest(tmp_path, [MISSING], media_root=tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    location = f"{bucket}/poses"
    assert main(["plan", "--manifest", str(path), "--output", location]) == 0
    assert f"{location}: nothing is built yet" in capsys.readouterr().out
    assert build(path, "--output", location) == 0
    assert f"dataset: {location}" in capsys.readouterr().out
    assert main(["status", location]) == 0
    assert sorted({*tmp_path.iterdir()} - {tmp_path / "cache"}) == before
    assert main(["build", "--manifest", str(path), "--output", "ftps3://bucket/poses"]) == 1
    assert "ftps3://" in capsys.readouterr().err


def test_a_changed_pipeline_ends_it_with_1(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small.manifest(tmp_path, [MISSING], media_root=media)
    assert build(path) == 0
    small.manifest(tmp_path, [MISSING], media_root=media, motion=0.5)
    capsys.readouterr()
    assert build(path) == 1
    said = capsys.readouterr().err
    assert said.startswith("posecap: ")
    assert "pipeline.filter_people.motion: 0.0 → 0.5" in said
    assert build(path, "--update") == 0


def test_a_folder_of_other_files_is_refused_and_left_as_it_was(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = small.manifest(tmp_path, [MISSING], media_root=media), tmp_path / "videos"
    output.mkdir()
    (output / "mine.mp4").write_bytes(b"")
    assert build(path, "--output", str(output)) == 1
    said = capsys.readouterr().err
    assert f"{output}: this folder is no dataset and holds other files (mine.mp4)" in said
    assert [found.name for found in output.iterdir()] == ["mine.mp4"]


def test_an_empty_folder_and_a_begun_build_are_taken(media: Path, tmp_path: Path) -> None:
    path, output = small.manifest(tmp_path, [MISSING], media_root=media), tmp_path / "dataset"
    output.mkdir()
    (output / ".DS_Store").write_bytes(b"")
    assert build(path) == 0
    for left in ("plan.parquet", "ledger.sqlite", "dataset.json"):
        for name in {"plan.parquet", "ledger.sqlite", "dataset.json"} - {left}:
            (output / name).unlink()
        assert build(path) == 0


def test_a_folder_that_cannot_be_made_is_named(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = small.manifest(tmp_path, [MISSING], media_root=media), tmp_path / "taken"
    output.write_text("a file")
    assert build(path, "--output", str(output)) == 1
    assert f"{output}: the dataset's folder cannot be made here (File exists)" in capsys.readouterr().err


def test_a_missing_extra_is_named_before_anything_starts(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "find_spec", lambda module: None if module in ("ultralytics", "lap") else module)
    path = small.manifest(tmp_path, [MISSING], media_root=media)
    path.write_text(path.read_text().replace("pipeline: pipeline.py", "pipeline: yolo11_pose"))
    assert main(["build", "--manifest", str(path)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].endswith(" needs ultralytics, not installed: pip install 'posecap[ultralytics]'")
    assert said[1].endswith(" needs ultralytics and lap, not installed: pip install 'posecap[ultralytics]'")
    assert not (tmp_path / "dataset").exists()
    assert main(["plan", "--manifest", str(path)]) == 0
    assert "needs ultralytics and lap, not installed" in capsys.readouterr().out


def test_placeholders_are_noted_in_one_line(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small.manifest(tmp_path, [MISSING], media_root=media)
    assert build(path) == 0
    assert "placeholders are left" not in capsys.readouterr().out
    text = path.read_text().replace("license: BSD-3-Clause", "license: unknown")
    path.write_text(text.replace("https://example.org/contact", "somebody@example.org"))
    assert build(path) == 0
    noted = capsys.readouterr().out.splitlines()[0]
    assert noted.startswith(
        "note: placeholders are left, 'license: unknown' and 'contact: somebody@example.org': write"
    )


@pytest.mark.parametrize("subcommand", ["build", "plan"])
def test_a_manifest_that_there_is_not_is_answered_with_the_names(
    subcommand: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([subcommand, "--manifest", "demmo"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("posecap: no manifest file at demmo; did you mean 'demo'? posecap has ")


def test_a_manifest_for_a_pipeline_that_there_is_not_is_refused(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["manifest", "folder", str(videos), "--output", str(tmp_path / "mine.yaml"), "--pipeline"]
    assert main([*arguments, "defalt"]) == 1
    assert capsys.readouterr().err.startswith("posecap: no pipeline 'defalt': did you mean 'default'? posecap has ")
    assert not (tmp_path / "mine.yaml").exists()
    (tmp_path / "own.py").write_text("")
    assert main([*arguments, str(tmp_path / "own.py")]) == 0
    assert read_manifest(tmp_path / "mine.yaml").pipeline == tmp_path / "own.py"


def test_an_address_is_for_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(tmp_path / "m.yaml", "--address", "auto") == 2
    assert capsys.readouterr().err == "posecap: --address is for --runner ray\n"


@pytest.mark.parametrize(("line", "words"), [("pipeline: none.py", "no pipeline file at"), ("shape: 3", "shape")])
def test_input_that_is_wrong_ends_it_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    path = small.manifest(tmp_path, [MISSING])
    kept = [found for found in path.read_text().splitlines() if not found.startswith(line.split(":")[0])]
    path.write_text("\n".join([*kept, line]) + "\n")
    assert build(path) == 1
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_it_with_130_and_the_same_command_goes_on(media: Path, tmp_path: Path) -> None:
    spans = [{**KEPT, "id": f"kept-{n}", "label": f"take {n}"} for n in range(12)]
    path = small.manifest(tmp_path, spans, rows_per_part=1, media_root=media)
    root = tmp_path / "dataset"
    command = ["build", "--manifest", str(path), "--runner", "local", "--workers", "1"]
    # A shell that runs this in the background has its children ignore Ctrl-C.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from posecap.cli import main; sys.exit(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        until = time.monotonic() + 60
        while not committed(root) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped; finished parts and rows are kept. The same command resumes the build:" in said
    assert said.splitlines()[-1].startswith("  posecap build --manifest ")
    assert "Traceback" not in said
    before = len(committed(root))
    assert 1 <= before < 12
    assert main(command) == 0
    with Ledger(root / "ledger.sqlite") as ledger:
        assert [outcome.row_id for outcome in ledger.outcomes()] == [span["id"] for span in spans]
    assert verify(root).problems == ()


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for name in ("run/a.mp4", "run/b.mp4", "jump/c.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / "videos" / name, frames=2)
    return tmp_path / "videos"


def test_a_folder_becomes_a_manifest_that_can_be_planned(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "mine.yaml"
    assert main(["manifest", "folder", str(videos), "--output", str(made)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("mine.csv: 3 rows (3 train), 2 labels")
    assert said[1] == f"{made}: fill in license and contact, then"
    assert said[2] == f"  posecap plan --manifest {made}"

    text = made.read_text()
    for key, value in (("license", "CC0-1.0"), ("contact", "me@example.org")):
        text = "\n".join(f"{key}: {value}" if line.startswith(f"{key}:") else line for line in text.splitlines())
    made.write_text(text + "\n")
    assert main(["plan", "--manifest", str(made)]) == 0
    assert "3" in capsys.readouterr().out
    assert not read_manifest(made).output.exists()


def test_a_plan_with_a_pipeline_that_cannot_be_loaded_ends_with_1(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, made = tmp_path / "mine.py", tmp_path / "mine.yaml"
    pipeline.write_text("from posecap.stages.decode import Split\nSplit(treshold=4)\n")
    assert main(["manifest", "folder", str(videos), "--output", str(made), "--pipeline", str(pipeline)]) == 0
    assert main(["plan", "--manifest", str(made)]) == 1
    said = capsys.readouterr()
    assert "rows" in said.out
    assert "what a build would reject is not known: " in said.err
    assert "mine.py:2: TypeError: Split.__init__() got an unexpected keyword argument 'treshold'" in said.err


def test_a_plan_without_the_packages_of_a_build_names_the_extra(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after ``pip install posecap`` alone."""
    made = tmp_path / "mine.yaml"
    assert main(["manifest", "folder", str(videos), "--output", str(made)]) == 0
    for module in ("posecap.engines.pyav", "posecap.engines.pyav_encoder"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["plan", "--manifest", str(made)]) == 1
    said = capsys.readouterr()
    assert "rows" in said.out
    assert "av is not installed; to build, run pip install 'posecap[build]'" in said.err


def test_a_second_time_needs_a_word(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["manifest", "folder", str(videos), "--output", str(tmp_path / "mine.yaml")]
    assert main(arguments) == 0
    assert main(arguments) == 1
    assert "already exists" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_a_kinetics_list(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "val.csv").write_text("label,youtube_id,time_start,time_end,split\nabseiling,0wR5jVB-WPk,417,427,val\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    assert main(["manifest", "kinetics", "val.csv", "--output", "k.yaml"]) == 0
    assert capsys.readouterr().out.startswith("k.csv: 1 row (1 val), 1 label\n")
    assert main(["manifest", "kinetics", "val.csv", "--output", "l.yaml", "--videos", "clips"]) == 1
    assert "1 row without a file" in capsys.readouterr().err
    (tmp_path / "clips" / "0wR5jVB-WPk_000417_000427.mp4").write_bytes(b"")
    assert main(["manifest", "kinetics", "val.csv", "--videos", "clips"]) == 0
    assert capsys.readouterr().out.startswith("val-poses.csv: 1 row (1 val), 1 label\n")


def test_youtubes_addresses_without_its_fetcher_are_rejected_by_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "val.csv").write_text("label,youtube_id,time_start,time_end,split\nabseiling,0wR5jVB-WPk,417,427,val\n")
    monkeypatch.chdir(tmp_path)
    assert main(["manifest", "kinetics", "val.csv", "--output", "k.yaml", "--pipeline", "default"]) == 0
    assert main(["plan", "--manifest", "k.yaml"]) == 0
    assert "no_fetcher" in capsys.readouterr().out


def test_folders_that_may_be_meant_as_splits_are_named(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (videos / "run").rename(videos / "Validation")
    assert main(["manifest", "folder", str(videos), "--output", str(tmp_path / "mine.yaml")]) == 0
    said = capsys.readouterr().out
    assert "the folders Validation became labels: splits are folders named train, val, test; rename" in said


def test_a_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "folder", str(tmp_path / "none")]) == 1
    assert "none: is not a folder; give the folder that holds the videos" in capsys.readouterr().err


def test_which_kind_must_be_said() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["manifest"])
    assert ended.value.code == 2
