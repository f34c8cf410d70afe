"""A run of an evaluation as a folder: ``config.json``, a result for each of its measurements, and their summary.

A trial is one measurement, with one seed. A trial whose folder has a result is skipped, so that running the same
configuration again resumes a run that was stopped.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from posecap.files import file_sha256, write_file
from tmor_train.configuration import KIND, as_json
from tmor_train.data.dataset import Floats
from tmor_train.data.provenance import Inputs
from tmor_train.evaluation.config import SCRATCH
from tmor_train.evaluation.encoders import Source, seen_notes
from tmor_train.evaluation.task import FrameTask, Task
from tmor_train.metrics.accuracy import accuracy, spread, wilson
from tmor_train.results import RESULT, FrameScores, Result, Scores, save
from tmor_train.training.checkpoint import newest_of
from tmor_train.training.runs import INPUTS, READING, RunError, check_new, read_config, run_lock, write_config

_INPUTS_FORMAT = "tmor_train.inputs/1"
_log = logging.getLogger(__name__)

Begun = Literal["new", "before"]
"""Whether a run is new, so that its folder must not hold one, or was begun before and is resumed."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Metrics:
    """``metrics`` of one trial: shares from 0 to 1 by name, of which ``primary_metric`` is the one of the paper's
    table. ``per_class_K`` is the share of each class (float64, NaN for a class that does not occur). ``chosen`` are
    settings found on a hold-out, as JSON values; ``notes`` are sentences to print beside every metric."""

    metrics: dict[str, float]
    primary_metric: str
    per_class_K: NDArray[np.float64]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class TrialOutput:
    """What a trial computes: its metrics, the scores that they follow from, the ``source`` of the encoder whose
    features were scored (None: raw coordinates), and the numbers of clips or recordings as
    :class:`tmor_train.results.Result` has ``counts``."""

    metrics: Metrics
    scores: Scores | FrameScores
    source: Source | None
    counts: dict[str, int]


