"""``tmor_train embed``, ``export`` and ``recognize`` as they are typed."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import tmor_train
from tests import small
from tests.tmor_train.test_recognition import FPS, PIPELINE, walking
from tmor_train.cli import main
from tmor_train.pretrained.export import check_export

torch.set_num_threads(1)


def test_embed(demo_run: Path, demo_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "e.parquet"
    words = ["embed", str(demo_run), "--data", str(demo_shards), "--output", str(out), "--device", "cpu"]
    assert main([*words, "--split", "test"]) == 0
    assert "e.parquet: 7 embeddings by step-000000008.pt (ema)" in capsys.readouterr().out
    assert set(pq.read_table(out)["split"].to_pylist()) == {"test"}
    assert main(words) == 1
    assert "already exists" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--of", "live"]) == 0
    assert "13 embeddings by step-000000008.pt (online)" in capsys.readouterr().out
    assert len(pq.read_table(out)) == 13


def test_export(demo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert main(["export", str(demo_run), "--output", str(tmp_path / "e.onnx"), "--frames", "4"]) == 0
    first, second, hashes, third = capsys.readouterr().out.splitlines()
    assert first.startswith("motion (N, 2, 4, 17, 1): clips, coordinates, frames, joints of unik17, people")
    assert second.startswith("gives features and projected; differs from torch by at most ")
    found = tmor_train.load(demo_run)
    own = check_export(tmp_path / "e.onnx")
    assert hashes == f"checkpoint {found.path.name}, SHA-256 {found.sha256}; of the file itself {own}"
    assert third.endswith("e.onnx")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["embed", "nowhere", "--data", "x"], "nowhere is neither a checkpoint nor a folder with checkpoints"),
        (["export", "nowhere"], "nowhere is neither a checkpoint nor a folder with checkpoints"),
    ],
)
def test_mistakes(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--output", "out"]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_embedding_nothing(demo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", str(demo_run), "--output", str(tmp_path / "out")]) == 1
    assert "no data is named" in capsys.readouterr().err


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
