"""Per-frame mAP of the class prior and of a perfect scorer, on the official annotations; no poses are needed.

    python benchmarks/detection_metrics.py tsu ANNOTATIONS       # a folder with smarthome_{CS,CV}_51.json
    python benchmarks/detection_metrics.py charades ANNOTATIONS  # a folder with Charades_v1_{train,test}.csv
    python benchmarks/detection_metrics.py time ANNOTATIONS      # as tsu: seconds and memory of the whole CS test

The prior gives each test frame the class's share of positive training frames: the level of chance. `time` scores
every frame of the 185 recordings at random, so that no two scores are equal, in an order that no sorting profits from.
Memory is the process's peak, and its peak before the first recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
from measuring import parser_of, peak_bytes

from tmor_train.benchmarks import charades, tsu
from tmor_train.benchmarks.base import Timelines
from tmor_train.metrics.average_precision import FrameAP, class_shares, frame_ap

Labels = Callable[[int], np.ndarray]
"""Gives the (T, K) labels of a recording, by its number."""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("command", choices=("tsu", "charades", "time"))
    parser.add_argument("annotations", type=Path, metavar="ANNOTATIONS")
    options = parser.parse_args()
    {"tsu": of_tsu, "charades": of_charades, "time": time_random_scores}[options.command](options.annotations)


def of_tsu(folder: Path) -> None:
    for protocol in ("CS", "CV"):
        found = tsu.timelines(folder / f"smarthome_{protocol}_51.json")
        compare(f"TSU {protocol}", found["training"], found["testing"], found["testing"].labels)


def of_charades(folder: Path) -> None:
    train, test = (charades.timelines(folder / charades.FILES[part]) for part in ("train", "test"))
    for name, labels in (("all frames", test.labels), ("25 points", test.labels_at_points)):
        compare(f"Charades {name}", train, test, labels)


def compare(name: str, train: Timelines, test: Timelines, labels: Labels) -> None:
    """Print AP of the prior of ``train`` and of the perfect scorer, on what ``labels`` gives for ``test``."""
    share_K = class_shares(train.labels(number) for number in range(len(train)))
    prior = frame_ap(
        (np.broadcast_to(share_K.astype(np.float32), found.shape), found) for found in map(labels, range(len(test)))
    )
    perfect = frame_ap((found.astype(np.float32), found) for found in map(labels, range(len(test))))
    print(row(f"{name}, prior", prior), row(f"{name}, perfect", perfect), sep="\n")


def time_random_scores(folder: Path) -> None:
    """Print what a whole evaluation of random scores takes."""
    test = tsu.timelines(folder / "smarthome_CS_51.json")["testing"]
    random = np.random.default_rng(0)
    spent = 0.0

    def recordings() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal spent
        for number in range(len(test)):
            start = perf_counter()
            label_TK = test.labels(number)
            scores_TK = random.random(label_TK.shape, np.float32)
            spent += perf_counter() - start
            yield scores_TK, label_TK

    before, start = peak_bytes(), perf_counter()
    found = frame_ap(recordings())
    seconds = perf_counter() - start - spent
    print(row("TSU CS, random", found))
    print(f"{len(test)} recordings, {int(test.frames_N.sum())} frames x {test.classes} classes: {seconds:.1f} s")
    memory = f"memory {peak_bytes() / 2**20:.0f} MiB, before {before / 2**20:.0f} MiB"
    print(f"making labels and scores took another {spent:.1f} s; {memory}")


def row(name: str, found: FrameAP) -> str:
    positive = int((found.per_class_K > 0).sum())
    means = f"{100 * found.nonzero:7.2f} % over {positive:3} classes, {100 * found.all_classes:7.2f} % over all"
    return f"{name:30}{means}"


if __name__ == "__main__":
    main()
