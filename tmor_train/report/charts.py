"""Sections of the report that are charts, as SVG: figures by class, confusion matrices, recordings, training curves,
and maps of embeddings in two dimensions, coloured by class and by cluster; and the parts of the page as data, which
``report.html.jinja`` turns into HTML, escaping all text.

Lines and text of the charts have the colour of the page's text, in its light and in its dark style. Maps are by t-SNE
(van der Maaten and Hinton, 2008) of scikit-learn where that is installed, else the two first principal components; the
page says which. Distances between far-away groups mean little in t-SNE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup
from numpy.typing import NDArray

from tmor_train.benchmarks import BENCHMARKS
from tmor_train.clustering.clusters import ClusterConfig, adjusted_rand_score, cluster
from tmor_train.data.dataset import Floats, Numbers
from tmor_train.evaluation.detection.detect import runs
from tmor_train.metrics.accuracy import accuracy
from tmor_train.report.collect import Collected, StoredResult, best_first
from tmor_train.results import FRAMES, SCORES, FrameScores, ResultError, read_frame_scores, read_scores
from tmor_train.training.metric_logger import read_events

# Bounds of what is drawn, for a page that can be read and sent; our choices, as sizes of figures are (in inches).
# _MOST_NUMBERS: classes of a matrix whose cells still have room for a number. _MOST_COLUMNS: about one for each pixel
# of a recording's strip.
_MOST_SERIES, _MOST_MATRICES, _MOST_NUMBERS, _MOST_RUNS, _MOST_POINTS = 6, 12, 20, 24, 1000
_MOST_RESULTS, _MOST_RECORDINGS, _MOST_CLASSES, _MOST_COLUMNS = 4, 3, 16, 800
# A placeholder: no chart uses this colour, and in the SVG it is replaced by the colour of the page's text.
_INK = "#010203"
_SETTINGS = {  # matplotlib's rcParams
    "svg.fonttype": "none",  # text as text, not as outlines
    "text.parse_math": False,  # the name of a class may have dollar signs
    "font.family": "sans-serif",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "savefig.facecolor", "legend.facecolor"), "none"),
    "legend.edgecolor": "none",
    "legend.framealpha": 0.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
    "grid.color": "#808080",
}
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)  # which matplotlib writes, with its version
LABEL_CHARACTERS, LEGEND_CHARACTERS = 40, 100
"""Length at which text of axes and of legends is cut; our choices for what fits beside a figure."""

COLOURS = ("#2f81f7", "#d29922", "#2da44e", "#db61a2", "#8957e5", "#e5534b", "#1b9aaa", "#8a8f98", "#a0692c", "#6e8b00")
"""Colours of series, chosen to differ from each other on white and on black."""


def printable(text: object, *, limit: int = 2000) -> str:
    """Text on one line without characters that cannot be printed, cut at ``limit`` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Chart:
    """An element ``svg``, None where matplotlib is not installed, with its caption.

    With a ``title`` the page shows it in an element that opens and closes by a click, at first as ``is_open`` says;
    without one ``is_open`` is not used.
    """

    svg: Markup | None
    caption: str
    title: str = ""
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table. The first of ``cells`` spans ``span`` columns; ``kind`` is its class in the page's style
    sheet."""

    cells: Sequence[object]
    span: int = 1
    kind: Literal["", "section", "measured"] = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of ``lines`` with the headings ``heads``. The first ``text_columns`` columns hold text, the others
    numbers."""

    heads: Sequence[str]
    lines: Sequence[Line]
    text_columns: int


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a section; the page shows the fields that are not empty, in this order. ``notes`` and ``more_notes``
    are lists of sentences."""

    heading: str = ""
    text: str = ""
    grid: Grid | None = None
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()
    more_notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: the ``name`` of its anchor, its title, and its blocks from top to bottom."""

    name: str
    title: str
    blocks: Sequence[Block]


def left_out(items: Sized, most: int, what: str) -> Iterator[Block]:
    """A line on how many of ``items`` are not shown, if there are more than ``most``."""
    if len(items) > most:
        yield Block(text=f"{len(items) - most} more {what} are left out.")


