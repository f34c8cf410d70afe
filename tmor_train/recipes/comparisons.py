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

from tmor_train.data.augment import Project, Rotate, Shear, ShiftCrop, View
from tmor_train.methods import AimCLR, ClusterContrast, CrosSCLR, MethodConfig, MotionCLIP, ViA
from tmor_train.methods.crosclr import STREAMS
from tmor_train.recipes.pretrain import pretrain_sets, stage1
from tmor_train.training.config import PretrainConfig

_DEGREES = 90.0  # the widest of ViA's seven yaws


def cluster_contrast() -> PretrainConfig:
    """ClusterContrast. DBSCAN on Jaccard distance at 0.6, as in the paper, and before the first epoch, too, though this
    encoder begins untrained and theirs does not: without centroids there is nothing to learn from."""
    return _centroids(stage1(), "cluster_contrast", "ClusterContrast: one centroid a cluster is the positive")


def sets_cluster_contrast() -> PretrainConfig:
    """ClusterContrast on skeleton sets."""
    return _centroids(_sets(), "sets_cluster_contrast", "skeleton sets: ClusterContrast, centroids of clusters")


def crosclr() -> PretrainConfig:
    """CrosSCLR, three streams."""
    return _streams(stage1(), "crosclr", "CrosSCLR: encoders of joints, motion and bones mine for each other")


def sets_crosclr() -> PretrainConfig:
    """CrosSCLR on skeleton sets."""
    return _streams(_sets(), "sets_crosclr", "skeleton sets: CrosSCLR, three streams that mine for each other")


def aimclr() -> PretrainConfig:
    """AimCLR."""
    return _extreme(stage1(), "aimclr", "AimCLR: extremely augmented views follow the normal view's likenesses")


def sets_aimclr() -> PretrainConfig:
    """AimCLR on skeleton sets."""
    return _extreme(_sets(), "sets_aimclr", "skeleton sets: AimCLR, extremely augmented views")


def motionclip() -> PretrainConfig:
    """MotionCLIP, with the vectors of texts and of videos that shards have (ViCLIP's, 768 numbers)."""
    return _regressed(
        stage1(), "motionclip", "MotionCLIP: joints are decoded, features drawn to text and video", width=768, video=1.0
    )


def sets_motionclip() -> PretrainConfig:
    """MotionCLIP on skeleton sets, with their captions' vectors (384 numbers) and no video."""
    return _regressed(
        pretrain_sets(), "sets_motionclip", "skeleton sets: MotionCLIP, class names as captions", width=384, video=0.0
    )


def via() -> PretrainConfig:
    """ViA. Shards are skeletons in pictures: the second view is turned and sheared in the picture's plane."""
    base = stage1()
    return _retargeted(
        replace(base, views=replace(base.views, anchor=(), positive=(Rotate(degrees=30.0), Shear()))),
        "via",
        "ViA: motion and looks are split, exchanged between two views and decoded",
    )


def sets_via() -> PretrainConfig:
    """ViA on skeleton sets; those in space are seen from two real sides."""
    base, side = _sets(), Project(yaw=_DEGREES)
    return _retargeted(
        replace(base, views=replace(base.views, anchor=(side,), positive=(side,))),
        "sets_via",
        "skeleton sets: ViA, motion exchanged between two real sides",
    )


def _sets() -> PretrainConfig:
    """Skeleton sets without captions."""
    base = pretrain_sets()
    return replace(base, data=replace(base.data, texts=None))


def _of(base: PretrainConfig, name: str, about: str, method: MethodConfig) -> PretrainConfig:
    """``base`` by another method, without frozen vectors."""
    return replace(
        base, recipe=name, about=about, method=method, objective=replace(base.objective, w_mm=1.0, w_mv=0.0, w_mt=0.0)
    )


def _centroids(base: PretrainConfig, name: str, about: str) -> PretrainConfig:
    made = _of(base, name, about, ClusterContrast())
    return replace(
        made,
        objective=replace(
            made.objective, motion_head="identity", width=256, keys="same", negatives="batch", temperature_mm=0.05
        ),
        clusters=replace(made.clusters, first=0, of="online", how=replace(made.clusters.how, metric="jaccard")),
    )


def _streams(base: PretrainConfig, name: str, about: str) -> PretrainConfig:
    made = _of(base, name, about, CrosSCLR(cross_from=base.loop.epochs // 2))
    return replace(
        made,
        encoder=replace(made.encoder, channels=STREAMS * made.encoder.channels),
        views=replace(made.views, streams=("joint", "motion", "bone")),
        clusters=replace(made.clusters, when="off"),
    )


def _extreme(base: PretrainConfig, name: str, about: str) -> PretrainConfig:
    """Both normal views are sheared and cropped in time, as the authors' are, after what makes them plane."""
    made = _of(base, name, about, AimCLR(mine_from=base.loop.epochs // 2))
    plane = tuple(step for step in base.views.anchor if isinstance(step, Project))
    view: tuple[View, ...] = (*plane, Shear(), ShiftCrop())
    return replace(
        made,
        views=replace(made.views, anchor=view, positive=view),
        clusters=replace(made.clusters, when="off"),
    )


def _regressed(base: PretrainConfig, name: str, about: str, *, width: int, video: float) -> PretrainConfig:
    made = _of(base, name, about, MotionCLIP())
    return replace(
        made,
        objective=replace(
            made.objective,
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
        clusters=replace(made.clusters, when="off", of="online"),
    )


def _retargeted(base: PretrainConfig, name: str, about: str) -> PretrainConfig:
    made = _of(base, name, about, ViA())
    return replace(
        made,
        objective=replace(made.objective, keys="same", negatives="batch"),
        clusters=replace(made.clusters, when="off", of="online"),
    )


_MADE: tuple[Callable[[], PretrainConfig], ...] = (
    cluster_contrast,
    crosclr,
    aimclr,
    motionclip,
    via,
    sets_cluster_contrast,
    sets_crosclr,
    sets_aimclr,
    sets_motionclip,
    sets_via,
)

RECIPES: dict[str, Callable[[], PretrainConfig]] = {made.__name__: made for made in _MADE}
