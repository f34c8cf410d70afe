"""``tmor_train run``, ``resume``, ``list``, ``show``, ``bench`` and ``report``: recipes, the benchmarks that they
measure, runs made by them, and a page of their results."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posecap.terminal import COMPLETE, Commands, FormerFlag, command

if TYPE_CHECKING:
    from tmor_train.benchmarks import Benchmark
    from tmor_train.training.ray_train import RayJob

_EXAMPLES = """\
train:
  tmor_train run stage1 --data SHARDS
  torchrun --nproc-per-node 8 -m tmor_train run stage1 --data SHARDS
  tmor_train run stage1 --data SHARDS --ray auto --workers 16

evaluate an encoder, and one that was never trained:
  tmor_train run probe --benchmark penn_action --data DIR --from runs/stage2
  tmor_train run probe --benchmark penn_action --data DIR --from scratch --output runs/scratch
  tmor_train run finetune_cpu --benchmark penn_action --data DIR --from runs/stage2 --seeds 0 1 2
  tmor_train run fewshot --benchmark penn_action --data DIR --from runs/stage2
  tmor_train run logistic --benchmark penn_action --data DIR

An evaluation prints every figure and keeps it: result.json and scores.npz in the run's folder.
"""
_REPORT_NOTES = """\
The page has the paper's tables with what was measured, every result, figures by class, confusion matrices, recordings
with true and predicted actions, maps of embeddings and training curves: all that lies in DIR and below it. It is one
file that loads nothing, to be opened in a browser or sent.

examples:
  tmor_train report runs
  tmor_train report runs --embeddings penn.parquet --output results.html
