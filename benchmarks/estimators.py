"""How far the joints of two pose estimators differ on the same clips, and what a classifier loses between them.

    python benchmarks/estimators.py FIRST SECOND                       # two datasets of the same rows
    python benchmarks/estimators.py FIRST SECOND --from runs/a runs/b  # and probes on the features of encoders

Clips are compared that both datasets have under one key, frame by frame, each person with the nearest one of the other
dataset. Lengths are in body radii: the mean distance of a person's joints from their middle, about a quarter of the
height of somebody who stands (`tmor_train.data.batch.BODY_RADIUS`). Of each part of the body, over frames in which both
see a joint, and x and y:

- `error`: the spread of the difference (1.48 times the median of its amount), divided by the square root of two, as if
  both estimators erred as much and independently;
- `far`: the share of joints that lie further than half a radius from each other;
- `memory`: after what share of its clip a difference has lost all but 1/e of itself, from its correlation in
  consecutive frames;
- `unseen`: the share of joints that the first and the second have not seen (score 0).

A probe is a linear classifier of labels, to its optimum, on features of one dataset's clips; it is measured on those
clips of both datasets that were not trained on, in five folds. Printed is the mean accuracy over labels of two clips or
more, trained on each and measured on each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measuring import parser_of

import posecap
import tmor_train
from posecap.joints import JOINT_KINDS, LAYOUTS, joint_kind
from posecap.types import Sample
from tmor_train.data import MotionSet, read_shards
from tmor_train.data.dataset import Floats, Numbers
from tmor_train.evaluation.clips.config import LinearConfig
from tmor_train.evaluation.clips.linear_probe import Labelled, fitted
from tmor_train.metrics.accuracy import accuracy

FAR = 0.5
"""Body radii: about the length of a forearm."""
FOLDS = 5


@dataclass(eq=False)
class Part:
    """What is gathered of one part of the body: differences ``away`` (n, 2) in body radii; the products of differences
    in consecutive frames and their own squares, ``lagged`` and ``squared``, with the frames of the clips they are of;
    and how many joints each estimator has not ``unseen``, of how many."""

    away: list[Floats] = field(default_factory=list)
    lagged: float = 0.0
    squared: float = 0.0
    frames: list[int] = field(default_factory=list)
    unseen: list[tuple[int, int, int]] = field(default_factory=list)


class Figures(NamedTuple):
    """What the description above says of each."""

    error: float
    far: float
    memory: float
    unseen: tuple[float, float]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("first", type=Path, metavar="FIRST")
    parser.add_argument("second", type=Path, metavar="SECOND")
    parser.add_argument("--from", dest="runs", nargs="+", default=[], metavar="RUN", help="encoders to probe")
    options = parser.parse_args(arguments)
    roots = (options.first, options.second)
    parts, people = compared(*roots)
    print(f"{people} people in the same clips of both")
    print("part       error   far     memory  unseen in the first, the second")
    for name in JOINT_KINDS:
        if name in parts:
            print(row(name, figures(parts[name])))
    first, second = (read_shards(root) for root in roots)
    for run in options.runs:
        print(run, probed(features_of(run, first), features_of(run, second), first, second))


def compared(first: Path, second: Path) -> tuple[dict[str, Part], int]:
    """The differences of each part of the body, and of how many people."""
    parts: dict[str, Part] = defaultdict(Part)
    people = 0
    for one, other in both(first, second):
        shared, mine, theirs = np.intersect1d(one.pts_T.round(4), other.pts_T.round(4), return_indices=True)
        if not len(shared):
            continue
        joints, others = one.joints_MTJ3[:, mine], other.joints_MTJ3[:, theirs]
        names = LAYOUTS[one.facts["layout"]].names
        for person, partner, radius in matched(joints, others):
            people += 1
            gather(parts, names, joints[person], others[partner], radius)
    return parts, people


def both(first: Path, second: Path) -> Iterator[tuple[Sample, Sample]]:
    """The samples of the keys that both datasets have, of one layout, in the order of the keys."""
    indices = [posecap.index(str(root)).to_table() for root in (first, second)]
    keys = sorted(set(indices[0]["key"].to_pylist()) & set(indices[1]["key"].to_pylist()))
    for key in keys:
        one, other = (
            posecap.read(str(root), key, index=index) for root, index in zip((first, second), indices, strict=True)
        )
        if one.facts["layout"] == other.facts["layout"]:
            yield one, other


def matched(joints_MTJ3: Floats, others_MTJ3: Floats) -> Iterator[tuple[int, int, float]]:
    """Pairs of a person and the nearest one of the others, each person once, with the body radius in pixels; none where
    the mean distance of joints is above a radius, so that they are two people."""
    found = []
    for person, joints in enumerate(joints_MTJ3):
        for other, theirs in enumerate(others_MTJ3):
            seen_TJ = (joints[..., 2] > 0) & (theirs[..., 2] > 0)
            if not seen_TJ.any():
                continue
            xy = theirs[..., :2].astype(np.float64)
            weight = seen_TJ[..., None] / np.maximum(seen_TJ.sum(1)[:, None, None], 1)
            middle = (xy * weight).sum(1, keepdims=True)
            radius = float(np.linalg.norm(xy - middle, axis=-1)[seen_TJ].mean())
            apart = float(np.linalg.norm(joints[..., :2] - xy, axis=-1)[seen_TJ].mean())
            if 0 < apart <= radius:
                found.append((apart / radius, person, other, radius))
    taken: set[tuple[str, int]] = set()
    for _, person, other, radius in sorted(found):
        if not {("one", person), ("other", other)} & taken:
            taken |= {("one", person), ("other", other)}
            yield person, other, radius


def gather(parts: dict[str, Part], names: Sequence[str], joints_TJ3: Floats, others_TJ3: Floats, radius: float) -> None:
    """Adds one person's differences to those of the parts."""
    for at, name in enumerate(names):
        part, one, other = parts[joint_kind(name)], joints_TJ3[:, at], others_TJ3[:, at]
        somebody_T = (joints_TJ3[..., 2] > 0).any(1) & (others_TJ3[..., 2] > 0).any(1)
        seen_T = (one[:, 2] > 0) & (other[:, 2] > 0)
        first, second = (int(((side[:, 2] == 0) & somebody_T).sum()) for side in (one, other))
        part.unseen.append((first, second, int(somebody_T.sum())))
        away_T2 = (one[:, :2] - other[:, :2]).astype(np.float64) / radius
        part.away.append(away_T2[seen_T].astype(np.float32))
        near_T = seen_T & (np.linalg.norm(away_T2, axis=1) <= FAR)
        two_T = near_T[1:] & near_T[:-1]
        part.lagged += float((away_T2[1:] * away_T2[:-1])[two_T].sum())
        part.squared += float((away_T2[1:] ** 2 + away_T2[:-1] ** 2)[two_T].sum() / 2)
        part.frames.append(len(seen_T))