def clip_output(
    task: Task,
    scores_NK: Floats,
    *,
    source: Source | None,
    trained: int,
    chosen: Mapping[str, Any] | None = None,
    notes: tuple[str, ...] = (),
) -> TrialOutput:
    """The output of a trial that gave the task's test clips the class scores (N, K) float32.

    ``trained`` is the number of clips that it was trained on.
    """
    clips = task.test.clips
    measured = accuracy(scores_NK, clips.label_N)
    return TrialOutput(
        metrics=Metrics(
            metrics={"top1": measured.top1, "mean_per_class": measured.mean_per_class},
            primary_metric=task.primary_metric,
            per_class_K=measured.per_class_K,
            chosen=chosen or {},
            notes=notes,
        ),
        scores=Scores(scores_NK, clips.label_N, clips.key_N),
        source=source,
        counts={"train": trained, "test": len(task.test)},
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """One measurement with one seed.

    ``mode`` and ``labels`` are those of its :class:`tmor_train.results.Result`. ``name`` is its folder below the run's
    (empty: the run's own). ``measure`` takes that folder, for checkpoints, and trains and evaluates.
    """

    mode: str
    name: str
    seed: int
    labels: float = 1.0
    measure: Callable[[Path], TrialOutput]


def run_trials(
    trials: Iterable[Trial], *, task: Task | FrameTask, config: Any, folder: Path, begun: Begun = "new"
) -> Path:
    """Write the configuration of a new run, then measure every trial without a result and save each as it ends.

    Returns:
        ``folder``.

    Raises:
        RunError: the run is new, and the folder already holds one; or it was begun when the benchmark's files were read
            otherwise (:attr:`tmor_train.benchmarks.Benchmark.reading`), or with other files, another checkpoint among
            them; or another process is working on it.
    """
    with run_lock(folder):
        _begin(task, config=config, folder=folder, begun=begun)
        unchecked = begun == "before"
        for trial in trials:
            trial_folder = folder / trial.name
            if (trial_folder / RESULT).exists():
                continue
            if unchecked:  # not where nothing is left to measure: results can be printed whatever became of the files
                _check_inputs(folder, _inputs(task, config))
                unchecked = False
            start = monotonic()
            output = trial.measure(trial_folder)
            result = result_of(output, trial, task=task, config=config, seconds=monotonic() - start)
            save(result, trial_folder, scores=output.scores)
    return folder


def _begin(task: Task | FrameTask, *, config: Any, folder: Path, begun: Begun) -> None:
    """Write the configuration of a new run, or check that the one before can go on; raises as :func:`run_trials`."""
    reading = task.benchmark.reading
    if begun == "new":
        check_new(folder)
        # Before the configuration, which makes the folder a run.
        document = {"format": _INPUTS_FORMAT, **_inputs(task, config).as_json()}
        write_file(folder / INPUTS, (json.dumps(document, indent=1) + "\n").encode())
        known = {KIND: type(config).__name__} | ({READING: reading} if reading > 1 else {})
        write_config(known | as_json(config), folder)
    elif read_config(folder).get(READING, 1) != reading:
        raise RunError(
            f"{folder} was begun by a version that read the files of {task.benchmark.name} otherwise (CHANGELOG.md "
            "says how); measure again with another --output"
        )


def _inputs(task: Task | FrameTask, config: Any) -> Inputs:
    """The benchmark's files, and those beside them that a configuration names: the encoder's checkpoint (of a run the
    newest) and the vectors of prompts. Those that are missing are left out: their readers say so."""
    start, texts = getattr(config, "start", None), getattr(config, "texts", None)
    named = [] if start is None or start.weights in (None, SCRATCH) else [Path(start.weights)]
    paths = [path if path.is_file() else newest_of(path) for path in named]
    if isinstance(texts, str):
        paths.append(Path(texts))
    return task.inputs.with_files(
        {path.as_posix(): file_sha256(path) for path in paths if path is not None and path.is_file()}
    )


def _check_inputs(folder: Path, inputs: Inputs) -> None:
    """Check that a run goes on with the files that it began with; of a former version's run that is not known, which is
    logged.

    Raises:
        RunError: it does not, or its record is damaged.
    """
    path = folder / INPUTS
    try:
        before = Inputs.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        _log.warning("notice: %s is of a version that recorded no hashes of its data, so they are not compared", folder)
        return
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}; measure again with another --output") from error
    if changes := before.differences(inputs):
        raise RunError(
            f"what the run in {folder} measures is not what it began with: {changes}; restore it, or measure again "
            "with another --output"
        )


def result_of(output: TrialOutput, trial: Trial, *, task: Task | FrameTask, config: Any, seconds: float) -> Result:
    """The output of a trial as it is stored; ``seconds`` is the time that it took."""
    measured, source = output.metrics, output.source
    return Result(
        benchmark=task.benchmark.name,
        protocol=task.protocol,
        mode=trial.mode,
        recipe=config.recipe,
        seed=trial.seed,
        labels=trial.labels,
        checkpoint=None if source is None else source.name,
        checkpoint_sha256=None if source is None else source.sha256,
        metrics=measured.metrics,
        primary_metric=measured.primary_metric,
        intervals=_intervals(measured.metrics, output.counts),
        per_class=tuple(None if np.isnan(share) else float(share) for share in measured.per_class_K),
        classes=task.classes,
        counts=output.counts,
        seconds=round(seconds, 1),
        config=as_json(config),
        chosen=dict(measured.chosen),
        notes=(*task.notes, *seen_notes(task, source, config.task.folder), *measured.notes),
        reading=task.benchmark.reading,
    )


def _intervals(metrics: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, tuple[float, ...]]:
    """The interval of Top-1, the only metric that is a share of clips. It says how far other clips of the same kind
    would move the metric; clips of one person or video are not independent, so that it is rather too narrow."""
    return {"top1": wilson(metrics["top1"], counts["test"])} if "top1" in metrics else {}


