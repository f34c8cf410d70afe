"""Kinds of runs: what their flags change, who runs them, and that a run which left nothing is taken back."""

import inspect
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tmor_train import kinds
from tmor_train.configuration import ConfigError, changed, described
from tmor_train.kinds import KINDS, Kind, UnknownRunError, kind_of
from tmor_train.recipes import RECIPES, recipe
from tmor_train.training.runs import RunError


@dataclass(frozen=True)
class MadeUpConfig:
    word: str = "a"


def failing(config: MadeUpConfig, folder: Path, *, begun: str = "new") -> Path:
    """Leaves its configuration, and a file called as ``word`` says, unless that is ``nothing``."""
    if begun == "new":
        if (folder / "config.json").exists():
            raise RunError("holds a run")
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"kind": "MadeUpConfig", "word": config.word}))
    if config.word == "done":
        return folder
    if config.word != "nothing":
        (folder / config.word).touch()
    raise KeyboardInterrupt if config.word == "stopped" else RunError("it failed")


@pytest.fixture
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    here = "made_up_kind"
    module = type(json)(here)
    module.MadeUpConfig, module.failing = MadeUpConfig, failing  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, here, module)
    monkeypatch.setitem(
        KINDS, "MadeUpConfig", Kind(about="made up", config=f"{here}:MadeUpConfig", run=f"{here}:failing")
    )


def named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("name", KINDS)
def test_what_kinds_name_is_there(name: str) -> None:
    kind = KINDS[name]
    assert named(kind.config).__name__ == name
    parameters = inspect.signature(named(kind.run)).parameters
    assert list(parameters)[:2] == ["config", "folder"]
    assert ("begun" in parameters) == (kind.resume is None)
    if kind.resume is not None:
        assert list(inspect.signature(named(kind.resume)).parameters) == ["folder"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_flag_changes_fields_that_its_recipes_have(name: str) -> None:
    config = recipe(name)
    for flag, changes in kind_of(config).flags.items():
        value = "mm=a" if flag == "rows" else "7"
        made = changed(config, [change.format(value) for change in changes if "{}" in change])
        values = dict(described(made))
        fields = [change.partition("=")[0] for change in changes if "{}" in change]
        assert all(values[field].strip("[]") in (value, "7.0") for field in fields)


def test_changes_without_a_value_come_first() -> None:
    kind = Kind(
        about="x", config="a:b", run="a:c", flags={"one": ("p={}",), "two": ("q=", "r={}", "s={}"), "three": ("t=1",)}
    )
    assert kind.changes({"one": "v", "two": "w", "three": ""}) == ["q=", "t=1", "p=v", "r=w", "s=w"]


def test_a_flag_of_another_kind_is_refused_with_those_it_takes() -> None:
    with pytest.raises(UnknownRunError) as error:
        KINDS["LogisticConfig"].changes({"from": "x"})
    assert str(error.value) == (
        "--from is not supported for raw coordinates; "
        "it takes --benchmark, --protocol, --data, --seed, --seeds and --set"
    )


def test_what_nothing_runs_is_refused(tmp_path: Path) -> None:
    for ask in (kind_of, lambda config: kinds.run(config, tmp_path / "run")):
        with pytest.raises(
            UnknownRunError, match="MadeUpConfig is no configuration that can be run; there are PretrainConfig"
        ):
            ask(MadeUpConfig())
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("_made_up")
def test_a_run_that_left_nothing_is_taken_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RunError, match="it failed"):
        kinds.run(MadeUpConfig("nothing"), folder)
    assert not folder.exists()
    with pytest.raises(RunError, match="it failed"):
        kinds.run(MadeUpConfig("journal.jsonl"), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "journal.jsonl"]
    with pytest.raises(KeyboardInterrupt):  # it can be gone on with
        kinds.run(MadeUpConfig("stopped"), tmp_path / "other")
    assert (tmp_path / "other/config.json").exists()


@pytest.mark.usefixtures("_made_up")
def test_a_run_of_somebody_else_is_not_taken_back(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="holds a run"):
        kinds.run(MadeUpConfig("nothing"), tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.usefixtures("_made_up")
def test_a_run_is_gone_on_with_by_its_kind(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"kind": "MadeUpConfig", "word": "done"}')
    assert kinds.resume(tmp_path) == tmp_path
    config.write_text('{"kind": "MadeUpConfig", "wrd": "done"}')
    with pytest.raises(ConfigError, match="did you mean 'word'"):
        kinds.resume(tmp_path)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (None, RunError, "holds no run"),
        ("{", RunError, "holds no run"),
        ("[]", UnknownRunError, "of a kind None that is not known"),
        (
            '{"kind": "Probe"}',
            UnknownRunError,
            "of a kind 'Probe' that is not known; there are PretrainConfig, ProbeConfig",
        ),
        ('{"kind": ["ProbeConfig"]}', UnknownRunError, "that is not known"),
    ],
)
def test_no_run_and_foreign_ones_are_told(text: str | None, kind: type[Exception], said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(kind, match=said):
        kinds.resume(tmp_path)