def svg(draw: Callable[[Any], None], *, width: float, height: float, name: str) -> Markup | None:
    """A chart as an SVG element: ``draw`` gets a matplotlib figure of ``width`` by ``height`` inches. None without
    matplotlib.

    Args:
        name: unique in a page, so that elements of different figures have different ids.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        return None
    out = StringIO()
    with rc_context({**_SETTINGS, "svg.hashsalt": name, "svg.id": None}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})  # equal results give equal bytes
    text = out.getvalue()
    # Matplotlib escapes all text that it is given.
    return Markup(_METADATA.sub("", text[text.index("<svg") :]).replace(_INK, "currentColor"))  # noqa: S704


def label(text: object) -> str:
    """Text short enough for an axis."""
    return printable(text, limit=LABEL_CHARACTERS)


def legend(text: object) -> str:
    """Text short enough for a legend. Matplotlib leaves out what begins with an underscore."""
    line = printable(text, limit=LEGEND_CHARACTERS)
    return f" {line}" if line.startswith("_") else line


_CURVES = {  # metrics that are drawn, by their event
    "step": ("loss", "mm/loss", "mv/loss", "mt/loss", "rate"),
    "epoch": ("train_top1", "rank", "uniformity", "clusters", "noise_share", "largest_share", "ari_labels"),
}


def per_class(collected: Collected) -> Iterator[Block]:
    """A chart for each benchmark and protocol: accuracy of clips, or average precision of frames and events."""

    def task(one: StoredResult) -> tuple[str, str, tuple[str, ...]]:
        return one.result.benchmark, one.result.protocol, tuple(one.result.classes)

    known = sorted((one for one in collected.distinct() if one.result.per_class), key=task)
    for number, ((benchmark, protocol, classes), group) in enumerate(groupby(known, task)):
        ranked = best_first(group)
        shown = ranked[:_MOST_SERIES]
        clips = benchmark not in BENCHMARKS or BENCHMARKS[benchmark].task == "clips"
        what = "clips of a class that are recognized" if clips else "average precision of a class"
        order = ordered(shown, len(classes))
        missing = f"; {len(classes) - len(order)} classes that nothing was measured of are left out"
        chart = Chart(
            _draw_classes(shown, classes, order, what, name=f"classes-{number}"),
            f"{what}, in percent{missing if len(order) < len(classes) else ''}",
        )
        yield Block(heading=f"{benchmark} {protocol}", charts=[chart])
        yield from left_out(ranked, _MOST_SERIES, "with a lower primary metric")


def ordered(shown: list[StoredResult], classes: int) -> list[int]:
    """Numbers of the classes that any result has a share of, from the first result's lowest to its highest."""
    known = [index for index in range(classes) if any(one.result.per_class[index] is not None for one in shown)]
    share_of = [-1.0 if share is None else share for share in shown[0].result.per_class]
    return sorted(known, key=share_of.__getitem__)