def figures(part: Part) -> Figures:
    """What is printed of a part."""
    away = np.concatenate(part.away)
    correlation = min(max(part.lagged / part.squared, 1e-6), 1 - 1e-6) if part.squared else 0.5
    first, second, every = np.sum(part.unseen, axis=0)
    return Figures(
        error=float(1.4826 * np.median(np.abs(away)) / np.sqrt(2)),
        far=float((np.linalg.norm(away, axis=1) > FAR).mean()),
        memory=float(-1 / np.log(correlation) / np.mean(part.frames)),
        unseen=(float(first / every), float(second / every)),
    )


def row(name: str, found: Figures) -> str:
    """The line of a part."""
    unseen = f"{found.unseen[0]:.1%}, {found.unseen[1]:.1%}"
    return f"{name:<9}  {found.error:.3f}   {found.far:5.1%}   {found.memory:.3f}   {unseen}"


def features_of(run: str, motions: MotionSet) -> Floats:
    """Features (N, 256) of clips by a run's encoder."""
    encoder = tmor_train.load(run)
    return np.concatenate([vectors for _, vectors in encoder.embed_set(motions, workers=0)])


def probed(first_ND: Floats, second_ND: Floats, first: MotionSet, second: MotionSet) -> str:
    """Mean accuracy over labels of linear probes across two estimators, in words.

    Clips of one video are in one fold, which its key in both sets tells; only labels with videos in two folds count.
    """
    shared = sorted(set(first.clips.key_N.tolist()) & set(second.clips.key_N.tolist()))
    sides = []
    for motions, features_ND in ((first, first_ND), (second, second_ND)):
        at = {key: number for number, key in enumerate(motions.clips.key_N.tolist())}
        index = np.array([at[key] for key in shared], np.int64)
        names = np.array(motions.classes)[motions.clips.label_N[index]]
        sides.append((features_ND[index], names))
    names = sides[0][1]
    counts = {name: int((names == name).sum()) for name in sorted(set(names.tolist()))}
    kept = np.flatnonzero([counts[name] > 1 for name in names.tolist()])
    label_N = np.unique(names[kept], return_inverse=True)[1].astype(np.int64)
    fold_N = folds(label_N)
    lines = []
    for source, (train_ND, _) in zip(("first", "second"), sides, strict=True):
        for target, (test_ND, _) in zip(("first", "second"), sides, strict=True):
            scores = np.zeros((len(kept), int(label_N.max()) + 1), np.float32)
            for fold in range(FOLDS):
                held = fold_N == fold
                train = Labelled(train_ND[kept][~held], label_N[~held])
                linear = fitted(train, LinearConfig(), 1.0, classes=scores.shape[1], seed=0)
                scores[held] = linear.scores(test_ND[kept][held])
            lines.append(f"{source} to {target} {accuracy(scores, label_N).mean_per_class:.1%}")
    return f"({len(kept)} clips, {len(set(label_N.tolist()))} labels): " + ", ".join(lines)


def folds(label_N: Numbers) -> Numbers:
    """The fold of each clip, in turns within each label: (N,) int64."""
    fold_N = np.zeros(len(label_N), np.int64)
    for label in np.unique(label_N).tolist():
        members = np.flatnonzero(label_N == label)
        fold_N[members] = np.arange(len(members)) % FOLDS
    return fold_N


if __name__ == "__main__":
    main()
