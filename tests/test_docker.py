"""What can be said of the images without building them."""

import fnmatch
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from posecap import cli
from tests import ROOT
from tmor_train import cli as trainer
from tmor_train.recipes import recipe

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

every_image = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, its arguments) of a Dockerfile, in order, continued lines joined and comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def of(path: Path, word: str) -> list[str]:
    return [rest for name, rest in instructions(path) if name == word]


def arguments(path: Path) -> dict[str, str]:
    return dict(rest.split("=", 1) for rest in of(path, "ARG"))


def examples(path: Path) -> str:
    """The commands in the comment at the top, one a line."""
    comment = path.read_text().split("\nFROM")[0]
    return re.sub(r"\\\n\s*", "", "\n".join(line.removeprefix("#") for line in comment.splitlines()))


def extras(text: str) -> list[list[str]]:
    return [found.split(",") for found in re.findall(r"EXTRAS=([\w,]+)", text)]


def reaches_docker(source: str) -> bool:
    """Whether ``.dockerignore``, which leaves out everything that it does not name, lets a path through."""
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in rules
    return any(fnmatch.fnmatch(source.split("/")[0], rule[1:]) for rule in rules if rule.startswith("!"))


def test_both_images_are_here():
    assert [path.name for path in DOCKERFILES] == ["build.Dockerfile", "train.Dockerfile"]


@every_image
def test_only_known_instructions(path):
    known = {"FROM", "ARG", "ENV", "RUN", "COPY", "USER", "WORKDIR", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in instructions(path)} <= known
    assert instructions(path)[0][0] == "FROM"


@every_image
def test_the_base_image_is_pinned(path):
    (base,) = of(path, "FROM")
    name, _, tag = base.partition(":")
    assert name
    assert re.search(r"\d+\.\d+\.\d+", tag), f"{base} names no exact version"
    assert "latest" not in path.read_text().replace("latest/", "")


@every_image
def test_what_is_copied_is_there_and_reaches_docker(path):
    sources = [s for rest in of(path, "COPY") for s in rest.split()[:-1] if not s.startswith("--")]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), f"{path.name} copies {source}, which is not there"
        assert reaches_docker(source), f"{path.name} copies {source}, which .dockerignore leaves out"


@every_image
def test_the_package_is_whole_where_it_is_installed(path):
    """What setuptools needs to build it: the files that pyproject.toml names."""
    copied = " ".join(of(path, "COPY")).split()
    for needed in ("pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "posecap"):
        assert needed in copied


@every_image
def test_versions_are_those_of_the_constraints(path):
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints" / "cpu.txt").read_text(), re.MULTILINE))
    found = arguments(path)
    assert found["TORCH"] == pinned["torch"]
    assert found.get("TORCHVISION", pinned["torchvision"]) == pinned["torchvision"]
    installs = [rest for rest in of(path, "RUN") if "pip install" in rest]
    assert "torch==${TORCH}" in installs[0]
    assert all("-c /tmp/torch.txt" in rest for rest in installs if "/src" in rest)


def test_the_build_image_has_every_engine():
    path = ROOT / "docker" / "build.Dockerfile"
    known = PROJECT["optional-dependencies"]
    (default,) = extras("\n".join(f"{k}={v}" for k, v in arguments(path).items()))
    assert set(default) == set(known) - {"dev", "engines", "train", "faiss"}
    (free,) = extras(examples(path))
    assert set(free) == set(default) - {"ultralytics"}


@every_image
def test_the_shell_understands_every_step(path):
    for step in of(path, "RUN"):
        subprocess.run(["bash", "-n", "-c", step], check=True)
        assert not re.search(r"\b(curl|wget|git clone|sudo)\b|https?://", step), f"{step} fetches from elsewhere"


@every_image
def test_it_runs_as_a_plain_user(path):
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", of(path, "USER")[-1])
    after = [word for word, _ in instructions(path)]
    last = len(after) - 1 - after[::-1].index("USER")
    assert not {"COPY", "ARG"} & set(after[last:])


@every_image
def test_nothing_secret_goes_in(path):
    told = " ".join([*of(path, "ENV"), *of(path, "ARG"), *of(path, "COPY")])
    assert not re.search(r"(?i)token|secret|password|credential|\.aws|\.netrc|cookies", told)


def test_the_build_images_commands_are_commands_of_posecap():
    path = ROOT / "docker" / "build.Dockerfile"
    assert json.loads(of(path, "ENTRYPOINT")[0]) == ["posecap"]
    assert PROJECT["scripts"]["posecap"] == "posecap.cli:main"
    with pytest.raises(SystemExit) as ended:
        cli.main(json.loads(of(path, "CMD")[0]))
    assert ended.value.code == 0
    (asked,) = re.findall(r"docker run .* posecap-build (.*)", examples(path))
    options = cli._parser().parse_args(asked.split())
    assert (ROOT / options.manifest).is_file()


def test_the_train_images_command_uses_what_there_is():
    path = ROOT / "docker" / "train.Dockerfile"
    assert json.loads(of(path, "CMD")[0]) == ["python"]
    (asked,) = re.findall(r"docker run .* posecap-train tmor_train (.*)", examples(path))
    options = trainer._parser().parse_args(asked.split())
    assert recipe(options.recipe).recipe == "stage1"


@every_image
def test_the_documented_commands_name_this_file(path):
    assert f"docker build -f docker/{path.name} -t posecap-{path.stem} ." in examples(path)