def _draw_classes(
    shown: list[StoredResult], classes: tuple[str, ...], order: list[int], what: str, *, name: str
) -> Markup | None:
    """The share of each class in ``order``, a series for each result."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for number, one in enumerate(shown):
            points = [(one.result.per_class[index], row) for row, index in enumerate(order)]
            known = [(100 * share, row) for share, row in points if share is not None]
            if known:
                axes.plot(*zip(*known, strict=True), "o", markersize=5, color=COLOURS[number], label=legend(one.words))
        axes.set_yticks(range(len(order)), [label(classes[index]) for index in order])
        axes.set_xlim(-2, 102)
        axes.set_xlabel(f"{what} (%)")
        axes.grid(axis="both")
        figure.legend(loc="outside upper left", fontsize=8)

    return svg(draw, width=9.0, height=1.2 + 0.25 * len(order) + 0.2 * len(shown), name=name)


def confusion(collected: Collected) -> Iterator[Block]:
    """A confusion matrix for each result with scores of clips, the best one first; the rest is only counted."""
    known = []
    for one in best_first(collected.distinct()):
        if (one.folder / SCORES).is_file():
            try:
                known.append((one, _confusion(one)))
            except ResultError as error:
                yield Block(text=str(error))
    for number, (one, confusion_KK) in enumerate(known[:_MOST_MATRICES]):
        drawing = _draw_confusion(one, confusion_KK, f"confusion-{number}")
        yield Block(charts=[Chart(drawing, _most_confused(one, confusion_KK), one.title, is_open=not number)])
    yield from left_out(known, _MOST_MATRICES, "with a lower primary metric")


def _confusion(one: StoredResult) -> NDArray[np.int64]:
    """Clips by true and predicted class.

    Raises:
        ResultError: the scores are damaged, or of other classes than the result.
    """
    scores, classes = read_scores(one.folder), len(one.result.classes)
    try:
        confusion_KK = accuracy(scores.scores_NK, scores.label_N).confusion_KK
    except ValueError as error:
        raise ResultError(f"{one.folder / SCORES} has no confusion matrix: {error}") from error
    if len(confusion_KK) != classes:
        raise ResultError(f"{one.folder / SCORES} has scores of {len(confusion_KK)} classes, the result {classes}")
    return confusion_KK


def _draw_confusion(one: StoredResult, confusion_KK: NDArray[np.int64], name: str) -> Markup | None:
    """A confusion matrix, by the share of the true class."""
    classes = [label(words) for words in one.result.classes]
    share_KK = confusion_KK / np.maximum(confusion_KK.sum(1, keepdims=True), 1)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        image = axes.imshow(share_KK, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
        if len(classes) <= _MOST_NUMBERS:
            for (true, predicted), count in np.ndenumerate(confusion_KK):
                if count:
                    ink = "#ffffff" if share_KK[true, predicted] > 0.5 else "#1b1f24"
                    axes.text(predicted, true, str(count), ha="center", va="center", color=ink, fontsize=7)

    side = 3.0 + 0.22 * len(classes)
    return svg(draw, width=side + 1.0, height=side, name=name)


def _most_confused(one: StoredResult, confusion_KK: NDArray[np.int64]) -> str:
    """The pair that is confused most often, in words."""
    wrong = confusion_KK - np.diag(confusion_KK.diagonal())
    if not wrong.any():
        return f"{one.name}: every clip is recognized"
    true, predicted = divmod(int(wrong.argmax()), len(wrong))
    classes = one.result.classes
    return f"{one.name}: most often {classes[true]} is taken for {classes[predicted]} ({wrong[true, predicted]} clips)"


def timelines(collected: Collected) -> Iterator[Block]:
    """Of the best results of frames: the recordings with most labelled frames, their classes a line each."""
    ranked = best_first(one for one in collected.results if (one.folder / FRAMES).is_file())
    about = "Green: when the class is true. Blue, below it: when it is predicted, darker where it is more likely."
    if ranked:
        yield Block(text=about)
    for number, one in enumerate(ranked[:_MOST_RESULTS]):
        try:
            frames = read_frame_scores(one.folder)
        except ResultError as error:
            yield Block(text=str(error))
            continue
        charts = [_recording(one, frames, at, f"timeline-{number}-{at}") for at in _most_labelled(frames)]
        yield Block(heading=one.title, charts=charts)
    yield from left_out(ranked, _MOST_RESULTS, "with a lower primary metric")


def _most_labelled(frames: FrameScores) -> list[int]:
    """The recordings with most labels, those first."""
    labels = [int(frames.recording(at)[1].sum()) for at in range(len(frames.key_R))]
    return [at for at in np.argsort(labels, kind="stable")[::-1].tolist() if labels[at]][:_MOST_RECORDINGS]


def _recording(one: StoredResult, frames: FrameScores, at: int, name: str) -> Chart:
    """The chart of the recording of index ``at``: below each other the classes, each with its labels and its scores
    over time."""
    scores_TC, label_TK = frames.recording(at)
    score_TK = scores_TC[:, scores_TC.shape[1] - label_TK.shape[1] :].astype(np.float32)  # without background
    total_K = label_TK.sum(0)
    # Classes that are there, and of the others those that are predicted most.
    order = np.lexsort((-score_TK.sum(0), -total_K))[:_MOST_CLASSES].tolist()
    rate = float(frames.fps_R[at])  # 0 where not known
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
                vmax=max(float(strip_KW.max()), 1e-6),  # all scores may be 0
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
    """Scores (T, K) as lines of classes, (K, W): the highest of each of W stretches of frames, 800 or T where that is
    less."""
    starts = np.unique(
        np.linspace(0, len(score_TK), min(len(score_TK), _MOST_COLUMNS), endpoint=False).astype(np.int64)
    )
    strip: NDArray[np.float32] = np.maximum.reduceat(score_TK, starts, axis=0).T
    return strip


def training_curves(collected: Collected) -> Iterator[Block]:
    """Losses by step, and metrics by epoch, of each run that has any."""
    known = [(folder, curves) for folder in collected.runs if (curves := _curves(folder))]
    for number, (folder, curves) in enumerate(known[:_MOST_RUNS]):
        last = ", ".join(f"{key} {points[-1][1]:.4g}" for key, points in curves.items())
        drawing = _draw_curves(curves, f"curves-{number}")
        yield Block(charts=[Chart(drawing, f"at the end: {last}", collected.name_of(folder), is_open=not number)])
    yield from left_out(known, _MOST_RUNS, "runs")


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Points (step, value) of each metric that a run has logged; of lines of one step the last holds. Of many points
    every n-th is kept, and metrics of a single point are left out."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for event, keys in _CURVES.items():
        try:
            lines = {int(line["step"]): line for line in read_events(folder, event)}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # another program's file of that name, of which there is nothing to say
        for key in keys:
            points = [(step, line[key]) for step, line in sorted(lines.items()) if _is_number(line.get(key))]
            if len(points) > 1:
                curves[key] = points[:: -(-len(points) // _MOST_POINTS)]
    return curves


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw_curves(curves: dict[str, list[tuple[int, float]]], name: str) -> Markup | None:
    """Curves side by side, three in a row."""
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)

    def draw(figure: Any) -> None:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(curves) :]:
            axes.set_visible(False)
        for number, (key, points) in enumerate(curves.items()):
            axes = grid.flat[number]
            axes.plot(*zip(*points, strict=True), linewidth=1.4, color=COLOURS[number % len(COLOURS)])
            axes.set_title(label(key), fontsize=9)
            axes.set_xlabel("step")
            axes.grid()

    return svg(draw, width=9.5, height=2.3 * rows, name=name)


# t-SNE and a picture are made of so many points at most, a legend of so many groups.
_MOST_EMBEDDINGS, _MOST_FILES, _LEGEND = 2000, 4, 20
_MOST_BYTES = 4 * 2**30  # of a file; a million embeddings take 1 GiB
_MARKS = "os^v"  # with ten colours, 40 groups that look different
_T_SNE_AXES, _PERPLEXITY = 50, 30  # as usual: principal components that are kept, and scikit-learn's default


class EmbeddingsError(ValueError):
    """A file holds no embeddings; the message says which."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Embeddings ``vectors_ND`` float32, the index ``label_N`` of each one's class in ``classes``, int64, -1 where not
    known, and the names of the classes."""

    vectors_ND: Floats
    label_N: Numbers
    classes: tuple[str, ...]


def embeddings(collected: Collected) -> Iterator[Block]:
    """A map for each file of embeddings."""
    for number, path in enumerate(collected.embeddings[:_MOST_FILES]):
        try:
            yield Block(heading=path.name, charts=_map(read_cloud(path), number))
        except EmbeddingsError as error:
            yield Block(heading=path.name, text=str(error))
    yield from left_out(collected.embeddings, _MOST_FILES, "files")


def read_cloud(path: Path) -> Cloud:
    """Read a file of ``tmor_train embed``; of more than 2,000 embeddings, 2,000 evenly spaced ones.

    Raises:
        EmbeddingsError: the file is not there, or not as that command writes it.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES >> 30} GiB")
        table = pq.read_table(path, columns=["label", "embedding"])
        chosen = np.unique(np.linspace(0, max(len(table) - 1, 0), _MOST_EMBEDDINGS).astype(np.int64))
        table = table.take(chosen[chosen < len(table)])
        vectors = np.array(table["embedding"].to_pylist(), np.float32)
        labels = table["label"].to_pylist()  # of text that is not UTF-8 a ValueError
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise EmbeddingsError(f"{path} holds no embeddings: {error}") from error
    if vectors.ndim != 2 or len(vectors) < 3 or not np.isfinite(vectors).all():
        raise EmbeddingsError(f"{path}: embeddings {vectors.shape} are too few, of several lengths, or not finite")
    if not vectors.any(1).all():
        raise EmbeddingsError(f"{path}: some embeddings are zeros, which have no direction")
    classes = tuple(sorted({str(name) for name in labels if name is not None}))
    numbers = {name: at for at, name in enumerate(classes)}
    return Cloud(vectors, np.array([-1 if x is None else numbers[str(x)] for x in labels], np.int64), classes)


