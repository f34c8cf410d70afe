"""``tmor_train recognize`` as it is typed."""

import json
from pathlib import Path

import pytest
import torch

from tests import small
from tests.tmor_train.test_recognition import FPS, PIPELINE, walking
from tmor_train.cli import main

torch.set_num_threads(1)


def test_recognize(
    demo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("colours.py").write_text(PIPELINE)
    small.film(Path("walk.mp4"), walking(1), fps=FPS)
    words = ["recognize", "walk.mp4", "--from", str(demo_run), "--pipeline", "colours.py", "--texts", "a b", "c"]
    assert main(words) == 0
    first, person, segment, *_, took, done = capsys.readouterr().out.splitlines()
    assert first == "walk.mp4: 1 person, 10 frames, 1 window"
    assert person == "person 1"
    assert segment.split("  ")[-1] in ("a b", "c")
    assert segment.lstrip().startswith("0.0 – 1.0 s")
    assert took.endswith(" ms a window")
    assert done == "done: walk.actions.json, walk.actions.mp4"
    found = json.loads(Path("walk.actions.json").read_text())
    assert found["classes"] == ["a b", "c"]
    assert found["people"][0]["segments"][0]["label"] == segment.split("  ")[-1]

    assert main(words) == 1
    assert "walk.actions.json already exists" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--no-video", "--output", "other.json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "done: other.json"
    assert not Path("other.mp4").exists()


def test_live(
    demo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("colours.py").write_text(PIPELINE)
    small.film(Path("walk.mp4"), walking(1.5), fps=FPS)
    words = [
        "recognize",
        "walk.mp4",
        "--live",
        "--from",
        str(demo_run),
        "--pipeline",
        "colours.py",
        "--texts",
        "a b",
        "c",
    ]
    assert main([*words, "--fps", "10", "--output", "walk.jsonl"]) == 0
    *seen, summary = capsys.readouterr().out.splitlines()
    assert summary.startswith("15 frames, ")
    assert " of them dropped, 0 passed over above 10 a second; " in summary
    assert "from frame to score" in summary
    moments = [json.loads(line) for line in Path("walk.jsonl").read_text().splitlines()]
    assert moments[-1]["seconds"] == 1.4
    (person,) = moments[-1]["people"]
    assert seen[-1].startswith(f"    1.4 s  person 1  {person['score']:5.2f}  {person['label']}  (")
    assert main([*words, "--output", "walk.jsonl"]) == 1
    assert "walk.jsonl already exists" in capsys.readouterr().err


def test_classes_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["recognize", "walk.mp4", "--from", "runs/stage2"])
    assert "one of the arguments --texts --examples is required" in capsys.readouterr().err
