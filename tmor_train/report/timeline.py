"""Section: true actions and predicted ones along recordings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmor_train.evaluation.detection.detect import runs
from tmor_train.report.charts import label, svg
from tmor_train.report.collect import Collected, StoredResult
from tmor_train.report.section import Block, Chart, Section
from tmor_train.results import FRAMES, FrameScores, ResultError, read_frame_scores

_MOST_RESULTS, _MOST_RECORDINGS, _MOST_CLASSES, _COLUMNS = 4, 3, 16, 800


def timelines(collected: Collected) -> Section | None:
    """Of the best results of frames: the recordings with most labelled frames, their classes a line each."""
    found = sorted(
        (one for one in collected.results if (one.folder / FRAMES).is_file()),
        key=StoredResult.primary,
        reverse=True,
    )
    about = "Green: when the class is true. Blue, below it: when it is predicted, darker where it is more likely."
    blocks = [Block(text=about)]
    for number, one in enumerate(found[:_MOST_RESULTS]):
        try:
            frames = read_frame_scores(one.folder)
        except ResultError as error:
            blocks.append(Block(text=str(error)))
            continue
        charts = [_recording(one, frames, at, f"timeline-{number}-{at}") for at in _longest(frames)]
        title = f"{one.result.benchmark} {one.result.protocol}, {one.words}"
        blocks.append(Block(heading=title, charts=charts))
    if len(found) > _MOST_RESULTS:
        blocks.append(Block(text=f"{len(found) - _MOST_RESULTS} more with lower figures are left out."))
    return Section("timelines", "Along recordings", blocks) if found else None


def _longest(frames: FrameScores) -> list[int]:
    """The recordings with most labels, those first."""
    labels = [int(frames.recording(at)[1].sum()) for at in range(len(frames.key_R))]
    return [at for at in np.argsort(labels, kind="stable")[::-1].tolist() if labels[at]][:_MOST_RECORDINGS]


def _recording(one: StoredResult, frames: FrameScores, at: int, name: str) -> Chart:
    scores_TC, label_TK = frames.recording(at)
    score_TK = scores_TC[:, scores_TC.shape[1] - label_TK.shape[1] :].astype(np.float32)  # without background
    total_K = label_TK.sum(0)
    # Classes that are there, and of the others those that are predicted most.
    order = np.lexsort((-score_TK.sum(0), -total_K))[:_MOST_CLASSES].tolist()
    rate = float(frames.fps_R[at]) or 0.0
    length = len(score_TK) * frames.every
    end, unit = (length / rate, "seconds") if rate else (float(length), "frames")
    scale = end / len(score_TK)
    strip_KW = binned(score_TK[:, order])
    classes = [label(one.result.classes[k]) if k < len(one.result.classes) else str(k) for k in order]

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for line, k in enumerate(order):
            axes.imshow(
                strip_KW[line : line + 1],
                extent=(0, end, line + 0.05, line + 0.4),
                aspect="auto",
                cmap="Blues",
                vmin=0,
                vmax=max(float(strip_KW.max()), 1e-6),
                interpolation="nearest",
            )
            spans = [(begin * scale, (stop - begin) * scale) for begin, stop in runs(label_TK[:, k])]
            axes.broken_barh(spans, (line - 0.35, 0.35), color="#2da44e")
        axes.set_xlim(0, end)
        axes.set_ylim(len(order), -0.6)
        axes.set_yticks(range(len(order)), classes)
        axes.set_xlabel(unit)

    drawing = svg(draw, width=9.5, height=1.0 + 0.32 * len(order), name=name)
    return Chart(drawing, f"{one.name}, {frames.key_R[at]}", title=str(frames.key_R[at]))


def binned(score_TK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores as lines of classes, (K, W), the highest of each of at most 800 stretches of frames."""
    starts = np.unique(np.linspace(0, len(score_TK), min(len(score_TK), _COLUMNS), endpoint=False).astype(np.int64))
    strip: NDArray[np.float32] = np.maximum.reduceat(score_TK, starts, axis=0).T
    return strip