def plane(vectors_ND: Floats) -> tuple[Floats, str]:
    """The vectors (N, D), scaled to length 1, in two dimensions, (N, 2) float32, and the name of the method that was
    used. Its axes have no unit. N is at least 3."""
    unit = vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    centred = unit - unit.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        flat: Floats = (centred @ axes[:2].T).astype(np.float32)
        return flat, "the two first principal components (t-SNE needs scikit-learn, which is not installed)"
    few = centred @ axes[:_T_SNE_AXES].T
    perplexity = float(min(_PERPLEXITY, (len(few) - 1) / 3))  # it needs three times as many neighbours
    placed = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(few)
    return np.asarray(placed, np.float32), f"t-SNE of unit vectors, perplexity {perplexity:g}"


def _map(cloud: Cloud, number: int) -> list[Chart]:
    """The maps of one file, the ``number``-th of the page: by class, where classes are known, and by cluster."""
    place_N2, how = plane(cloud.vectors_ND)
    clustering = cluster(cloud.vectors_ND, ClusterConfig())
    cluster_N = np.asarray(clustering.labels_N, np.int64)
    words = f"{len(place_N2):,} clips, {how}"
    charts = []
    if (cloud.label_N >= 0).any():
        drawing = _scatter(place_N2, cloud.label_N, cloud.classes, f"map-class-{number}")
        charts.append(Chart(drawing, f"By class: {words}"))
    failure = f"; rejected, so every point is noise: {clustering.failure}" if clustering.fell_back else ""
    caption = (
        f"By cluster (DBSCAN on these embeddings): {clustering.clusters} clusters, "
        f"{100 * clustering.noise_share:.0f} % noise"
        f"{_agreement(cloud.label_N, cluster_N)}{failure}"
    )
    names = [f"cluster {number + 1}" for number in range(int(cluster_N.max(initial=-1)) + 1)]
    return [*charts, Chart(_scatter(place_N2, cluster_N, names, f"map-cluster-{number}"), caption)]


