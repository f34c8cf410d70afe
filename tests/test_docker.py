"""The images, as far as that can be tried without building them: the linter, the wheel, the commands they document."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from posecap import cli
from tests import ROOT
from tmor_train import cli as trainer

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

every_image = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)


def arguments_of(path: Path, instruction: str) -> list[str]:
    """What follows each ``instruction`` of a Dockerfile, continued lines joined."""
    return re.findall(rf"^{instruction} (.*)", re.sub(r"\\\n\s*", "", path.read_text()), re.MULTILINE)


def documented(path: Path, program: str) -> list[str]:
    """The arguments that the comment at the top gives ``program`` in ``docker run``."""
    comment = re.sub(r"\\\n#\s*", "", path.read_text().split("\nFROM")[0])
    (found,) = re.findall(rf"docker run .* {program} (.*)", comment)
    return found.split()


@every_image
def test_the_linter_has_nothing_to_say(path: Path) -> None:
    # DL3008: Debian's packages are those of the pinned base image's release.
    subprocess.run(["hadolint", "--ignore", "DL3008", path], check=True)


@pytest.mark.slow
@every_image
def test_a_wheel_is_built_from_what_is_copied(path: Path, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for *sources, target in (rest.split() for rest in arguments_of(path, "COPY")):
        if target.startswith("/src"):
            for source in sources:
                into = tmp_path / target.strip("/")
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, into)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    subprocess.run([*command, tmp_path / "src"], check=True)
    assert len(list(tmp_path.glob("posecap-*.whl"))) == 1


@every_image
def test_torch_is_the_version_that_tests_run_with(path: Path) -> None:
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints" / "cpu.txt").read_text(), re.MULTILINE))
    arguments = dict(rest.split("=", 1) for rest in arguments_of(path, "ARG"))
    assert arguments["TORCH"] == pinned["torch"]
    assert arguments.get("TORCHVISION", pinned["torchvision"]) == pinned["torchvision"]


@every_image
def test_extras_are_extras_of_the_project(path: Path) -> None:
    named = {extra for found in re.findall(r"EXTRAS=([\w,]+)", path.read_text()) for extra in found.split(",")}
    assert named <= set(EXTRAS)


def test_the_documented_build_is_a_command() -> None:
    path = ROOT / "docker" / "build.Dockerfile"
    with pytest.raises(SystemExit) as ended:
        cli.main(json.loads(arguments_of(path, "CMD")[0]))
    assert ended.value.code == 0
    options = cli._parser().parse_args(documented(path, "posecap-build"))
    assert (ROOT / options.manifest).is_file()


def test_the_documented_training_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    program, *words = documented(ROOT / "docker" / "train.Dockerfile", "posecap-train")
    assert program == "tmor_train"
    assert trainer.main(["show", words[1]]) == 0
    assert words[1] in capsys.readouterr().out
