"""Encoders of skeleton sets for benchmarks: trained on no clip that is tested on.

Sensors record people from the front, whole and still at both ends; footage shows them from any side, half hidden, by a
moving camera, in the midst of what they do. So views here are mirrored, joints go out of sight for a while, the camera
moves and clips are cropped. Joints are those of ``penn13``, which all sets have: the means that ``unik17`` adds are
missing as soon as one of their joints is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tmor_train.data.augment import CropResize, Flip, Noise, Occlusion, Project, RandomMove, Rotate
from tmor_train.pretrain_config import PretrainConfig
from tmor_train.recipes.pretrain import pretrain_sets


def sets_train() -> PretrainConfig:
    """No clip that any benchmark of these sets tests on: for probes on all of them. SBU's five folds test on every clip
    in turn, so all of SBU stays unseen."""
    sets = pretrain_sets()
    seen = (Project(yaw=90.0, pitch=15.0), Flip(), Occlusion(probability=0.2), CropResize(shortest=0.6))
    return replace(
        sets,
        recipe="sets_train",
        about="skeleton sets, of each its train part alone, and none of SBU: for probes on any of them",
        data=replace(sets.data, sets=("penn_action:train", "utd_mhad:train", "msr_action3d:train")),
        sampling=replace(sets.sampling, layout="penn13"),
        views=replace(sets.views, anchor=(*seen, RandomMove(), Noise()), positive=(*seen, Rotate())),
        loop=replace(sets.loop, epochs=30),
    )


def sets_no_penn() -> PretrainConfig:
    """No clip of Penn Action is seen, and no caption of one: for zero-shot recognition on Penn Action.

    Captions are movements in words, and their vectors are not projected: a head that is trained on some sixty sentences
    learns them by heart.
    """
    sets = pretrain_sets()
    seen = (Project(yaw=180.0, pitch=15.0), Flip(), Occlusion(probability=0.4), CropResize(shortest=0.3), RandomMove())
    return replace(
        sets,
        recipe="sets_no_penn",
        about="skeleton sets without Penn Action, which stays unseen for zero-shot recognition",
        data=replace(
            sets.data, sets=("utd_mhad", "msr_action3d", "sbu", "utkinect"), texts="datasets/movements.parquet"
        ),
        sampling=replace(sets.sampling, layout="penn13", frames=16),
        views=replace(sets.views, anchor=(*seen, Noise(sigma=0.02)), positive=seen),
        objective=replace(sets.objective, text_head="identity", width=384),
        loop=replace(sets.loop, epochs=12),
    )


RECIPES: dict[str, Callable[[], PretrainConfig]] = {made.__name__: made for made in (sets_train, sets_no_penn)}

__all__ = ["RECIPES", "sets_no_penn", "sets_train"]
