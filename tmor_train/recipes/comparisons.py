"""Other works' methods on this backbone, data and loop: each once on posecap shards and once, ``sets_…``, on skeleton
sets alone at the size of a CPU. MoCo (SkeletonCLR), which is T-MOR's own loss with one positive, is in
:mod:`tmor_train.recipes.ablations`.

Views, lengths and optimiser are those of :func:`~tmor_train.recipes.pretrain.stage1` and
:func:`~tmor_train.recipes.pretrain.pretrain_sets`, so that methods alone are compared; what a method itself says of
views is the method's. Epochs from which on neighbours count are the papers' share of a run, 150 of 300.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tmor_train.data.augment import Project, Rotate, Shear, ShiftCrop, View
from tmor_train.methods import AimCLR, ClusterContrast, CrosSCLR, MethodConfig, MotionCLIP, ViA
from tmor_train.methods.crosclr import STREAMS
from tmor_train.recipes.pretrain import pretrain_sets, stage1
from tmor_train.training.config import PretrainConfig

_DEGREES = 90.0  # the widest of ViA's seven yaws


def cluster_contrast(base: PretrainConfig) -> PretrainConfig:
    """ClusterContrast. DBSCAN on Jaccard distance at 0.6, as in the paper, and before the first epoch, too, though this
    encoder begins untrained and theirs does not: without centroids there is nothing to learn from. The temperature is
    theirs."""
    config = _by(base, ClusterContrast())
    objective = replace(
        config.objective, motion_head="identity", width=256, keys="same", negatives="batch", temperature_mm=0.05
    )
    how = replace(base.clusters.how, metric="jaccard")
    return replace(config, objective=objective, clusters=replace(base.clusters, first=0, of="online", how=how))


def crosclr(base: PretrainConfig) -> PretrainConfig:
    """CrosSCLR, three streams."""
    return replace(
        _by(base, CrosSCLR(cross_from=base.loop.epochs // 2)),
        encoder=replace(base.encoder, channels=STREAMS * base.encoder.channels),
        views=replace(base.views, streams=("joint", "motion", "bone")),
        clusters=replace(base.clusters, when="off"),
    )


def aimclr(base: PretrainConfig) -> PretrainConfig:
    """AimCLR. Both normal views are sheared and cropped in time, as the authors' are, after the projection to a picture
    that ``base`` may have. Nearest neighbours are mined from the second half of the epochs on."""
    plane = tuple(step for step in base.views.anchor if isinstance(step, Project))
    view: tuple[View, ...] = (*plane, Shear(), ShiftCrop())
    return replace(
        _by(base, AimCLR(mine_from=base.loop.epochs // 2)),
        views=replace(base.views, anchor=view, positive=view),
        clusters=replace(base.clusters, when="off"),
    )


def motionclip(base: PretrainConfig) -> PretrainConfig:
    """MotionCLIP, with the vectors of texts and of videos that shards have (ViCLIP's, 768 numbers), or with those of
    the captions of skeleton sets (384 numbers), which have no video."""
    width, video = (384, 0.0) if base.data.sets else (768, 1.0)
    config = _by(base, MotionCLIP())
    return replace(
        config,
        objective=replace(
            config.objective,
            w_mm=0.0,
            w_mv=video,
            w_mt=1.0,
            motion_head="linear",
            text_head="identity",
            video_head="identity",
            width=width,
            keys="same",
            negatives="batch",
        ),
        clusters=replace(base.clusters, when="off", of="online"),
    )


def via(base: PretrainConfig) -> PretrainConfig:
    """ViA. Skeletons in space are seen from two real sides; shards are skeletons in pictures, whose second view is
    turned (by up to 30 degrees, a free choice) and sheared in the picture's plane."""
    side = (Project(yaw=_DEGREES),)
    anchor, positive = (side, side) if base.data.sets else ((), (Rotate(degrees=30.0), Shear()))
    config = _by(base, ViA())
    return replace(
        config,
        views=replace(base.views, anchor=anchor, positive=positive),
        objective=replace(config.objective, keys="same", negatives="batch"),
        clusters=replace(base.clusters, when="off", of="online"),
    )


def _by(base: PretrainConfig, method: MethodConfig) -> PretrainConfig:
    """``base`` by another method, without frozen vectors."""
    return replace(base, method=method, objective=replace(base.objective, w_mm=1.0, w_mv=0.0, w_mt=0.0))


def _uncaptioned_sets() -> PretrainConfig:
    base = pretrain_sets()
    return replace(base, data=replace(base.data, texts=None))


_Method = Callable[[PretrainConfig], PretrainConfig]


def _recipe(base: Callable[[], PretrainConfig], method: _Method, prefix: str, about: str) -> PretrainConfig:
    return replace(method(base()), recipe=prefix + method.__name__, about=about)


_ON_SHARDS: dict[_Method, str] = {
    cluster_contrast: "ClusterContrast: one centroid a cluster is the positive",
    crosclr: "CrosSCLR: encoders of joints, motion and bones mine for each other",
    aimclr: "AimCLR: extremely augmented views follow the normal view's likenesses",
    motionclip: "MotionCLIP: joints are decoded, features drawn to text and video",
    via: "ViA: motion and looks are split, exchanged between two views and decoded",
}
_ON_SETS: dict[_Method, tuple[Callable[[], PretrainConfig], str]] = {
    cluster_contrast: (_uncaptioned_sets, "ClusterContrast, centroids of clusters"),
    crosclr: (_uncaptioned_sets, "CrosSCLR, three streams that mine for each other"),
    aimclr: (_uncaptioned_sets, "AimCLR, extremely augmented views"),
    motionclip: (pretrain_sets, "MotionCLIP, class names as captions"),
    via: (_uncaptioned_sets, "ViA, motion exchanged between two real sides"),
}

RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    **{make.__name__: partial(_recipe, stage1, make, "", about) for make, about in _ON_SHARDS.items()},
    **{
        f"sets_{make.__name__}": partial(_recipe, base, make, "sets_", f"skeleton sets: {about}")
        for make, (base, about) in _ON_SETS.items()
    },
}
