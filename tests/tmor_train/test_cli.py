"""The command line: what it prints, and how it says no."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tmor_train.cli import main
from tmor_train.recipes import RECIPES


def test_list_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed if line.startswith("  ")] == list(RECIPES)
    assert [line for line in printed if not line.startswith("  ")][:2] == ["pre-training:", "linear probing:"]


def test_show_prints_fields_as_set_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["show", "stage1", "--data", "a", "b", "--epochs", "3", "--seed", "7", "--set", "optimizer.lr=0.03"]
    assert main([*words, "batching.size=64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    wanted = {"data.shards=a,b", "loop.epochs=3", "loop.seed=7", "batching.seed=7", "objective.seed=7"}
    assert {*wanted, "clusters.how.seed=7", "optimizer.lr=0.03", "batching.size=64"} <= set(lines)


def test_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "stage2", "--json", "--from", "runs/stage1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["loop"]["start_from"] == "runs/stage1"
    assert shown["objective"]["w_mt"] == 1.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "stage"], "tmor_train: no recipe 'stage'; did you mean stage"),
        (["run", "stage1", "--set", "optimiser.lr=1"], "did you mean 'optimizer.lr'?"),
        (["run", "stage1"], "tmor_train: no data is named: give --data DATASET"),
        (["run", "stage2", "--data", "x"], "give --from CHECKPOINT"),
        (["run", "pretrain_sets", "--sets", "pen_action"], "no skeleton set 'pen_action'"),
        (["resume", "nowhere"], "tmor_train: nowhere holds no run"),
    ],
)
def test_mistakes_are_answered_in_a_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_the_former_name_of_a_flag_works_with_a_hint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    assert main(["run", "stage1", "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tmor_train: --out is called --output now\n")
    assert "run already holds a run" in error


def test_help_needs_no_torch() -> None:
    code = "import sys; from tmor_train.cli import _parser; _parser().format_help(); sys.exit('torch' in sys.modules)"
    root = ROOT
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
