from pathlib import Path

import pytest

from posecap.builtin import manifests, nearest_pipeline, pipeline_path, pipelines, program, summary
from posecap.cli import main
from posecap.manifest.manifest_file import read_manifest
from tests import ROOT


def test_names_are_those_of_files_that_define_a_pipeline() -> None:
    assert list(pipelines()) == ["default", "posecap_1m", "yolo11_pose"]
    assert pipelines()["default"] == ROOT / "pipelines" / "default.py"
    assert manifests()["demo"] == ROOT / "manifests" / "demo.yaml"
    assert all(summary(path).endswith(".") for path in pipelines().values())


def test_a_pipeline_is_named_or_a_path(tmp_path: Path) -> None:
    assert pipeline_path("default", tmp_path) == ROOT / "pipelines" / "default.py"
    assert pipeline_path("default.py", tmp_path) == tmp_path / "default.py"
    assert pipeline_path("../default", tmp_path / "a") == tmp_path / "default"


def test_the_nearest_name_is_told() -> None:
    assert nearest_pipeline("defalt.py").startswith(
        "did you mean 'default'? posecap has 'default', 'posecap_1m', 'yolo11_pose'"
    )
    assert nearest_pipeline("mine.py").startswith("posecap has")


def test_the_command_of_a_program_names_a_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert program("prompt_vectors") == "python pipelines/prompt_vectors.py"
    monkeypatch.chdir(tmp_path)
    assert Path(program("prompt_vectors").split()[1]).is_file()


def test_a_pipeline_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "show", "posecap_1m"]) == 0
    assert capsys.readouterr().out == (ROOT / "pipelines" / "posecap_1m.py").read_text()
    assert main(["pipeline", "show", "defalt"]) == 1
    assert "did you mean 'default'?" in capsys.readouterr().err
    assert main(["pipeline", "list"]) == 0
    assert capsys.readouterr().out.startswith("default     ")


@pytest.mark.parametrize("name", manifests())
def test_every_manifest_names_a_pipeline_of_posecap(name: str) -> None:
    assert read_manifest(manifests()[name]).pipeline in pipelines().values()