"""
_TABLE = "table.md"  # of tmor_train.tables.run, which would import torch here
_MOST_SHOWN = 20  # missing files of a protocol; some benchmarks have a thousand


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``run``, ``resume``, ``list``, ``show``, ``bench`` and ``report``."""
    parser = command(commands, "run", _run, about="train or evaluate by a recipe", more=_EXAMPLES)
    _add_recipe(parser)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="the run's folder (default: runs/RECIPE, or runs/RECIPE-BENCHMARK)"
    )
    parser.add_argument("--out", dest="output", type=Path, action=FormerFlag, const="--output")
    _add_ray(parser)
    parser = command(commands, "resume", _resume, about="resume a run where it was stopped")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the run's folder")
    _add_ray(parser)
    command(commands, "list", _list, about="name the recipes")
    show = command(commands, "show", _show, about="print every field of a recipe, as --set takes it")
    _add_recipe(show)
    show.add_argument("--json", action="store_true", help="as a run's config.json has it")
    _add_benchmarks(commands)
    parser = command(
        commands, "report", _report, about="write one HTML page of all results below a folder", more=_REPORT_NOTES
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a run's folder, or one with several runs")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (default: DIR/report.html)")
    parser.add_argument(
        "--embeddings",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="embeddings of `tmor_train embed` to draw, beside those below DIR",
    )


def _run(options: argparse.Namespace) -> int:
    """Run a recipe in a new folder and print its results; returns the exit code, as the next three."""
    from tmor_train import tasks
    from tmor_train.tables import TASKS

    config = _config_of(options)
    name = config.recipe if options.benchmark is None else f"{config.recipe}-{options.benchmark}"
    if _is_main():
        print(f"{config.recipe}: {config.about}", flush=True)
    folder = options.output or Path("runs") / name
    if (job := _ray_processes(options)) is not None:
        from tmor_train.training.ray_train import pretrain_on_ray

        _print_results(pretrain_on_ray(config, folder, job))
    else:
        _print_results(tasks.run(config, folder, TASKS))
    return COMPLETE


def _resume(options: argparse.Namespace) -> int:
    """Resume a run of any type and print its results."""
    from tmor_train import tasks
    from tmor_train.tables import TASKS

    if (job := _ray_processes(options)) is not None:
        from tmor_train.training.ray_train import resume_on_ray

        _print_results(resume_on_ray(options.folder, job))
    else:
        _print_results(tasks.resume(options.folder, TASKS))
    return COMPLETE


def _list(options: argparse.Namespace) -> int:
    """Print the recipes, by type of run."""
    from tmor_train.recipes import RECIPES
    from tmor_train.tables import TASKS
    from tmor_train.tasks import task_type

    heading, width = "", max(map(len, RECIPES)) + 2
    for name, make in RECIPES.items():
        config = make()
        if (about := task_type(config, TASKS).about) != heading:
            print(f"{about}:")
            heading = about
        print(f"  {name:{width}}{config.about}")
    return COMPLETE


def _show(options: argparse.Namespace) -> int:
    """Print a recipe's configuration, with the changes of the flags."""
    from tmor_train.configuration import as_json, described

    config = _config_of(options)
    if options.json:
        print(json.dumps(as_json(config), indent=2))
    else:
        for path, value in described(config):
            print(f"{path}={value}")
    return COMPLETE


def _add_benchmarks(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``bench`` with its actions."""
    bench = commands.add_parser("bench", help="list the benchmarks and their missing files")
    actions = bench.add_subparsers(metavar="ACTION", required=True)
    listed = command(actions, "list", _list_benchmarks, about="a line for each benchmark")
    listed.add_argument("--data-root", type=Path, metavar="DIR", help="look for files in DIR/NAME")
    shown = command(actions, "show", _show_benchmark, about="one benchmark and its missing files")
    shown.add_argument("name")
    shown.add_argument("--data", type=Path, metavar="DIR", help="its folder (default: one of its name)")


def _list_benchmarks(options: argparse.Namespace) -> int:
    """Print a line for each benchmark, with its files if a folder is given."""
    from tmor_train.benchmarks import BENCHMARKS

    print(f"{'name':14}{'task':8}{'protocols':32}{'clips':>7}{'classes':>9}  {'files':11}about")
    for name, benchmark in BENCHMARKS.items():
        state, lines = ("-", []) if options.data_root is None else _files(benchmark, options.data_root / name)
        clips, classes = benchmark.clips or "any", benchmark.classes or "any"
        protocols = " ".join(benchmark.protocols)
        print(f"{name:14}{benchmark.task:8}{protocols:32}{clips:>7}{classes:>9}  {state:11}{benchmark.about}")
        for line in lines:
            print(f"    {line}")
    return COMPLETE


def _files(benchmark: Benchmark, folder: Path) -> tuple[str, list[str]]:
    """The state of a benchmark's files in one word or two (``there``, ``2 missing``, ``damaged``), and a line on each
    of the first two that are missing, or on the damaged one."""
    from tmor_train.data.datasets.files import DamagedFileError

    try:
        lacking = [entry for protocol in benchmark.protocols for entry in benchmark.missing(folder, protocol)]
    except DamagedFileError as error:
        return "damaged", [str(error)]
    missing = list(dict.fromkeys(map(str, lacking)))
    return (f"{len(missing)} missing" if missing else "there"), missing[:2]


def _show_benchmark(options: argparse.Namespace) -> int:
    """Print one benchmark and its missing files."""
    from tmor_train.benchmarks import benchmark

    chosen = benchmark(options.name)
    print(f"{chosen.name}: {chosen.about}\ntask: {chosen.task}\nprimary metric: {chosen.primary_metric}")
    for protocol in chosen.protocols:
        print(f"protocol {protocol}")
        missing = chosen.missing(options.data or Path(chosen.name), protocol)
        for entry in missing[:_MOST_SHOWN]:
            print(f"  {entry}")
        if len(missing) > _MOST_SHOWN:
            print(f"  … and {len(missing) - _MOST_SHOWN} more are missing")
    return COMPLETE


def _report(options: argparse.Namespace) -> int:
    """Write the page; returns the exit code."""
    from tmor_train.report.page import report

    output = options.output or options.folder / "report.html"
    results = report(options.folder, output, embeddings=tuple(options.embeddings))
    print(f"{output}: {results} results")
    return COMPLETE


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    """The recipe's name, the flags that set a field, and ``--set`` for all others."""
    parser.add_argument("recipe", metavar="RECIPE", help="its name; `tmor_train list` has them all")
    flag = parser.add_argument
    flag(
        "--data",
        nargs="+",
        metavar="DATA",
        help="what it works on: posecap datasets to train on (folders or URLs), or the folder of a benchmark's files",
    )
    flag("--texts", metavar="FILE", help="vectors of captions, or of the prompts of zero-shot recognition (Parquet)")
    flag("--from", metavar="CHECKPOINT", help="begin with these weights (file or run; to evaluate, also: scratch)")
    flag("--epochs", metavar="N", help="how often every clip is seen in training")
    flag("--seed", metavar="N", help="of everything that is drawn (default: 0)")
    flag(
        "--set",
        dest="changes",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="any field, e.g. optimizer.lr=0.03; `tmor_train show RECIPE` lists them",
    )
    training = parser.add_argument_group("pre-training")
    training.add_argument("--sets", nargs="+", metavar="NAME", help="published skeleton sets, e.g. penn_action:train")
    training.add_argument("--folder", metavar="DIR", help="where the skeleton sets lie, each under its name")
    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument("--benchmark", metavar="NAME", help="what is measured, e.g. penn_action")
    evaluation.add_argument("--protocol", metavar="NAME", help="one of the benchmark's splits (default: its first)")
    evaluation.add_argument("--seeds", nargs="+", metavar="N", help="several seeds, a measurement for each")
    tables = parser.add_argument_group("tables of the paper")
    tables.add_argument("--data-root", metavar="DIR", help="a folder for each benchmark, of its name")
    tables.add_argument("--rows", nargs="+", metavar="KEY=CHECKPOINT", help="checkpoints of rows, e.g. mm=runs/a")


def _config_of(options: argparse.Namespace) -> Any:
    """The recipe's configuration with the changes of the flags, then those of ``--set``.

    Raises:
        tmor_train.recipes.UnknownRecipeError: no such recipe.
        tmor_train.tasks.UnknownTaskError: a flag that is not supported for it.
        tmor_train.configuration.ConfigError: no such field or value.
    """
    from tmor_train.configuration import changed
    from tmor_train.recipes import recipe
    from tmor_train.tables import TASKS
    from tmor_train.tasks import task_type

    config = recipe(options.recipe)
    given = {name: getattr(options, name.replace("-", "_")) for task in TASKS.values() for name in task.flags}
    words = {name: ",".join(value) if isinstance(value, list) else value for name, value in given.items()}
    flags = {name: value for name, value in words.items() if value is not None}
    return changed(config, [*task_type(config, TASKS).changes(flags), *options.changes])


def _add_ray(parser: argparse.ArgumentParser) -> None:
    """The flags that hand pre-training to Ray Train."""
    ray = parser.add_argument_group("Ray", "Pre-train on a cluster; the run's folder lies on storage all nodes share.")
    ray.add_argument("--ray", metavar="ADDRESS", help="of the cluster; auto: that of this machine, local: a new one")
    ray.add_argument("--workers", type=int, default=1, metavar="N", help="processes, a GPU each (default: %(default)s)")
    ray.add_argument("--cpus", type=int, default=1, metavar="N", help="of each process (default: %(default)s)")


def _ray_processes(options: argparse.Namespace) -> RayJob | None:
    """The Ray job that the flags ask for; None without ``--ray``, to run in this process."""
    if options.ray is None:
        return None
    from tmor_train.training.ray_train import RayJob

    return RayJob(address=options.ray, workers=options.workers, cpus=options.cpus)


def _is_main() -> bool:
    """Whether this process prints: of those that torchrun started, only the one of rank 0."""
    return os.environ.get("RANK", "0") == "0"


def _print_results(written: Path) -> None:
    """Print a folder's table of the paper, or the figures of the results in and below it, and where they are."""
    if not _is_main():
        return
    if (written / _TABLE).is_file():
        print((written / _TABLE).read_text(encoding="utf-8"))
    elif written.is_dir():
        from tmor_train.evaluation.runner import summary
        from tmor_train.results import results_under

        for line in summary([result for _, result in results_under(written)]):
            print(line)
    print(f"done: {written}")
