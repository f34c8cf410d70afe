"""Evaluations of clips as they are typed, ``tmor_train run`` and ``tmor_train resume`` of what it left; the lists of
benchmarks, and the page of results."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import gestures
from tmor_train.cli import main
from tmor_train.evaluation.clips.fine_tune import FineTuner
from tmor_train.metrics.accuracy import spread, wilson
from tmor_train.results import Result, read_result, read_scores, results_under, save

torch.set_num_threads(1)
TUNED = ("tune.device=cpu", "tune.workers=0", "tune.epochs=1", "tune.batching.size=4", "look.crops=1")
PROBED = ("device=cpu", "workers=0")
SMALL = ("start.scratch.encoder.backbone=stgcn", "start.frames=8")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gestures.shards(tmp_path_factory.mktemp("typed") / "shards")


def words(recipe: str, shards: Path, out: Path, *more: str) -> list[str]:
    return ["run", recipe, "--benchmark", "shards", "--data", str(shards), "--output", str(out), *more]


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def test_probe_of_a_run(shards: Path, demo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "probe"
    typed = words("probe", shards, out, "--from", str(demo_run), "--set", *PROBED, "linear.exact.strengths=0.1,1.0")
    assert main(typed) == 0
    printed = capsys.readouterr().out
    learned, raw = read_result(out), read_result(out / "logistic")
    assert printed.startswith("probe: linear probe: one linear layer on frozen features")
    lines = printed.splitlines()
    assert any(line.startswith("shards own, 4 measured (footage that stands in several splits was") for line in lines)
    (row,) = (line for line in lines if line.startswith("  probe  step-000000008.pt (ema)"))
    low, high = (f"{100 * end:.1f}" for end in wilson(learned.metrics["top1"], 4))
    assert row.endswith(f"  {low} to {high} %")
    assert row.split()[-8:-4:2] == [f"{100 * learned.metrics[name]:.2f}" for name in ("top1", "mean_per_class")]
    (row,) = (line for line in lines if line.startswith("  logistic  raw coordinates"))
    assert percent(raw.metrics["top1"]) in row
    assert lines[-2:] == ["  the paper's table has Top-1", f"done: {out}"]
    assert learned.counts == {"train": 8, "test": 4}
    assert len(read_scores(out).key_N) == 4

    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert main(["resume", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == lines[1:]
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    assert main(typed) == 1
    assert f"{out} already holds a run; resume it with `tmor_train resume {out}`" in capsys.readouterr().err


def test_probe_of_several_seeds_prints_an_interval(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = [
        "run",
        "probe",
        "--benchmark",
        "shards",
        "--data",
        str(shards),
        "--from",
        "scratch",
        "--seeds",
        "0",
        "1",
        "2",
    ]
    changes = ("linear.exact.strengths=1.0", "beside=nothing", "task.part=holdout", "task.holdout.share=0.5")
    assert main([*typed, "--set", *PROBED, *SMALL, *changes]) == 0
    out = Path("runs/probe-shards")
    results = [read_result(out / f"seed-{seed}") for seed in range(3)]
    assert len(results_under(out)) == 3
    over = spread([100 * result.metrics["top1"] for result in results])
    printed = capsys.readouterr().out
    assert f"{over.mean:.2f} ± {over.half_width:.2f} %" in printed
    assert "measured on a part of the train clips that was held out, not on the test part" in printed
    train = {f"{key}" for key in read_scores(out / "seed-0").key_N}
    assert main([*typed[:-2], "--output", "test", "--set", *PROBED, *SMALL, *changes[:2]]) == 0
    assert not train & set(read_scores(Path("test")).key_N.tolist())


def test_logistic(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("logistic", shards, tmp_path / "run", "--seed", "3", "--set", "raw.centre=first")) == 0
    result = read_result(tmp_path / "run")
    assert (result.mode, result.seed, result.metrics["top1"]) == ("logistic", 3, 1.0)  # who bows leans over
    assert "  logistic  raw coordinates  100.00 %" in capsys.readouterr().out
    assert json.loads((tmp_path / "run/config.json").read_text())["raw"]["centre"] == "first"


def test_finetune_that_is_stopped_and_resumed(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, train = tmp_path / "tuned", FineTuner.train_step
    typed = words("finetune_cpu", shards, out, "--from", "scratch", "--epochs", "2", "--set", *SMALL, *TUNED[:2])

    def asked(self: FineTuner, batch: Any, *, lr_ratio: float) -> Any:
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(self, batch, lr_ratio=lr_ratio)

    with monkeypatch.context() as patch:
        patch.setattr(FineTuner, "train_step", asked)
        assert main([*typed, "tune.batching.size=4"]) == 130
    assert "stopped; `tmor_train resume DIR` continues from the last checkpoint" in capsys.readouterr().err
    assert not results_under(out)
    assert main(["resume", str(out)]) == 0
    result = read_result(out)
    assert result.config["tune"]["epochs"] == 2
    printed = capsys.readouterr().out
    assert f"  finetune  scratch  {percent(result.metrics['top1'])}" in printed
    steps = [json.loads(line)["step"] for line in (out / "journal.jsonl").read_text().splitlines() if "done" in line]
    assert steps == [4]


def test_finetune_of_a_run(shards: Path, demo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = words("finetune_cpu", shards, tmp_path / "run", "--from", str(demo_run), "--set", "start.frames=8", *TUNED)
    assert main(typed) == 0
    assert "  finetune  step-000000008.pt (ema)  " in capsys.readouterr().out
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 1


def test_fewshot(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "few"
    typed = words("fewshot", shards, out, "--from", "scratch", "--seeds", "0", "1", "--set", *SMALL, *TUNED)
    assert main([*typed, "percent=25,50", "steps=1"]) == 0
    names = [place.relative_to(out).as_posix() for place, _ in results_under(out)]
    assert len(names) == 12
    assert {"linear-25/seed-0", "finetune-50/seed-1", "logistic-50/seed-1"} <= set(names)
    printed = capsys.readouterr().out.splitlines()
    for mode in ("probe  scratch", "finetune  scratch", "logistic  raw coordinates"):
        rows = [line for line in printed if line.startswith(f"  {mode}")]
        assert ["50 % of labels" in rows[0], "25 % of labels" in rows[1], len(rows)] == [True, True, 2]
        assert all("±" in row for row in rows)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["logistic", "--from", "scratch"],
            "tmor_train: --from is not supported for raw coordinates; it takes --benchmark, --protocol, --data, --seed",
        ),
        (["probe", "--epochs", "3"], "--epochs is not supported for linear probing"),
        (["fewshot", "--sets", "sbu"], "--sets is not supported for few labels"),
        (["probe", "--set", "linear.solve=sgd"], "did you mean 'linear.solver'?"),
        (["prob"], "did you mean probe"),
        (["probe", "--benchmark", "shards", "--data", "x"], "no encoder is named: give --from CHECKPOINT"),
        (["probe", "--from", "scratch"], "no benchmark is named: give --benchmark NAME"),
        (["probe", "--from", "scratch", "--benchmark", "shard", "--data", "x"], "did you mean shards?"),
        (["probe", "--from", "scratch", "--benchmark", "shards"], "is not given: --data DIR"),
        (
            ["probe", "--from", "scratch", "--benchmark", "shards", "--data", "x"],
            "x lacks files of shards:\na dataset is missing: get it from `posecap build` and put it at x",
        ),
        (
            ["probe", "--from", "scratch", "--benchmark", "shards", "--protocol", "ow", "--data", "x"],
            "shards has no protocol 'ow'; did you mean own?",
        ),
    ],
)
def test_mistakes_are_told_and_leave_nothing(
    typed: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", *typed]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_wrong_checkpoint_can_be_put_right(
    shards: Path, demo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = words("probe", shards, tmp_path / "run", "--set", *PROBED, "beside=nothing", "--from")
    assert main([*typed, str(tmp_path / "rnus")]) == 1
    assert "rnus is neither a checkpoint nor a folder with checkpoints" in capsys.readouterr().err
    assert main([*typed, str(demo_run)]) == 0


def test_list_says_what_is_missing_and_where_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "list", "--data-root", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "penn_action" in printed
    assert str(tmp_path / "penn_action/labels") in printed


def test_list_goes_on_after_a_damaged_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tsu").mkdir()
    (tmp_path / "tsu/smarthome_CS_51.json").write_text("{")
    assert main(["bench", "list", "--data-root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [n for n, line in enumerate(lines) if line.startswith("tsu ")]
    assert "damaged" in lines[row]
    assert "smarthome_CS_51.json" in lines[row + 1]
    assert any(line.startswith("shards") for line in lines)


def test_show_counts_the_files_that_it_does_not_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{number:04d}-L" for number in range(30)]
    split = tmp_path / "Split/cross-subject.txt"
    split.parent.mkdir()
    split.write_text(f"Training\n{','.join(names[:20])}\nValidation\n{','.join(names[20:])}\n")
    (tmp_path / "Split/cross-view.txt").write_text(split.read_text())
    assert main(["bench", "show", "pku_mmd", "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[3] == "protocol CS"
    assert "0000-L.txt is missing" in printed[4]
    assert printed[24:26] == ["  … and 40 more are missing", "protocol CV"]


def test_show_names_the_nearest_of_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "show", "tsu"]) == 0
    assert main(["bench", "show", "penn"]) != 0
    assert "penn_action" in capsys.readouterr().err


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with one result."""
    pytest.importorskip("matplotlib")
    result = Result(
        benchmark="shards",
        protocol="own",
        mode="probe",
        recipe="probe",
        seed=0,
        checkpoint=None,
        metrics={"top1": 0.5},
        primary_metric="top1",
    )
    save(result, tmp_path / "runs/a")
    return tmp_path / "runs"


def test_the_page_is_written_into_the_folder(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs)]) == 0
    assert capsys.readouterr().out == f"{runs / 'report.html'}: 1 results\n"
    assert (runs / "report.html").is_file()


def test_the_page_is_written_where_asked(runs: Path, tmp_path: Path) -> None:
    assert main(["report", str(runs), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").is_file()
    assert not (runs / "report.html").exists()


def test_a_missing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert "is not a folder" in capsys.readouterr().err