def _agreement(label_N: Numbers, cluster_N: Numbers) -> str:
    """How well clusters agree with classes, in words, over the clips that have both; empty for fewer than two."""
    both = (label_N >= 0) & (cluster_N >= 0)
    if both.sum() < 2:
        return ""
    return f", agreement with classes (ARI without noise) {adjusted_rand_score(label_N[both], cluster_N[both]):.2f}"


def _scatter(place_N2: Floats, number_N: Numbers, names: Sequence[str], name: str) -> Markup | None:
    """Points by group, groups from the largest on; those of no group small and grey."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        alone = place_N2[number_N < 0]
        axes.scatter(alone[:, 0], alone[:, 1], s=4, color="#8a8f98", alpha=0.4, linewidths=0, rasterized=True)
        order = sorted(range(len(names)), key=lambda group: -int((number_N == group).sum()))
        for rank, group in enumerate(order):
            points_N2 = place_N2[number_N == group]
            mark, colour = _MARKS[rank // len(COLOURS) % len(_MARKS)], COLOURS[rank % len(COLOURS)]
            shown = f"{legend(label(names[group]))} ({len(points_N2)})" if rank < _LEGEND else "_nolegend_"
            axes.scatter(
                points_N2[:, 0],
                points_N2[:, 1],
                s=10,
                marker=mark,
                color=colour,
                linewidths=0,
                rasterized=True,
                label=shown,
            )
        axes.set_xticks([])
        axes.set_yticks([])
        if names:
            figure.legend(loc="outside right upper", fontsize=8)

    return svg(draw, width=9.5, height=5.5, name=name)
