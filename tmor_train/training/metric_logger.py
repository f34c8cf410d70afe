"""What a run tells while it works: metrics as a line of JSON per event, TensorBoard's files where that is installed,
curves as pictures, and a line of progress on the terminal; and metrics of embeddings that tell whether training
collapses: how many directions they use, how far two views of a clip lie apart, how evenly embeddings spread.

Embeddings are (N, D) float tensors on any device; the metrics are plain floats.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any, Self, TextIO

import torch
from torch import Tensor
from torch.nn import functional

from posecap.terminal import duration_text

JOURNAL = "journal.jsonl"
"""The file of a run's events, in its folder."""
# What :func:`plot` draws: of the event ``step``, and by picture of the event ``epoch``.
_LOSSES = ("loss", "mm/loss", "mv/loss", "mt/loss")
_EPOCHS = (
    ("clusters.png", ("clusters", "noise_share", "largest_share", "eps", "ari_labels", "ari_previous")),
    ("embeddings.png", ("rank", "uniformity", "neighbours_agree")),
)


class MetricLogger:
    """Appends events to ``folder/journal.jsonl``; with ``folder`` None nothing is written.

    It is a context manager: events logged before it is entered are lost, and after it is left :meth:`log` raises
    ValueError.

    Each line has ``event``, ``step``, ``seconds`` since 1970 (UTC) and the event's metrics. ``step`` is the number of
    steps taken so far. ``epoch`` of the event ``step`` is the number, from 0, of the epoch that the step is of.
    ``epoch`` of the event ``epoch`` is in pre-training the number of epochs completed, and in fine-tuning and detection
    the number, from 0, of the one just completed. ``epoch`` and ``position`` of the event ``checkpoint`` are those of
    :class:`~tmor_train.data.loader.LoaderState`. A resumed run appends to the same file: pre-training after a line with
    the event ``resume``, fine-tuning and detection after one more ``start``, whose ``step`` is that of the checkpoint.
    Where an event occurs twice with the same step, the later line holds.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._open = ExitStack()
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / JOURNAL
            self._file = self._open.enter_context(path.open("a", encoding="utf-8"))
            if not _ends_with_a_line(path):  # the process before this one was killed while it wrote
                self._file.write("\n")
            self._board = _board(self._folder / "tensorboard")
            if self._board is not None:
                self._open.callback(self._board.close)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def log(self, event: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one line, and numbers to TensorBoard as ``event/name``. NaN and infinities are written as null, for
        JSON has no numbers for them.

        Args:
            metrics: JSON values by name; ``event``, ``step`` and ``seconds`` are names of the line's own.
        """
        if self._file is None:
            return
        line = {"event": event, "step": step, "seconds": round(time.time(), 3)}
        line |= {name: _finite(value) for name, value in metrics.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in metrics.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._board.add_scalar(f"{event}/{name}", value, step)


def read_events(folder: Path, *events: str) -> Iterator[dict[str, Any]]:
    """The lines of a run's journal whose ``event`` is one of ``events``, in the order written. What is no such line, as
    one that a killed process left incomplete, is skipped. With no ``events`` there are none.

    Raises:
        FileNotFoundError: the run has no journal.
    """
    with (folder / JOURNAL).open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int) and line.get("event") in events:
                yield line


