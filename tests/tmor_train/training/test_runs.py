"""The configuration of a run is written in full or not at all, and one process at a time works on a run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tmor_train
from tests import ROOT
from tmor_train.data.provenance import Inputs
from tmor_train.training.runs import (
    CARD,
    CONFIG,
    LOCK,
    RunError,
    check_new,
    read_config,
    run_lock,
    write_card,
    write_config,
)

_HOLDER = """
import sys, time
from pathlib import Path
from tmor_train.training.runs import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_configuration_that_cannot_be_written_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_config({"kind": "ProbeConfig"}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    check_new(tmp_path)


def test_a_damaged_configuration_is_no_run(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text("[" * 100_000)
    with pytest.raises(RunError, match=r"holds no run, for its config\.json cannot be read"):
        read_config(tmp_path)


def test_a_run_is_held_by_one_and_leaves_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run"
    refusal = pytest.raises(RunError, match=f"by process {os.getpid()} on .*choose another --output")
    with run_lock(folder), refusal, run_lock(folder):
        pass
    assert not list(tmp_path.iterdir())  # nothing was written
    folder.mkdir(parents=True)
    with run_lock(folder):
        (folder / CONFIG).write_text("{}")
    assert [path.name for path in folder.iterdir()] == [CONFIG]


def test_another_process_is_refused_until_it_dies_and_its_lock_file_blocks_nobody(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=f"is being worked on by process {holder.pid} on"), run_lock(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK).exists()
    with run_lock(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_where_there_are_no_locks_a_run_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(descriptor: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", none)
    with run_lock(tmp_path):
        pass
    assert "takes no locks ([Errno 95] Operation not supported); start no second process" in caplog.text


def test_checkpoints_without_a_configuration_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000000.pt").touch()  # of a run that was killed as it began
    check_new(tmp_path)
    (tmp_path / "checkpoints" / "step-000000012.pt").touch()
    with pytest.raises(
        RunError, match=r"holds checkpoints, step-000000012\.pt among them, of a run whose config\.json"
    ):
        check_new(tmp_path)


def test_a_run_has_a_model_card(demo_run: Path) -> None:
    card = (demo_run / CARD).read_text()
    encoder = tmor_train.load(demo_run)
    assert f"- checkpoint `{encoder.path.name}`, SHA-256 `{encoder.sha256}`" in card
    assert "recipe `pretrain_demo`" in card
    assert "13 clips of:" in card
    assert "shards; licenses of its clips: CC0-1.0\n" in card
    assert f": model made-up: `{'ab' * 32}`" in card
    assert encoder.inputs is not None
    assert all(f"- {name}: `{sha256}`" in card for name, sha256 in encoder.inputs.files.items())
    assert "\n- loss: " in card


def test_a_card_says_what_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "step.pt").write_bytes(b"weights")
    config = {"recipe": "mine", "about": "made up", "data": {"sets": ["sbu"]}, "loop": {"start_from": "runs/before"}}
    write_card(
        tmp_path,
        config=config,
        inputs=Inputs({}),
        clips=1,
        checkpoint=tmp_path / "step.pt",
        figures={"rank": None},
        version="1.2.3",
    )
    card = (tmp_path / CARD).read_text()
    assert "- began with the weights of runs/before, whose own data and terms count as well" in card
    assert "- the published set sbu, under the terms of its publisher" in card
    assert "- not recorded" in card
    assert "None yet: no epoch has ended." in card
