"""What the documents say of training and evaluation can be typed."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT
from tmor_train.cli import _parser
from tmor_train.configuration import as_json, changed
from tmor_train.data.datasets import SETS
from tmor_train.recipes import recipe

DOCUMENTS = ("README.md", "docs/training.md", "docs/evaluation.md")


def typed() -> list[str]:
    """Every command of tmor_train in a block of code, or between back ticks, without its comment."""
    found = []
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`(tmor_train [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        found += [line.removeprefix(".venv/bin/") for line in lines]
    return sorted({line for line in found if line.startswith("tmor_train ") and "…" not in line})


@pytest.mark.parametrize("line", typed())
def test_every_command_is_one(line: str) -> None:
    options = _parser().parse_args(shlex.split(line)[1:])
    if "recipe" in options:
        config = recipe(options.recipe)
        changed(config, options.changes)
    for name in getattr(options, "sets", None) or ():
        assert name.partition(":")[0] in SETS


def test_there_are_commands_to_check() -> None:
    verbs = {line.split()[1] for line in typed()}
    assert {"run", "resume", "list", "show", "embed", "export", "recognize", "bench", "report"} <= verbs


def test_every_option_of_the_register_is_a_field() -> None:
    """The table of what the paper leaves open names fields, and values that they take."""
    text = (ROOT / "docs/training.md").read_text().partition("## What the paper leaves open")[2]
    named = re.findall(
        r"`((?:sampling|objective|clusters|views|optimizer|schedule|loop)\.[a-z_.]+)(?:=([^`]*))?`", text
    )
    assert len(named) > 15
    values = as_json(recipe("stage2"))
    for path, value in named:
        if value:
            changed(recipe("stage2"), [f"{path}={value}"])
        else:
            at = values
            for step in path.rstrip(".").split("."):
                at = at[step]


def test_the_encoder_afterwards(demo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [
        b for b in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL) if "load(" in b
    ]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "stage2").symlink_to(demo_run)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    joints = rng.random((1, 20, 17, 3), np.float32) * [1920, 1080, 1]
    shown = {"joints_MTJ3": joints, "texts": ("walk", "sit down"), "text_vectors_KD": rng.random((2, 4), np.float32)}
    exec(compile(block, "README.md", "exec"), shown)
    assert shown["vector"].shape == (256,)  # type: ignore[union-attr]
