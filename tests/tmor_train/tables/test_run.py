"""Tables measured on tiny files: once, resumed, with reasons where nothing can be measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tmor_train import tasks
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.cli import main
from tmor_train.configuration import ConfigError, changed
from tmor_train.evaluation.config import TableConfig
from tmor_train.evaluation.encoders import EncoderNotFoundError
from tmor_train.evaluation.task import TaskError
from tmor_train.metrics.accuracy import spread
from tmor_train.recipes import recipe
from tmor_train.results import read_result, results_under
from tmor_train.tables import TASKS
from tmor_train.tables.paper import TABLES
from tmor_train.tables.run import Weights, jobs_of, key_of, measure_table, weights_by_key
from tmor_train.training.runs import RunError

torch.set_num_threads(1)
QUICK = ("device=cpu", "workers=0", "beside=nothing", "linear.exact.strengths=1.0", "linear.exact.iterations=5")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for Smarthome alone: two classes, two subjects who train and one who is tested."""
    root = tmp_path_factory.mktemp("benchmarks")
    (root / "smarthome").mkdir()
    draw = np.random.default_rng(0)
    for label in ("Walk", "Sitdown"):
        for subject in (3, 4, 2):
            for number in range(2):
                frames = [[{"pose2d": draw.uniform(50, 400, 26).tolist()}] for _ in range(6)]
                name = f"{label}_p{subject:02}_r{number:02}_v01_c01.json"
                (root / "smarthome" / name).write_text(json.dumps({"frames": frames}))
    return root


def config(root: Path, demo_run: Path, name: str = "table1", *changes: str) -> TableConfig:
    known = [f"data_root={root}", f"weights={demo_run}", f"changes={','.join(QUICK)}"]
    made: TableConfig = changed(recipe(name), [*known, "recipes=finetune=logistic", *changes])
    return made


def shown(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "table.json").read_text())
    return values


def line(values: dict[str, Any], section: str, key: str) -> dict[str, Any]:
    found = (here for row in values["rows"] if row["section"] == section for here in row["here"] if here["key"] == key)
    return next(found)


def test_what_is_there_is_measured_and_the_rest_has_reasons(root: Path, demo_run: Path, tmp_path: Path) -> None:
    folder = measure_table(config(root, demo_run), tmp_path / "table")
    values = shown(folder)
    results = results_under(folder)
    ours = {(result.mode, result.checkpoint): (place, result) for place, result in results}
    place, result = ours["probe", "step-000000008.pt (ema)"]
    figure = line(values, "linear probing", "vmt")["figures"][0]
    assert figure["values"] == [result.metrics["mean_per_class"]]
    assert figure["words"] == f"{100 * result.metrics['mean_per_class']:.1f}"
    assert place.name == figure["folder"]
    assert line(values, "linear probing", "scratch")["figures"][0]["values"]
    assert {here["key"] for row in values["rows"] for here in row["here"]} == {"scratch", "vmt"}  # trained with text
    assert [one["values"] for one in line(values, "linear probing", "vmt")["figures"][2:]] == [[], [], []]
    reasons = "\n".join(values["not_measured"])
    (lacking,) = BENCHMARKS["uav_human"].missing(root / "uav_human", "CSv1")
    assert f"UAV-Human CS1, UAV-Human CS2: {lacking}" in reasons
    assert f"put it at {root / 'penn_action/labels/*.mat'}" in reasons
    assert "finetune gave no mean_per_class of finetune" in reasons  # the recipe in its place measures another thing
    assert values["weights"]["vmt"]["losses"] == ["mm", "mv", "mt"]
    assert len(values["weights"]["vmt"]["sha256"]) == 64
    # A never trained encoder sees clips as the checkpoint does.
    scratch = ours["probe", "scratch"][1].config["start"]["scratch"]["sampling"]
    assert scratch == json.loads((demo_run / "config.json").read_text())["sampling"]
    markdown = (folder / "table.md").read_text()
    row = next(text for text in markdown.splitlines() if "here**: probe, run/step-000000008.pt" in text)
    assert [cell.strip() for cell in row.split("|")][4:6] == [f"**{figure['words']}**", "–"]
    assert line(values, "fine-tuning", "vmt")["recipe"] == "logistic"  # what ran, and not what the table names
    assert {"changed here: recipe finetune=logistic", "changed here: device=cpu"} <= set(values["notes"])
    assert "| T-MOR | PoseCap-1M (V+M+T) | UNIK | 52.6 | 53.4 | 33.5 | 60.1 | 97.8 |" in markdown


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(
    root: Path, demo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    run = tasks.run

    def counted(config: Any, folder: Path) -> Path:
        asked.append(folder.name)
        return run(config, folder)

    monkeypatch.setattr(tasks, "run", counted)
    one = config(root, demo_run, "table5")
    measure_table(one, tmp_path / "table")
    assert [name.split("-")[:3] for name in asked] == [
        ["probe", "scratch", "smarthome"],
        ["probe", "mm_mv_mt", "smarthome"],
    ]
    before = shown(tmp_path / "table")
    asked.clear()
    measure_table(one, tmp_path / "table")
    tasks.resume(tmp_path / "table", TASKS)
    assert asked == []
    assert shown(tmp_path / "table") == before
    # What was measured of files that are read otherwise today is not shown as a figure.
    with monkeypatch.context() as patch:
        patch.setitem(BENCHMARKS, "smarthome", replace(BENCHMARKS["smarthome"], reading=2))
        measure_table(one, tmp_path / "table")
    assert "read the files of smarthome otherwise; delete" in json.dumps(shown(tmp_path / "table"))
    measure_table(one, tmp_path / "table")
    assert shown(tmp_path / "table") == before
    # Another setting is another figure; the one before stays.
    measure_table(
        changed(one, ["changes=linear.exact.strengths=2.0,device=cpu", "scratch=left_out"]), tmp_path / "table"
    )
    assert len(asked) == 1
    assert len([place for place, result in results_under(tmp_path / "table") if result.mode == "probe"]) == 3
    with pytest.raises(RunError, match="holds another run"):
        measure_table(config(root, demo_run), tmp_path / "table")
    (tmp_path / "table" / "config.json").write_text("[]")
    with pytest.raises(RunError, match="holds another run"):
        measure_table(one, tmp_path / "table")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["table", "changes"])
