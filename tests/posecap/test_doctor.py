from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from posecap import doctor
from posecap.cli import main
from posecap.doctor import Finding, examine, show
from posecap.terminal import COMPLETE, ERROR

PIPELINE = """
from dataclasses import dataclass
from posecap.engines.decord import Decord
from posecap.pipeline import Pipeline
from posecap.stage import Engine, Stage
from posecap.types import Row, Sample

@dataclass(frozen=True)
class Broken(Engine):
    name, modules = "broken", ("json",)
    def load(self):
        raise OSError("libbroken.so.7: cannot open shared object file")

@dataclass(frozen=True)
class Absent(Engine):
    name, modules, extra = "absent", ("no_such_module",), "clip"

@dataclass(frozen=True)
class Own(Engine):
    name = "own"
    path: str = "{path}"
    @property
    def weights(self):
        return (self.path, "yolo11n")

@dataclass(frozen=True)
class All(Stage):
    name, takes, gives = "all", Row, Sample
    engines: tuple[Engine, ...] = (Decord(), Broken(), Absent(), Own())
    def __call__(self, item):
        yield item

pipeline = Pipeline((All(),))
"""


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache."""
    for name in ("POSECAP_WEIGHTS", "POSECAP_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(PIPELINE.replace("{path}", str(tmp_path / "own.pt")))
    return str(path)


def _about(findings: Iterable[Finding], about: str) -> Finding:
    (found,) = (finding for finding in findings if finding.about == about)
    return found


def test_engines_and_weights_of_a_pipeline(pipeline: str, tmp_path: Path) -> None:
    findings = examine(pipeline, tmp_path)

    broken = _about(findings, "broken")
    assert (broken.state, broken.says) == (
        "missing",
        "does not load: libbroken.so.7: cannot open shared object file",
    )
    absent = _about(findings, "absent")
    assert (absent.state, absent.remedy) == ("missing", "pip install 'posecap[clip]'")
    assert "no_such_module" in absent.says
    assert _about(findings, f"weights {tmp_path / 'own.pt'}").state == "missing"
    (tmp_path / "own.pt").write_bytes(b"weights")
    assert _about(examine(pipeline, tmp_path), f"weights {tmp_path / 'own.pt'}").state == "good"


def test_weights_that_are_not_here(pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yolo = _about(examine(pipeline, tmp_path), "weights yolo11n")
    assert (yolo.state, yolo.remedy) == ("note", "now: posecap models pull yolo11n")

    monkeypatch.setenv("POSECAP_OFFLINE", "1")
    yolo = _about(examine(pipeline, tmp_path), "weights yolo11n")
    assert yolo.state == "missing"
    assert "POSECAP_WEIGHTS" in yolo.remedy

    (tmp_path / "yolo11n.pt").write_bytes(b"not hashed here")
    monkeypatch.setenv("POSECAP_WEIGHTS", str(tmp_path))
    assert _about(examine(pipeline, tmp_path), "weights yolo11n").state == "good"


def test_a_pipeline_that_does_not_load_is_one_finding(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import no_such_module\n")
    assert _about(examine(str(bad), tmp_path), f"pipeline {bad}").state == "missing"
    assert _about(examine("defualt", tmp_path), "pipeline defualt").state == "missing"


def test_decord_may_be_absent(pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    assert _about(examine(pipeline, tmp_path), "decord").state == "note"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(pipeline: str, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    output = _about(examine(pipeline, tmp_path / "closed" / "datasets"), "output")
    assert (output.state, output.remedy) == ("missing", "name another folder with --output")


def test_little_room_on_the_disk(pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=2**40, free=10**9))
    output = _about(examine(pipeline, tmp_path), "output")
    assert (output.state, output.remedy) == ("note", "name another folder with --output")
    assert "1.0 GB free" in output.says


def test_a_gpu_that_torch_does_not_see(pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    gpu = _about(examine(pipeline, tmp_path), "GPU")
    assert gpu.state == "note"
    assert torch.__version__ in gpu.says


def test_gpus(pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = SimpleNamespace(name="Quick 1", total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: facts)
    assert _about(examine(pipeline, tmp_path), "GPU 1").says.startswith("Quick 1, 80 GB")


def test_no_secret_is_shown(pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ab12")
    monkeypatch.setenv("HF_ENDPOINT", "https://me:hf_ab12@mirror")
    findings = examine(pipeline, tmp_path)
    assert "hf_ab12" not in repr(findings)
    assert any("HF_TOKEN is set" in finding.says for finding in findings)


def test_every_extra_that_is_looked_for_is_an_extra() -> None:
    """The modules are those of this environment: what the development set-up installs is found."""
    requires = Path(doctor.__file__).parents[1] / "pyproject.toml"
    text = requires.read_text("utf-8")
    assert all(f"\n{extra} = [" in text for extra in doctor._EXTRAS)
    for extra in ("build", "train", "s3"):
        assert all(importlib.util.find_spec(module) for module in doctor._EXTRAS[extra])


def test_command(pipeline: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--output", str(tmp_path)]) == COMPLETE
    assert "movenet-multipose-lightning" in capsys.readouterr().out

    assert main(["doctor", "--pipeline", pipeline, "--output", str(tmp_path), "--json"]) == ERROR
    out, err = capsys.readouterr()
    found: list[dict[str, Any]] = json.loads(out)
    assert {"about", "state", "says", "remedy"} == set(found[0])
    assert f"{pipeline} lacks 3 of {len(found)} here" in err


def test_remedies_are_printed_below(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        [Finding(about="x", state="missing", says="[red]a[/]", remedy="do this")], Console(width=60, color_system=None)
    )
    assert "[red]a[/]" in (out := capsys.readouterr().out)
    assert "→ do this" in out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("program", ["posecap", "tmor_train"])
def test_completion_script(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    if program == "posecap":
        assert main(["completion", "bash"]) == COMPLETE
    else:
        from tmor_train.cli import main as tmor_main

        assert tmor_main(["completion", "bash"]) == COMPLETE
    script = capsys.readouterr().out
    complete = f'{script}\nCOMP_WORDS=({program} re); COMP_CWORD=1; _shtab_{program}; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-c", complete], capture_output=True, text=True, check=True)
    assert {"posecap": "remove", "tmor_train": "report"}[program] in done.stdout.split()
