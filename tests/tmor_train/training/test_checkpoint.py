"""Checkpoints are whole or absent, and nothing in them is run."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import CheckpointError, Checkpoints


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    content = {"weights": {"a": torch.arange(3)}, "epoch": 2, "losses": [0.5], "words": "x", "nothing": None}
    checkpoint.save(tmp_path / "deep" / "a.pt", content)
    loaded = checkpoint.load(tmp_path / "deep" / "a.pt")
    assert loaded.pop("format") == "tmor_train.checkpoint/1"
    torch.testing.assert_close(loaded.pop("weights"), {"a": torch.arange(3)})
    assert loaded == {"epoch": 2, "losses": [0.5], "words": "x", "nothing": None}


def test_the_last_and_the_best_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15):
        checkpoints.save(step, {"step": step})
        if step == 5:
            checkpoints.mark_best(5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "step-000000010.pt", "step-000000015.pt"]
    assert checkpoint.load(tmp_path / "best.pt")["step"] == 5
    path, content = checkpoints.latest()
    assert (path.name, content["step"]) == ("step-000000015.pt", 15)


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"step": 1})

    def full(content: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"step": 2})
    assert checkpoint.load(path)["step"] == 1


def test_a_damaged_one_is_named_and_the_one_before_it_is_taken(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2):
        checkpoints.save(step, {"step": step, "weights": torch.zeros(1000)})
    newest = checkpoints.path(2)
    newest.write_bytes(newest.read_bytes()[:1500])
    with pytest.raises(CheckpointError, match="step-000000002"):
        checkpoint.load(newest)
    assert checkpoints.latest()[1]["step"] == 1


def test_nothing_in_a_hostile_one_runs(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    torch.save({"format": checkpoint.FORMAT, "x": Payload(touched)}, tmp_path / "torch.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Payload(touched), protocol=2))
    for name in ("torch.pt", "pickle.pt"):
        with pytest.raises(CheckpointError, match=name):
            checkpoint.load(tmp_path / name)
    assert not touched.exists()


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of tmor_train"):
        checkpoint.load(tmp_path / "other.pt")


def test_a_run_a_folder_or_a_file_is_meant(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path / "checkpoints").save(3, {"step": 3})
    for place in (path, tmp_path, tmp_path / "checkpoints"):
        assert checkpoint.load_latest(place)[0] == path
    with pytest.raises(CheckpointError, match="neither a checkpoint nor a folder"):
        checkpoint.load_latest(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        Checkpoints(tmp_path / "none").latest()
