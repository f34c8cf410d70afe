"""Whether an encoder knows what somebody does, whatever the style and the camera, on Bandai Namco's motion sets.

    python benchmarks/content_pairs.py FOLDER --from runs/sets_train     # a folder with dataset-….bvh files

Every clip is projected twice, from two random cameras. Of each clip the feature from the first camera is compared with
those of all clips in other styles from the second. Printed are how often the nearest shows the same content, how often
a clip drawn at random would, and the mean cosines, after all clips' mean was taken off, of pairs that share their
content (`tmor_train.data.datasets.bandai_namco.content_pairs`) and of all others. The sets are for measuring only (CC
BY-NC-ND 4.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measuring import parser_of

import tmor_train
from tmor_train.data import Batching, Loader, MotionSet
from tmor_train.data.augment import Project
from tmor_train.data.dataset import Floats
from tmor_train.data.datasets import bandai_namco
from tmor_train.pretrained.encoder import Pretrained

CAMERA = Project(yaw=180.0, pitch=15.0)  # from any side, as the recipe sets_no_penn has it


class Found(NamedTuple):
    """Shares of clips, and mean cosines."""

    nearest: float
    chance: float
    same_content: float
    other_content: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--from", dest="run", required=True, metavar="RUN", help="a run's folder or a checkpoint")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the cameras (default: 0 1 2)")
    options = parser.parse_args(arguments)
    motions, encoder = bandai_namco.read(options.folder), tmor_train.load(options.run)
    styles = {bandai_namco.style_of(key) for key in motions.clips.key_N.tolist()}
    print(f"{len(motions)} clips, {len(motions.classes)} contents, {len(styles)} styles")
    for seed in options.seeds:
        found = measured(encoder, motions, seed=seed)
        print(
            f"seed {seed}: the nearest clip of another style has the same content for {found.nearest:.1%} (chance "
            f"{found.chance:.1%}); cosine of pairs of one content {found.same_content:.3f}, of others "
            f"{found.other_content:.3f}"
        )


def measured(encoder: Pretrained, motions: MotionSet, *, seed: int) -> Found:
    """What is printed of an encoder and one draw of cameras."""
    first, second = (_units(seen_from(encoder, motions, seed=2 * seed + camera)) for camera in (0, 1))
    label_N = motions.clips.label_N
    styles = np.array([bandai_namco.style_of(key) for key in motions.clips.key_N.tolist()])
    other_NN, same_NN = styles[:, None] != styles, label_N[:, None] == label_N
    asked = np.flatnonzero((other_NN & same_NN).any(1))  # clips of which the answer is there
    cosines_NN = first @ second.T
    nearest = np.where(other_NN, cosines_NN, -np.inf)[asked].argmax(1)
    chance = (other_NN & same_NN).sum(1)[asked] / other_NN.sum(1)[asked]
    pairs = bandai_namco.content_pairs(motions, seed=seed)
    return Found(
        nearest=float(same_NN[asked, nearest].mean()),
        chance=float(chance.mean()),
        same_content=float(cosines_NN[pairs[:, 0], pairs[:, 1]].mean()),
        other_content=float(cosines_NN[~same_NN].mean()),
    )


@torch.no_grad()
def seen_from(encoder: Pretrained, motions: MotionSet, *, seed: int) -> Floats:
    """Features of all clips, each from a random camera of its own: (N, 256) float32."""
    found = np.zeros((len(motions), 256), np.float32)
    generator = torch.Generator(encoder.device).manual_seed(seed)
    loader = Loader(
        motions,
        sampling=replace(encoder.sampling, draw="deterministic"),
        batching=Batching(size=32, order="stored", last="keep"),
        workers=0,
    )
    for batch in loader:
        seen = encoder.taken(batch.to(encoder.device), (CAMERA, *encoder.views.still), generator)
        features_ND = encoder.network.clip_features(seen.motion_NCTVM, seen.present)
        found[batch.index_N.numpy()] = features_ND.float().cpu().numpy()
    return found


def _units(features_ND: Floats) -> Floats:
    """Without their mean, of length 1."""
    centred = features_ND - features_ND.mean(0)
    units: Floats = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    return units


if __name__ == "__main__":
    main()