def seed_folders(seeds: Sequence[int], name: str = "") -> list[tuple[int, str]]:
    """(seed, name of its folder): ``name/seed-3``, or ``name`` itself where there is one seed only."""
    if len(seeds) == 1:
        return [(seeds[0], name)]
    return [(seed, f"{name}/seed-{seed}" if name else f"seed-{seed}") for seed in seeds]


_WORDS = {  # for people, of metrics by their names
    "top1": "Top-1",
    "mean_per_class": "mean per class",
    "nonzero": "frame mAP, classes above 0",
    "all_classes": "frame mAP, all classes",
    "points25": "mAP at 25 times",
}
# Metrics of events: mean over actions or recordings, overlap, VOC's matching.
_EVENTS = re.compile(r"(action|video)_(0\.\d+)(_one_to_one)?")


def summary(results: Sequence[Result]) -> Iterator[str]:
    """The lines of a table for each benchmark and protocol: metrics in percent, with the 95 % interval of the mean
    where there are several seeds. The last line names the metric of the paper's table."""
    by_task = attrgetter("benchmark", "protocol")
    for (benchmark, protocol), found in groupby(sorted(results, key=by_task), by_task):
        some = list(found)
        names = list(dict.fromkeys(name for result in some for name in result.metrics))
        rows = [[_row_words(key), *_cells(list(same), names)] for key, same in groupby(sorted(some, key=_row), _row)]
        by_clips = any(result.intervals for result in some)
        notes = "; ".join(dict.fromkeys(note for result in some for note in result.notes))
        clips = " to ".join(f"{count:,}" for count in sorted({result.counts.get("test", 0) for result in some}))
        yield f"{benchmark} {protocol}, {clips} measured" + (f" ({notes})" if notes else "")
        heads = ["", *map(_metric_words, names)]
        if by_clips:
            heads.append("Top-1, 95 %")
            for row, (_, same) in zip(rows, groupby(sorted(some, key=_row), _row), strict=True):
                row.append(_interval_cell(list(same)))
        widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
        for row in [heads, *rows]:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            yield "  " + "  ".join(cells)
        primaries = dict.fromkeys(_metric_words(result.primary_metric) for result in some)
        if by_clips:
            yield "  Top-1, 95 %: Wilson's interval from the number of measured clips"
        yield f"  the paper's table has {', '.join(primaries)}"


def _metric_words(name: str) -> str:
    """``action_0.5_one_to_one`` is ``mAP_a 0.5 1:1``: the mean over actions, each truth found once."""
    if (event := _EVENTS.fullmatch(name)) is not None:
        return f"mAP_{event[1][0]} {event[2]}" + (" 1:1" if event[3] else "")
    return _WORDS.get(name, name.replace("_", " "))


def _row(result: Result) -> tuple[str, float, str, str]:
    """What tells a row from others, and sorts them; labels are negative, so that all of them come before a share."""
    return result.mode, -result.labels, result.checkpoint or "raw coordinates", result.recipe


def _row_words(key: tuple[str, float, str, str]) -> str:
    """The beginning of a row: mode, encoder and, where it is not all, the share of labels."""
    mode, labels, checkpoint, _ = key
    return f"{mode}  {checkpoint}" + (f"  {-100 * labels:g} % of labels" if labels > -1 else "")


def _interval_cell(same: Sequence[Result]) -> str:
    """Wilson's interval of the mean Top-1 of some seeds, all on the same clips."""
    shares = [result.metrics["top1"] for result in same if result.intervals]
    if not shares:
        return "–"
    low, high = wilson(sum(shares) / len(shares), same[0].counts["test"])
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _cells(same: Sequence[Result], names: Sequence[str]) -> list[str]:
    """Each metric of one kind of measurement over its seeds, in words."""
    cells = []
    for name in names:
        values = [100 * result.metrics[name] for result in same if name in result.metrics]
        if len(values) > 1:
            over = spread(values)
            cells.append(f"{over.mean:.2f} ± {over.half_width:.2f} %")
        else:
            cells.append(f"{values[0]:.2f} %" if values else "–")
    return cells
