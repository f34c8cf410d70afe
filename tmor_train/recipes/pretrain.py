"""Pre-training of T-MOR, and of what it is compared with on the same backbone, data and loop: its ablations, and other
works' methods.

``stage1`` and ``stage2`` are the paper's two stages with the settings it leaves open as the code of the works it builds
on has them (the classes of the configuration say which work's). The others suit small sets and a CPU; their numbers are
our choice, for the reasons that each recipe gives.

The paper's ablations: which losses (Table V), how many negatives and which backbone (its appendix). Names that begin
with ``ablation_`` are of posecap shards, as :func:`stage1` is; those that begin with ``sets_`` are of skeleton sets,
which have no videos, as :func:`pretrain_sets` is.

Each other method is there once on posecap shards and once, ``sets_…``, on skeleton sets alone at the size of a CPU.
Views, lengths and optimiser are those of these two recipes, so that methods alone are compared; what a method itself
says of views is the method's. Epochs from which on neighbours count are the papers' share of a run, 150 of 300.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from tmor_train.clustering.clusters import ClusterConfig
from tmor_train.data import Batching
from tmor_train.data.augment import (
    Blur,
    CropResize,
    EstimatorError,
    Flip,
    Noise,
    Occlusion,
    Project,
    RandomMove,
    Rotate,
    Shear,
    ShiftCrop,
    SpaceView,
    View,
)
from tmor_train.data_sources import DataConfig
from tmor_train.methods import AimCLR, ClusterContrast, CrosSCLR, Dense, MethodConfig, MotionCLIP, ViA
from tmor_train.methods.crosclr import STREAMS
from tmor_train.objective_config import ObjectiveConfig
from tmor_train.training.config import ClusteringConfig, PretrainConfig, ViewConfig
from tmor_train.training.optimizer import OptimizerConfig, ScheduleConfig


def stage1() -> PretrainConfig:
    """Motion-motion and motion-video, Eq. 5: self-supervised, from scratch."""
    return PretrainConfig(
        recipe="stage1",
        about="T-MOR stage 1 (V+M): L_mm + L_mv on posecap shards, UNIK from scratch",
        objective=ObjectiveConfig(w_mt=0.0),
    )


def stage2() -> PretrainConfig:
    """All three losses, Eq. 9, from the weights of stage 1."""
    first = stage1()
    return replace(
        first,
        recipe="stage2",
        about="T-MOR stage 2 (V+M+T): L_mm + L_mv + L_mt, goes on from stage 1's weights (--from)",
        objective=ObjectiveConfig(),
        # The encoder is trained: its first epoch already gives clusters of use (0 would be before it), and a lower rate
        # and fewer epochs suffice: a tenth and half of stage 1's. Our choice; the paper names neither.
        clusters=replace(first.clusters, first=1),
        optimizer=replace(first.optimizer, lr=0.01),
        schedule=replace(first.schedule, warmup=1.0),
        loop=replace(first.loop, epochs=30, start="checkpoint"),
    )


def joint() -> PretrainConfig:
    """Eq. 9 from scratch: the other reading of the paper's two stages."""
    return replace(
        stage1(),
        recipe="joint",
        about="all three losses from scratch, as one stage",
        objective=ObjectiveConfig(),
    )


