"""Seconds, memory and agreement of clustering: tmor_train's DBSCAN beside scikit-learn's, on the same embeddings.

    python benchmarks/clustering.py [--sizes 5000 20000 50000] [--near 25000 50000 100000 200000] [--repeats 1]

Embeddings are 256 numbers each: 200 Gaussian clusters and a tenth of outliers; eps is tmor_train's `adaptive_eps` from
1000 of them. `--fill 24` puts them into a random subspace of 24 of the 256 dimensions, and adds a little noise in all.
Each run has a process of its own, with the threads that torch, numpy or faiss take by themselves; time excludes imports
and making the data, memory is the peak beyond both. "labels equal" compares every label, noise and numbering included.
The search in near cells (`dbscan_near_cells`: points are compared within a cell of a k-means and its --probes nearest)
is run once, and compared with the exact result at sizes that are among --sizes too; its time for a million is
extrapolated from its own curve, and so labelled, unless --near asks for it. --approximate sets faiss (`dbscan_faiss`:
32 neighbours a point, from --probes lists) beside it where faiss is installed.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from time import perf_counter

import numpy as np
from measuring import parser_of, peak_bytes

from tmor_train.clustering.clusters import adjusted_rand_score
from tmor_train.clustering.dbscan import dbscan, dbscan_faiss, dbscan_near_cells
from tmor_train.clustering.neighbours import adaptive_eps, normalize

MIN_SAMPLES = 4
"""DBSCAN's own parameter: SpCL's."""
DIMENSIONS = 256
"""Of an embedding: those of the backbones."""
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one method: ``labels`` (N) with -1 for noise, wall ``seconds``, peak memory beyond imports and data."""

    labels: np.ndarray
    seconds: float
    mebibytes: float


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 20_000, 50_000], help="of the exact methods")
    parser.add_argument(
        "--near", type=int, nargs="*", default=[25_000, 50_000, 100_000, 200_000], help="of the search in near cells"
    )
    parser.add_argument("--probes", type=int, default=32, help="cells or lists that are searched")
    parser.add_argument("--approximate", type=int, nargs="*", default=[], help="sizes at which faiss takes part too")
    parser.add_argument("--fill", type=int, default=DIMENSIONS, help="dimensions of the clusters (default: all)")
    parser.add_argument("--repeats", type=int, default=1, help="of each exact method, in turn; the best counts")
    options = parser.parse_args()
    exact: dict[int, Run] = {}
    for size in options.sizes:
        embeddings = made_up_embeddings(size, options.fill)
        eps = eps_for(embeddings)
        turns = [
            (run_in_new_process("tmor_train", embeddings, eps), run_in_new_process("scikit-learn", embeddings, eps))
            for _ in range(options.repeats)
        ]
        ours, theirs = (min(runs, key=lambda run: run.seconds) for runs in zip(*turns, strict=True))
        exact[size] = ours
        equal = "labels equal" if (ours.labels == theirs.labels).all() else "LABELS DIFFER"
        print(
            f"{size:>9,}  eps {eps:.3f}  tmor_train {ours.seconds:7.2f} s {ours.mebibytes:7.0f} MiB   "
            f"scikit-learn {theirs.seconds:7.2f} s {theirs.mebibytes:7.0f} MiB   "
            f"scikit-learn / tmor_train = {theirs.seconds / ours.seconds:.2f}   {equal}",
            flush=True,
        )
    both = ("near cells", "faiss") if importlib.util.find_spec("faiss") else ("near cells",)
    if options.approximate and len(both) < 2:
        print("faiss is not installed, so it is left out")
    searches = [(size, method) for size in options.approximate for method in both]
    curve: dict[int, float] = {}
    for size, method in [*searches, *((size, "near cells") for size in options.near)]:
        embeddings = made_up_embeddings(size, options.fill)
        eps = eps_for(embeddings)
        found = run_in_new_process(method, embeddings, eps, probes=options.probes)
        print(
            f"{size:>9,}  eps {eps:.3f}  {method:<10} {found.seconds:7.2f} s {found.mebibytes:7.0f} MiB   "
            f"{found.labels.max() + 1} clusters, noise {(found.labels < 0).mean():.4f}   "
            f"{agreement(found.labels, exact[size].labels) if size in exact else ''}",
            flush=True,
        )
        if method == "near cells" and size in options.near:
            curve[size] = found.seconds
    if len(curve) > 1 and MILLION not in curve:
        power, scale = np.polyfit(np.log(list(curve)), np.log(list(curve.values())), 1)
        seconds = float(np.exp(scale + power * np.log(MILLION)))
        print(f"extrapolated, not measured: near cells {seconds / 60:.0f} min for 1,000,000 (time ~ N^{power:.2f})")


