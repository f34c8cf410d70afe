"""The report's section of embeddings: maps in two dimensions, coloured by class and by cluster.

t-SNE (van der Maaten and Hinton, 2008) of scikit-learn where that is installed, else the two first principal
components; the page says which. Distances between far-away groups mean little in t-SNE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from tmor_train.clustering.clusters import ClusterConfig, adjusted_rand_score, cluster
from tmor_train.data.arrays import Floats, Numbers
from tmor_train.report.collect import Collected
from tmor_train.report.section import COLOURS, Block, Chart, label, left_out, legend, svg

# t-SNE and a picture are made of so many points at most, a legend of so many groups.
_MOST_POINTS, _MOST_FILES, _LEGEND = 2000, 4, 20
_MOST_BYTES = 4 * 2**30  # of a file; a million embeddings take 1 GiB
_MARKS = "os^v"  # with ten colours, 40 groups that look different
_T_SNE_AXES, _PERPLEXITY = 50, 30  # as usual: principal components that are kept, and scikit-learn's default


class EmbeddingsError(ValueError):
    """A file holds no embeddings; the message says which."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Embeddings (N, D) float32, the index of each one's class in ``classes``, int64, -1 where not known, and the names
    of the classes."""

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
        chosen = np.unique(np.linspace(0, max(len(table) - 1, 0), _MOST_POINTS).astype(np.int64))
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