def test_a_measurement_that_was_stopped_is_resumed(where: str, root: Path, demo_run: Path, tmp_path: Path) -> None:
    one = config(root, demo_run, "table5", "scratch=left_out")
    one = replace(one, seeds=(0, 1)) if where == "table" else replace(one, changes=(*one.changes, "seeds=0,1"))
    measure_table(one, tmp_path / "table")
    probes = [place for place, result in results_under(tmp_path / "table") if result.mode == "probe"]
    assert len(probes) == 2
    figure = line(shown(tmp_path / "table"), "losses", "mm_mv_mt")["figures"][0]
    over = spread([100 * value for value in figure["values"]])
    assert figure["words"] == f"{over.mean:.1f} ± {over.half_width:.1f}"
    kept = (probes[0] / "result.json").read_bytes()
    (probes[1] / "result.json").unlink()
    measure_table(one, tmp_path / "table")
    assert (probes[0] / "result.json").read_bytes() == kept
    assert read_result(probes[1]).seed == 1


def test_rows_take_their_checkpoints_by_losses_or_by_name(root: Path, demo_run: Path) -> None:
    one = config(root, demo_run, "table5", f"rows=mt={demo_run}")
    found = weights_by_key(one, TABLES["table5"])
    assert set(found) == {"mt", "mm_mv_mt", "scratch"}
    for losses, table, key in (
        (("mm", "mv"), "table1", "vm"),
        (("mm", "mt"), "table1", "vmt"),
        (("mm", "mt"), "table5", "mm_mt"),
        (("mm", "mv", "mt"), "table3", "vmt"),
    ):
        weights = Weights(path="a.pt", sha256="0", name="a", losses=losses)
        assert key_of(TABLES[table], weights) == key
    with pytest.raises(EncoderNotFoundError, match=r"give --rows KEY=a\.pt, where KEY is one of vm .* vmt"):
        key_of(TABLES["table1"], Weights(path="a.pt", sha256="0", name="a"))
    with pytest.raises(
        EncoderNotFoundError, match=r"no row 'mm_m'; did you mean mm_mv\?|no row 'mm_m'; did you mean mm_mt\?"
    ):
        weights_by_key(replace(one, rows=("mm_m=x",)), TABLES["table5"])


def test_the_place_of_a_figure_follows_from_what_it_depends_on(root: Path, demo_run: Path) -> None:
    def places(*changes: str) -> set[str]:
        one = changed(config(root, demo_run, "table5"), changes)
        table = TABLES["table5"]
        return {job.folder for job in jobs_of(table, one, weights_by_key(one, table)) if job.config is not None}

    here = places()
    assert places("data_root=/elsewhere") == here
    assert places(f"weights={demo_run / 'checkpoints/step-000000008.pt'}") == here
    assert not places("seeds=1") & here


def test_mistakes_are_answered_before_anything_is_measured(root: Path, demo_run: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="give --data-root DIR"):
        measure_table(changed(config(root, demo_run), ["data_root=none"]), tmp_path / "table")
    with pytest.raises(EncoderNotFoundError, match="give --from CHECKPOINT"):
        measure_table(changed(config(root, demo_run), ["weights=none"]), tmp_path / "table")
    with pytest.raises(ConfigError, match=r"did you mean 'linear\.solver'"):
        measure_table(changed(config(root, demo_run), ["changes=linear.solve=sgd"]), tmp_path / "table")
    with pytest.raises(ConfigError, match="not a pair KEY=CHECKPOINT"):
        changed(config(root, demo_run), ["rows=vmt"])
    with pytest.raises(ConfigError, match=r"no table has a recipe .fintune., .*did you mean finetune"):
        measure_table(changed(config(root, demo_run), ["recipes=fintune=finetune_cpu"]), tmp_path / "table")
    assert not (tmp_path / "table").exists()


def test_the_command_prints_the_table(
    root: Path, demo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "table5", "--data-root", str(root), "--rows", f"mm={demo_run}", "--output", str(tmp_path / "t")]
    assert main([*words, "--set", f"changes={','.join(QUICK)}", "scratch=left_out"]) == 0
    printed = capsys.readouterr().out
    assert "| MM | PoseCap-1M | 42.5 | 12.8 |" in printed
    assert "↳ **here**: probe / detect_probe, run/step-000000008.pt" in printed
    assert "smarthome_CS_51.json is missing" in printed
    assert printed.rstrip().endswith(f"done: {tmp_path / 't'}")


def test_zero_shot_without_vectors_of_its_prompts_says_how_to_make_them(
    root: Path, demo_run: Path, tmp_path: Path
) -> None:
    folder = measure_table(
        config(root, demo_run, "table3", "texts=p.parquet", "changes=device=cpu"), tmp_path / "table"
    )
    reasons = "\n".join(shown(folder)["not_measured"])
    assert "Smarthome CS: p.parquet, the vectors of sentences, is missing" in reasons
    assert "`python pipelines/prompt_vectors.py p.parquet smarthome`" in reasons
