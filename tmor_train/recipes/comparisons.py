"""What T-MOR is compared with, on the same backbone, data and loop: its ablations, and other works' methods.

The paper's ablations: which losses (Table V), how many negatives and which backbone (its appendix). Names that begin
with ``ablation_`` are of posecap shards, as :func:`~tmor_train.recipes.pretrain.stage1` is; those that begin with
``sets_`` are of skeleton sets, which have no videos, as :func:`~tmor_train.recipes.pretrain.pretrain_sets` is.

Each other method is there once on posecap shards and once, ``sets_…``, on skeleton sets alone at the size of a CPU.
Views, lengths and optimiser are those of these two recipes, so that methods alone are compared; what a method itself
says of views is the method's. Epochs from which on neighbours count are the papers' share of a run, 150 of 300.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from tmor_train.data.augment import Blur, Project, Rotate, Shear, ShiftCrop, SpaceView, View
from tmor_train.methods import AimCLR, ClusterContrast, CrosSCLR, Dense, MethodConfig, MotionCLIP, ViA
from tmor_train.methods.crosclr import STREAMS
from tmor_train.objective_config import ObjectiveConfig
from tmor_train.recipes.pretrain import joint, pretrain_sets, sets_train, small, stage1, stage2
from tmor_train.training.config import PretrainConfig, ViewConfig

_DEGREES = 90.0  # the widest of the seven yaws in LAC's configuration, -90 to 90 by 30


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
    turned (by up to 30 degrees, our choice: one step of those yaws) and sheared in the picture's plane."""
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
# With the recipe of sets that each derives from.
_ON_SETS: dict[_Method, tuple[Callable[[], PretrainConfig], str]] = {
    cluster_contrast: (_uncaptioned_sets, "ClusterContrast, centroids of clusters"),
    crosclr: (_uncaptioned_sets, "CrosSCLR, three streams that mine for each other"),
    aimclr: (_uncaptioned_sets, "AimCLR, extremely augmented views"),
    motionclip: (pretrain_sets, "MotionCLIP, class names as captions"),
    via: (_uncaptioned_sets, "ViA, motion exchanged between two real sides"),
}


Loss = Literal["mm", "mv", "mt"]


def moco() -> PretrainConfig:
    """SkeletonCLR: MoCo (He et al., CVPR 2020, Eq. 1) for skeletons (Li et al., CVPR 2021, Sec. 3.1).

    L = −log exp(q·k/τ) / (exp(q·k/τ) + Σ_m exp(q·m/τ)) with m of the queue, τ = 0.07; both views are sheared and
    cropped in time, and no cluster is ever made. Three things differ from their code: an older key of the clip itself
    is left out, not pushed away; the other keys of the batch are negatives, too; and views are sheared in the picture.
    """
    first = stage1()
    view = (Shear(), ShiftCrop())
    return replace(
        first,
        recipe="moco",
        about="MoCo for skeletons (SkeletonCLR): the own second view is the one positive, without clusters",
        views=ViewConfig(anchor=view, positive=view),
        objective=ObjectiveConfig(w_mv=0.0, w_mt=0.0, own_copies="ignore"),
        clusters=replace(first.clusters, when="off"),
    )


def moco_cpu() -> PretrainConfig:
    """MoCo at the size of a CPU."""
    return replace(
        small(moco(), batch=64, epochs=30), recipe="moco_cpu", about="MoCo (SkeletonCLR) for small shards and a CPU"
    )


def sets_moco() -> PretrainConfig:
    """MoCo's loss on skeleton sets, with the views that the other recipes of sets have."""
    sets = sets_losses("mm")
    return replace(
        sets,
        recipe="sets_moco",
        about="skeleton sets: MoCo (SkeletonCLR), the own second view alone, without clusters or captions",
        objective=replace(sets.objective, own_copies="ignore"),
        clusters=replace(sets.clusters, when="off"),
    )


def ablation_losses(*losses: Loss) -> PretrainConfig:
    """A row of Table V. Rows of text and another loss start, as stage 2, from the weights of the row without text."""
    base = stage2() if "mt" in losses and len(losses) > 1 else stage1()
    continues = base.loop.start == "checkpoint"
    from_row = f", goes on from {_row(losses[:-1])}'s weights (--from)" if continues else ""
    return replace(
        base,
        recipe=_row(losses),
        about=f"ablation of losses: {_words(losses)}{from_row}",
        objective=_weighed(base.objective, losses),
    )


def sets_losses(*losses: Loss) -> PretrainConfig:
    """A row of Table V on skeleton sets; rows with text learn everything from scratch at once."""
    sets = pretrain_sets()
    return replace(
        sets,
        recipe="sets_" + "_".join(losses),
        about=f"skeleton sets, ablation of losses: {_words(losses)}, from scratch",
        data=sets.data if "mt" in losses else replace(sets.data, texts=None),
        objective=_weighed(sets.objective, losses),
    )