def small(config: PretrainConfig, *, batch: int, epochs: int) -> PretrainConfig:
    """``config`` for some hundreds or thousands of clips and a CPU.

    One person of 64 frames; AdamW at its usual rate, which needs no tuning; an EMA that follows within an epoch or two,
    because there are few steps in one; a queue that is not much longer than an epoch; and clusters from a fifth of the
    epochs on, at the latest after the fifth.
    Optimizer, schedule, batching and the first clustering of ``config`` are replaced, not scaled. The result keeps the
    name of ``config``.

    Args:
        batch: clips of a batch.
    """
    return replace(
        config,
        sampling=replace(config.sampling, frames=64, people=1),
        batching=Batching(size=batch),
        objective=replace(config.objective, momentum=0.99, queue_size=4096),
        optimizer=OptimizerConfig(method="adamw", lr=1e-3, weight_decay=0.01, decays="matrices"),
        schedule=ScheduleConfig(warmup=min(2.0, epochs / 10)),
        clusters=replace(config.clusters, first=min(5, max(epochs // 5, 1))),
        loop=replace(config.loop, epochs=epochs, checkpoint_steps=50),
    )


def stage1_cpu() -> PretrainConfig:
    """Stage 1 at the size of a CPU."""
    return replace(
        small(stage1(), batch=64, epochs=30), recipe="stage1_cpu", about="stage 1 for small shards and a CPU"
    )


def stage2_cpu() -> PretrainConfig:
    """Stage 2 at the size of a CPU. Rate, warm-up and first clustering are those of :func:`small`, not stage 2's."""
    return replace(
        small(stage2(), batch=64, epochs=15), recipe="stage2_cpu", about="stage 2 for small shards and a CPU (--from)"
    )


def pretrain_demo() -> PretrainConfig:
    """Minutes on the ten clips of the demo build: it shows that everything runs, and learns nothing of use."""
    tiny = small(joint(), batch=4, epochs=10)
    return replace(
        tiny,
        recipe="pretrain_demo",
        about="a demonstration on the demo build's few clips; far too few to learn from",
        data=DataConfig(shards=("datasets/demo",), split=None),
        sampling=replace(tiny.sampling, frames=32),
        # Of ten clips, two would be left out of every epoch if the last batch were dropped.
        batching=replace(tiny.batching, last="keep"),
        # Two of ten clips may be a cluster, and most of them one: eight show the same exercise.
        clusters=ClusteringConfig(first=2, how=ClusterConfig(min_samples=2, largest_share=0.8)),
        loop=replace(tiny.loop, log_steps=1),
    )


def pretrain_sets() -> PretrainConfig:
    """Published skeleton sets without labels, and their classes' names as captions: about an hour on two cores.

    Sets in space are seen from random sides, anchor and positive each from its own; as they are clustered, from where
    they were recorded. The sides lie up to 60 degrees apart from the front on which the sensors stood, so that most of
    the body is in view.
    """
    config = small(joint(), batch=64, epochs=20)
    return replace(
        config,
        recipe="pretrain_sets",
        about="skeleton sets alone: L_mm, and L_mt with class names as captions; for a CPU hour",
        data=DataConfig(
            sets=("penn_action:train", "utd_mhad", "msr_action3d", "sbu"), texts="datasets/captions.parquet"
        ),
        # Clips of these sets have 50 frames on average; 32 of them take half the time of 64.
        sampling=replace(config.sampling, frames=32, normalise=replace(config.sampling.normalise, screen="body")),
        views=ViewConfig(
            anchor=(Project(yaw=60.0),),
            positive=(Project(yaw=60.0), CropResize(), Rotate()),
            still=(Project(yaw=0.0, pitch=0.0, camera="orthographic"),),
        ),
        objective=replace(config.objective, w_mv=0.0),
        # All in the middle of the picture: at first half of the clips are near enough to each other for one cluster.
        clusters=replace(config.clusters, how=replace(config.clusters.how, largest_share=0.2)),
    )


# Encoders of skeleton sets for benchmarks train on no clip that is tested on. Sensors record people from the front,
# whole, and standing still at both ends of a clip; footage shows them from any side, partly hidden, by a moving
# camera, in the middle of an action. So these recipes mirror views, hide joints for a while, move the camera and
# crop clips. Joints are those of ``penn13``, which all sets have: the means that ``unik17`` adds are missing as
# soon as one of their joints is.


def sets_train() -> PretrainConfig:
    """No clip that any benchmark of these sets tests on: for probes on all of them. SBU's five folds test on every clip
    in turn, so all of SBU stays unseen. Amounts are moderate, as footage of Penn Action is among the sets: from the
    front to the side, a fifth of the joints hidden for a while, most of a clip."""
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


def sets_estimated() -> PretrainConfig:
    """:func:`sets_train` for joints that are estimated: both views err as estimators of joints do, measured on footage
    (:class:`~tmor_train.data.augment.EstimatorError`), in the place of Gaussian noise on one of them."""
    sets = sets_train()
    anchor = tuple(step for step in sets.views.anchor if not isinstance(step, Noise))
    return replace(
        sets,
        recipe="sets_estimated",
        about="sets_train whose joints err as estimators of joints in pictures do",
        views=replace(
            sets.views, anchor=(*anchor, EstimatorError()), positive=(*sets.views.positive, EstimatorError())
        ),
    )


def sets_no_penn() -> PretrainConfig:
    """No clip of Penn Action is seen, and no caption of one: for zero-shot recognition on Penn Action.

    The vectors of captions are those of movements in words, listed under the same sentences as the classes' names
    (``python pipelines/caption_vectors.py FOLDER FILE --movements`` writes them). They are not projected: a head that
    is trained on some sixty sentences overfits to them. Amounts are large, as all clips are a sensor's: from any side,
    two of five joints hidden for a while, a third of a clip, 16 frames. It stops after 12 epochs, as the clips are few.
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
        # An identity head keeps the width of the text vectors, MiniLM's 384; the motion head projects to the same.
        objective=replace(sets.objective, text_head="identity", width=384),
        loop=replace(sets.loop, epochs=12),
    )


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


_OTHERS_ON_SHARDS: dict[_Method, str] = {
    cluster_contrast: "ClusterContrast: one centroid a cluster is the positive",
    crosclr: "CrosSCLR: encoders of joints, motion and bones mine for each other",
    aimclr: "AimCLR: extremely augmented views follow the normal view's likenesses",
    motionclip: "MotionCLIP: joints are decoded, features drawn to text and video",
    via: "ViA: motion and looks are split, exchanged between two views and decoded",
}
# With the recipe of sets that each derives from.
_OTHERS_ON_SETS: dict[_Method, tuple[Callable[[], PretrainConfig], str]] = {
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

_ON_SHARDS = (pretrain_demo, stage1, stage2, joint, stage1_cpu, stage2_cpu)
_ON_SETS = (pretrain_sets, sets_train, sets_estimated, sets_no_penn)

RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    **{make.__name__: make for make in (*_ON_SHARDS, *_ON_SETS)},
    **{make().recipe: make for make in _FUNCTIONS},
    **{make.__name__: partial(_recipe, stage1, make, "", about) for make, about in _OTHERS_ON_SHARDS.items()},
    **{
        f"sets_{make.__name__}": partial(_recipe, base, make, "sets_", f"skeleton sets: {about}")
        for make, (base, about) in _OTHERS_ON_SETS.items()
    },
}
