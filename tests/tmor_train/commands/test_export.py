"""``tmor_train embed`` and ``tmor_train export`` as they are typed."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import tmor_train
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