def queue(base: Callable[[], PretrainConfig], prefix: str, size: int) -> PretrainConfig:
    """``base`` with a queue of ``size`` keys: the number of negatives."""
    config = base()
    return replace(
        config,
        recipe=f"{prefix}_queue_{size}",
        about=f"ablation of the number of negatives: {config.recipe} with a queue of {size} keys",
        objective=replace(config.objective, queue_size=size),
    )


def backbone(base: Callable[[], PretrainConfig], prefix: str, name: Literal["unik", "agcn", "stgcn"]) -> PretrainConfig:
    """``base`` with another backbone."""
    config = base()
    return replace(
        config,
        recipe=f"{prefix}_{name}",
        about=f"ablation of the backbone: {config.recipe} with {name}",
        encoder=replace(config.encoder, backbone=name),
    )


def dense(base: Callable[[], PretrainConfig], prefix: str, term: DenseTerm | None) -> PretrainConfig:
    """``base`` with a loss on features of frames, of weight 1; without one it is what the others are compared with.
    Views keep frames where they are, so that those of two views correspond: crops in time are left out."""
    config = base()
    kept = tuple(
        tuple(step for step in view if isinstance(step, SpaceView | Blur))
        for view in (config.views.anchor, config.views.positive)
    )
    about = "no loss on frames, to compare with" if term is None else f"and {_DENSE_WORDS[term]}"
    return replace(
        config,
        recipe=f"{prefix}dense" + (f"_{term}" if term else ""),
        about=f"{config.recipe} with views that keep times, {about}",
        method=Dense(
            w_frames=float(term == "frames"),
            w_decorrelation=float(term == "decorrelation"),
            w_frame_text=float(term == "frame_text"),
        ),
        views=replace(config.views, anchor=kept[0], positive=kept[1]),
    )


def _weighed(config: ObjectiveConfig, losses: tuple[Loss, ...]) -> ObjectiveConfig:
    """``config`` with weight 1 for ``losses`` and 0 for all others."""
    return replace(config, w_mm=float("mm" in losses), w_mv=float("mv" in losses), w_mt=float("mt" in losses))


def _row(losses: tuple[Loss, ...]) -> str:
    return "ablation_" + ("all" if losses == _ALL else "_".join(losses))


def _words(losses: tuple[Loss, ...]) -> str:
    return " + ".join(f"L_{loss}" for loss in losses)


_ALL: tuple[Loss, ...] = ("mm", "mv", "mt")
# The rows of Table V on PoseCap-1M, and of those the ones that need no video.
_ROWS: tuple[tuple[Loss, ...], ...] = (("mm",), ("mv",), ("mt",), ("mm", "mv"), ("mm", "mt"), _ALL)
_ROWS_OF_SETS: tuple[tuple[Loss, ...], ...] = (("mm",), ("mt",), ("mm", "mt"))
_BACKBONES: tuple[Literal["unik", "agcn", "stgcn"], ...] = ("unik", "agcn", "stgcn")
# For detection, beside T-MOR's losses; with text, which one of them is about.
DenseTerm = Literal["frames", "decorrelation", "frame_text"]
_DENSE_WORDS: dict[DenseTerm, str] = {
    "frames": "frames of two views contrasted (after LAC)",
    "decorrelation": "features of frames decorrelated (after USDRL)",
    "frame_text": "every window near to the clip's text",
}
_DENSE: tuple[DenseTerm | None, ...] = (None, *_DENSE_WORDS)
# Up to MoCo's, by way of SkeletonCLR's 32,768; the paper's own numbers are in its appendix, which is not public.
_QUEUES = (4096, 16_384, 32_768, 65_536)
# At most half of the clips: a longer queue holds mostly older keys of the same clips.
_QUEUES_OF_SETS = (64, 256, 1024)

_FUNCTIONS: tuple[Callable[[], PretrainConfig], ...] = (
    moco,
    moco_cpu,
    sets_moco,
    *(partial(ablation_losses, *row) for row in _ROWS),
    *(partial(queue, stage1, "ablation", size) for size in _QUEUES),
    *(partial(backbone, stage1, "ablation", name) for name in _BACKBONES),
    *(partial(sets_losses, *row) for row in _ROWS_OF_SETS),
    *(partial(queue, pretrain_sets, "sets", size) for size in _QUEUES_OF_SETS),
    *(partial(backbone, pretrain_sets, "sets", name) for name in _BACKBONES),
    *(partial(dense, joint, "", term) for term in _DENSE),
    *(partial(dense, sets_train, "sets_", term) for term in _DENSE),
)

RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    **{make().recipe: make for make in _FUNCTIONS},
    **{make.__name__: partial(_recipe, stage1, make, "", about) for make, about in _ON_SHARDS.items()},
    **{
        f"sets_{make.__name__}": partial(_recipe, base, make, "sets_", f"skeleton sets: {about}")
        for make, (base, about) in _ON_SETS.items()
    },
}
