"""Curves from a journal."""

import sys
from pathlib import Path

import pytest

from tmor_train.training.journal import Journal
from tmor_train.training.plots import plot


@pytest.fixture
def told(tmp_path: Path) -> Path:
    with Journal(tmp_path) as journal:
        for step in (1, 2, 3):
            journal.tell("step", step, {"loss": 1.0 / step, "mm/loss": 0.5})
        journal.tell("epoch", 3, {"rank": 4.0, "neighbours_agree": None})
    return tmp_path


def test_a_picture_for_what_was_told(told: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot(told) == f"plots: {told / 'plots'}"
    pictures = sorted(path.name for path in (told / "plots").iterdir())
    assert pictures == ["embeddings.png", "loss.png"]  # no clusters were told of
    assert (told / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_line_says_so(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'posecap[train]'" in plot(told)
    assert not (told / "plots").exists()