def agreement(labels: np.ndarray, exact: np.ndarray) -> str:
    """Adjusted Rand index of all points (noise as one class) and share of points on which both agree about noise."""
    alike = ((labels < 0) == (exact < 0)).mean()
    return f"ARI to exact {adjusted_rand_score(labels, exact):.4f}   noise alike {alike:.4f}"


def run_in_new_process(method: str, embeddings: np.ndarray, eps: float, *, probes: int = 0) -> Run:
    """One run in a new process, which reads the embeddings from a file: making them would raise the peak."""
    with tempfile.NamedTemporaryFile(suffix=".npy") as file, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        np.save(file.name, embeddings)
        return pool.submit(measured, method, file.name, eps, probes).result()


def measured(method: str, path: str, eps: float, probes: int) -> Run:
    """One run in this process; a thousand points before it load what the method needs."""
    labels_of = search(method, eps, probes)
    embeddings: np.ndarray = np.load(path, allow_pickle=False)
    labels_of(embeddings[:1000])
    before = peak_bytes()
    started = perf_counter()
    labels = labels_of(embeddings)
    return Run(labels, perf_counter() - started, (peak_bytes() - before) / 2**20)


def search(method: str, eps: float, probes: int) -> Callable[[np.ndarray], np.ndarray]:
    """What labels embeddings: ``scikit-learn`` and ``tmor_train``, both exact, ``near cells`` or ``faiss``."""
    if method == "scikit-learn":
        from sklearn.cluster import DBSCAN

        theirs = DBSCAN(eps=eps, min_samples=MIN_SAMPLES, metric="cosine", algorithm="brute")
        return lambda embeddings: theirs.fit(embeddings).labels_
    if method == "tmor_train":
        return partial(dbscan, eps=eps, min_samples=MIN_SAMPLES)
    ours = dbscan_faiss if method == "faiss" else dbscan_near_cells
    return partial(ours, eps=eps, min_samples=MIN_SAMPLES, probes=probes)


def eps_for(embeddings: np.ndarray) -> float:
    """A radius for DBSCAN, the same for all methods."""
    # Distances are of cosines: the methods take embeddings as they are, and normalise them within the time measured.
    return adaptive_eps(normalize(embeddings), min_samples=MIN_SAMPLES, sample=1000)


def made_up_embeddings(size: int, fill: int) -> np.ndarray:
    """(size, DIMENSIONS) float32. Centres have length 1, points lie about 0.88 away from theirs: our choice, at which
    clusters are near each other but apart.

    Where `fill` is less than DIMENSIONS, points are made in so many dimensions, scaled to length 1 and turned into a
    random subspace; noise of about a tenth of that length is added in all dimensions.
    """
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, fill))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    embeddings = centres[rng.integers(0, len(centres), size)]
    embeddings += 0.88 / fill**0.5 * rng.standard_normal((size, fill))
    far = rng.random(size) < 0.1
    embeddings[far] = rng.standard_normal((far.sum(), fill))
    if fill == DIMENSIONS:
        return embeddings.astype(np.float32)
    turned = np.linalg.qr(rng.standard_normal((DIMENSIONS, fill)))[0].T
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    noise = 0.1 / DIMENSIONS**0.5 * rng.standard_normal((size, DIMENSIONS))
    flat: np.ndarray = embeddings / lengths @ turned + noise
    return flat.astype(np.float32)


if __name__ == "__main__":
    main()