def _ends_with_a_line(path: Path) -> bool:
    """Whether a file is empty or its last line is complete, from its last byte alone: a journal may be large."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _finite(value: Any) -> Any:
    """The value, or None for a float that JSON has no number for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _board(folder: Path) -> Any:
    """A writer of TensorBoard's files in ``folder``; None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


def plot(folder: Path) -> str:
    """Draw the journal's curves as ``plots/*.png``; returns a sentence for the user: where they are, or that matplotlib
    is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return "no plots: matplotlib is not installed (pip install 'posecap[train]')"
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)

    def draw(name: str, event: str, series: tuple[str, ...]) -> None:
        """One picture with a curve for each metric of ``series`` that the event has; none where it has none."""
        lines = list({line["step"]: line for line in read_events(folder, event)}.values())
        shown = [key for key in series if any(line.get(key) is not None for line in lines)]
        if not shown:
            return
        figure = Figure(figsize=(8, 2.2 * len(shown)), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, key in zip(figure.subplots(len(shown), 1, sharex=True, squeeze=False).flat, shown, strict=True):
            points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
            axes.plot(*zip(*points, strict=True), linewidth=1.2)
            axes.set_ylabel(key)
            axes.grid(alpha=0.3)
        axes.set_xlabel("step")
        figure.savefig(plots / name, dpi=100)

    draw("loss.png", "step", _LOSSES)
    for name, series in _EPOCHS:
        draw(name, "epoch", series)
    return f"plots: {plots}"


PLAIN_SECONDS = 30.0
"""Least time between two lines where the output is no terminal, so that a line cannot be redrawn. This and the next are
our choices: a log of hours stays short, and a line can be read between two drawings."""
_REDRAW_SECONDS = 0.2  # least time between two drawings of the line on a terminal


class Progress:
    """Counts steps, clips and time of this process. ``done`` of all ``steps`` of the run were done before it was
    resumed, and do not count in the rates. ``clock`` gives seconds from any zero; lines go to ``out``, standard error
    by default."""

    def __init__(
        self,
        *,
        steps: int,
        done: int = 0,
        out: TextIO | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._steps, self._done, self._first = steps, done, done
        self._out, self._clock = out or sys.stderr, clock
        self._began = self._written = clock()
        self._clips, self._waited, self._aside = 0, 0.0, 0.0  # the last two in seconds

    def step(self, *, clips: int, waited: float, words: str) -> None:
        """Count a step of ``clips`` clips (in pre-training those of all processes), ``waited`` seconds of which went
        into waiting for data; ``words`` begin the line."""
        self._done += 1
        self._clips += clips
        self._waited += waited
        now = self._clock()
        if self._out.isatty():
            if now - self._written >= _REDRAW_SECONDS:
                self._written = now
                self._out.write(f"\r\x1b[2K{self._line(words)}")
                self._out.flush()
        elif now - self._written >= PLAIN_SECONDS:
            self._written = now
            self.log(self._line(words))

    def aside(self, seconds: float) -> None:
        """Leave ``seconds`` that went into something else than steps, such as clustering, out of the rates."""
        self._aside += seconds

    def log(self, line: str) -> None:
        """Write a line that is not redrawn."""
        self._out.write(f"\r\x1b[2K{line}\n" if self._out.isatty() else f"{line}\n")
        self._out.flush()

    def metrics(self) -> dict[str, float]:
        """Clips a second and the share of time that this process spent waiting for data, since it began."""
        seconds = max(self._clock() - self._began - self._aside, 1e-9)  # at first none may have passed
        return {"samples_per_second": self._clips / seconds, "data_wait": min(self._waited / seconds, 1.0)}

    def _line(self, words: str) -> str:
        """What is shown after a step: steps, clips a second, share of waiting, and time left at the present rate."""
        seconds = self._clock() - self._began  # with the time aside: the steps left will be interrupted as well
        metrics = self.metrics()
        rate = metrics["samples_per_second"]
        left = (self._steps - self._done) * seconds / max(self._done - self._first, 1)
        return (
            f"{words}  step {self._done:,}/{self._steps:,}  {rate:.{0 if rate >= 10 else 1}f} samples/s  "
            f"data {100 * metrics['data_wait']:.1f} %  ETA {duration_text(left)}"
        )


FEWEST_DIRECTIONS = 2.0
"""Pre-training warns of a collapse where the effective rank is below this: our choice, just above the 1 of embeddings
on a line."""


def effective_rank(embeddings_ND: Tensor) -> float:
    """exp of the entropy (in nats) of the singular values, as shares of their sum, after the mean is subtracted: from 1
    to min(N - 1, D), and 0 where all embeddings are the same, as with N = 1.

    O. Roy, M. Vetterli, "The effective rank", EUSIPCO 2007; there the matrix is taken as it is.
    """
    centred = (embeddings_ND - embeddings_ND.mean(0)).double()
    values = torch.linalg.svdvals(centred)
    # Rounding leaves differences of about this size between embeddings that are the same.
    if values[0] <= 1e-6 * embeddings_ND.double().norm():
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def alignment(one_ND: Tensor, other_ND: Tensor) -> float:
    """Mean squared distance of two views of the same clips, row by row, on the unit sphere, 0 to 4; small is good.

    T. Wang, P. Isola, "Understanding contrastive representation learning", ICML 2020, with alpha = 2.
    """
    one, other = functional.normalize(one_ND, dim=1), functional.normalize(other_ND, dim=1)
    return float((one - other).square().sum(1).mean())


def uniformity(embeddings_ND: Tensor) -> float:
    """log of the mean of exp(-2 d²) over all pairs, d their distance on the unit sphere: 0 if all are the same, the
    lower the more evenly they spread; 0 also for fewer than two embeddings.

    The same paper as :func:`alignment`, with t = 2.
    """
    unit = functional.normalize(embeddings_ND.double(), dim=1)
    count = len(unit)
    if count < 2:
        return 0.0
    squares = (2 - 2 * unit @ unit.T).clamp(min=0)
    pairs = (-2 * squares).exp().fill_diagonal_(0).sum()
    return math.log(float(pairs) / (count * (count - 1)))  # each pair gives at least exp(-8)


def neighbours_agree(embeddings_ND: Tensor, labels_N: Tensor, *, most: int = 4096) -> float | None:
    """The share, 0 to 1, of labelled embeddings whose nearest other labelled one by cosine has the same label; None for
    fewer than two.

    Labels serve this metric alone, not training.

    Args:
        labels_N: int64, below 0 where not known.
        most: of more embeddings, evenly spaced ones are taken.
    """
    known = torch.nonzero(labels_N >= 0).flatten()
    if len(known) < 2:
        return None
    known = known[:: -(-len(known) // most)]
    unit = functional.normalize(embeddings_ND[known], dim=1)
    nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(1)  # -2 is below every cosine: itself is never the nearest
    labels = labels_N[known]
    return float((labels[nearest] == labels).double().mean())


def step_metrics(features_ND: Tensor, keys_ND: Tensor) -> dict[str, float]:
    """Metrics of a step: ``features_ND`` of the encoder and ``keys_ND`` of the EMA encoder, the same clips row by row,
    both before the projection heads; ``rank`` and ``uniformity`` are of ``features_ND``."""
    features, keys = features_ND.detach().float(), keys_ND.detach().float()
    return {
        "rank": effective_rank(features),
        "alignment": alignment(features, keys),
        "uniformity": uniformity(features),
    }
