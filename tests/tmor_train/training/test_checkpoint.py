"""Checkpoints are whole or absent, show their damage, and nothing in them is run."""

import hashlib
import logging
import pickle
import resource
import traceback
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import (
    CheckpointError,
    Checkpoints,
    CheckpointWriteError,
    DamagedCheckpointError,
)


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    content = {"weights": {"a": torch.arange(3)}, "epoch": 2, "losses": [0.5], "words": "x", "nothing": None}
    checkpoint.save(tmp_path / "deep" / "a.pt", content)
    loaded = checkpoint.load(tmp_path / "deep" / "a.pt")
    assert loaded.pop("format") == "tmor_train.checkpoint/2"
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


def test_one_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"step": 1, "weights": torch.arange(3.0)})
    content = bytearray(path.read_bytes())
    hashed = len(content) - 82  # of its comment, every byte is tried
    for position in (*range(0, hashed, 7), *range(hashed, len(content))):
        content[position] ^= 1 << position % 8
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            checkpoint.load(path)
        content[position] ^= 1 << position % 8
    path.write_bytes(content)
    assert checkpoint.load(path)["step"] == 1


def test_its_hash_is_the_comment_of_an_archive_that_anyone_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"step": 1})
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
        assert archive.testzip() is None
    content = path.read_bytes()
    assert comment.decode() == f"tmor_train sha256 {hashlib.sha256(content[: -len(comment)]).hexdigest()}"
    assert torch.load(path, weights_only=True)["step"] == 1


def test_one_of_the_format_before_is_read_without_a_hash(tmp_path: Path) -> None:
    torch.save({"format": checkpoint.FORMER, "step": 3}, tmp_path / "old.pt")
    assert checkpoint.load(tmp_path / "old.pt")["step"] == 3
    # One that says that it has a hash and has none was cut off behind the archive.
    torch.save({"format": checkpoint.FORMAT, "step": 3}, tmp_path / "bare.pt")
    with pytest.raises(DamagedCheckpointError, match=r"bare.pt is damaged"):
        checkpoint.load(tmp_path / "bare.pt")


def test_a_flipped_bit_in_the_newest_is_told_and_the_one_before_it_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, {"step": step, "weights": torch.zeros(1000)})
    for path in reversed(checkpoints.all()):
        content = bytearray(path.read_bytes())
        content[2000] ^= 1  # within the zeros
        path.write_bytes(content)
        if path == checkpoints.path(2):
            with caplog.at_level(logging.WARNING):
                assert checkpoints.latest()[1]["step"] == 1
    (record,) = caplog.records
    assert "step-000000002.pt is damaged" in record.getMessage()
    assert record.getMessage().endswith("step-000000001.pt is taken instead")
    with pytest.raises(CheckpointError, match=r"none of the 2 checkpoints .* restore one from a copy"):
        checkpoints.latest()


def test_a_full_disk_leaves_the_last_one_and_says_so(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    content = {"step": 1, "weights": torch.zeros(100_000)}
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        with pytest.raises(CheckpointWriteError, match=r"0.4 MiB, cannot be written.*make room, then start the run"):
            checkpoints.save(1, content)
        assert list(checkpoints.folder.iterdir()) == []
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        checkpoints.save(1, content)
        (checkpoints.folder / ".step-000000002.pt.part").write_bytes(b"of a process that was killed")
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        with pytest.raises(CheckpointWriteError, match=r"step-000000001.pt before it .* `tmor_train resume .*run`"):
            checkpoints.save(2, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-000000001.pt"]
    assert checkpoints.latest()[1]["step"] == 1


def test_nothing_in_a_hostile_one_runs(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    torch.save({"format": checkpoint.FORMAT, "x": Payload(touched)}, tmp_path / "torch.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Payload(touched), protocol=2))
    refused = r"(getattr|pathlib\.Path)"  # other packages may have allowed getattr, in torch's list for the process
    for name in ("torch.pt", "pickle.pt"):
        with pytest.raises(CheckpointError, match=f"{name} .* refers to {refused}, .* do not use it") as caught:
            checkpoint.load(tmp_path / name)
        # torch's words tell how to run it.
        assert "weights_only" not in "".join(traceback.format_exception(caught.value))
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
