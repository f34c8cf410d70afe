"""Types of runs: what their flags change, who runs them, and that a run which left nothing is taken back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tmor_train import tasks
from tmor_train.configuration import ConfigError, changed, described
from tmor_train.recipes import RECIPES, recipe
from tmor_train.tables import TASKS
from tmor_train.tasks import TaskType, UnknownTaskError, task_type
from tmor_train.training.runs import RunError


@dataclass(frozen=True)
class MadeUpConfig:
    word: str = "a"


def failing(config: MadeUpConfig, folder: Path, begun: str) -> Path:
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
    monkeypatch.setitem(tasks.TASKS, "MadeUpConfig", TaskType(about="x", config=MadeUpConfig, run=failing, flags={}))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_named_as_its_configuration_and_passes_on_whether_it_is_new(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = TASKS[name]
    assert task.config.__name__ == name
    called = []
    for path in (
        "training.pretrain.pretrain",
        "training.pretrain.resume",
        "evaluation.clips.linear_probe.probe",
        "evaluation.clips.linear_probe.logistic",
        "evaluation.clips.fine_tune.fine_tune",
        "evaluation.clips.few_shot.few_shot",
        "evaluation.detection.detect.detect",
        "evaluation.detection.detect.detect_events",
        "evaluation.zero_shot.zero_shot",
        "tables.run.measure_table",
    ):

        def recorded(*values: Any, path: str = path, begun: str = "") -> None:
            called.append((path.rpartition(".")[2], values, begun))

        monkeypatch.setattr(f"tmor_train.{path}", recorded)
    config: Any = next(made for recipe in RECIPES.values() if type(made := recipe()).__name__ == name)
    task.run(config, tmp_path, "new")
    task.run(config, tmp_path, "before")
    if name == "PretrainConfig":
        assert called == [("pretrain", (config, tmp_path), ""), ("resume", (tmp_path,), "")]
    else:
        (first, *new), (second, *before) = called
        assert first == second
        begun = ("", "") if name == "TableConfig" else ("new", "before")
        assert (new, before) == ([(config, tmp_path), begun[0]], [(config, tmp_path), begun[1]])


@pytest.mark.parametrize("name", RECIPES)
def test_every_flag_changes_fields_that_its_recipes_have(name: str) -> None:
    config = recipe(name)
    task = task_type(config, TASKS)
    for flag, fields in task.flags.items():
        value = "mm=a" if flag == "rows" else "7"
        values = dict(described(changed(config, [f"{path}={value}" for path in fields])))
        assert all(values[path].strip("[]") in (value, "7.0") for path in fields)
    assert task.implied.keys() <= task.flags.keys()
    changed(config, task.implied.values())


def test_what_flags_imply_is_changed_first() -> None:
    task = TaskType(
        about="x", config=MadeUpConfig, run=failing, flags={"one": ("p",), "two": ("r", "s")}, implied={"two": "q="}
    )
    assert task.changes({"one": "v", "two": "w"}) == ["q=", "p=v", "r=w", "s=w"]
    config = changed(recipe("stage1"), TASKS["PretrainConfig"].changes({"data": "a", "sets": "b", "from": "c"}))
    assert (config.data.shards, config.data.sets) == (("a",), ("b",))
    assert (config.loop.start, config.loop.start_from) == ("checkpoint", "c")


def test_a_flag_of_another_type_is_refused_with_those_it_takes() -> None:
    with pytest.raises(UnknownTaskError) as error:
        TASKS["LogisticConfig"].changes({"from": "x"})
    assert str(error.value) == (
        "--from is not supported for raw coordinates; "
        "it takes --benchmark, --protocol, --data, --seed, --seeds and --set"
    )


def test_what_nothing_runs_is_refused(tmp_path: Path) -> None:
    for ask in (task_type, lambda config: tasks.run(config, tmp_path / "run")):
        with pytest.raises(
            UnknownTaskError, match="MadeUpConfig is not a configuration that can be run; those are PretrainConfig"
        ):
            ask(MadeUpConfig())
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("_made_up")
def test_a_run_that_left_nothing_is_taken_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RunError, match="it failed"):
        tasks.run(MadeUpConfig("nothing"), folder)
    assert not folder.exists()
    with pytest.raises(RunError, match="it failed"):
        tasks.run(MadeUpConfig("journal.jsonl"), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "journal.jsonl"]
    with pytest.raises(KeyboardInterrupt):  # it can be gone on with
        tasks.run(MadeUpConfig("stopped"), tmp_path / "other")
    assert (tmp_path / "other/config.json").exists()


@pytest.mark.usefixtures("_made_up")
def test_a_run_of_somebody_else_is_not_taken_back(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="holds a run"):
        tasks.run(MadeUpConfig("nothing"), tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.usefixtures("_made_up")
def test_a_run_is_resumed_by_its_kind(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"kind": "MadeUpConfig", "word": "done"}')
    assert tasks.resume(tmp_path) == tmp_path
    config.write_text('{"kind": "MadeUpConfig", "wrd": "done"}')
    with pytest.raises(ConfigError, match="did you mean 'word'"):
        tasks.resume(tmp_path)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (None, RunError, "holds no run"),
        ("{", RunError, "holds no run"),
        ("[]", UnknownTaskError, "has the unknown kind None"),
        (
            '{"kind": "Probe"}',
            UnknownTaskError,
            "has the unknown kind 'Probe'; the known kinds are PretrainConfig, ProbeConfig",
        ),
        ('{"kind": ["ProbeConfig"]}', UnknownTaskError, "has the unknown kind"),
    ],
)
def test_no_run_and_foreign_ones_are_told(text: str | None, kind: type[Exception], said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(kind, match=said):
        tasks.resume(tmp_path)
