"""Pre-training.

``stage1`` and ``stage2`` are the paper's two stages with the settings it leaves open as the code of the works it builds
on has them (the classes of the configuration say which work's). The others suit small sets and a CPU; their numbers are
our choice, for the reasons that each recipe gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tmor_train.clustering.clusters import ClusterConfig
from tmor_train.data import Batching
from tmor_train.data.augment import CropResize, EstimatorError, Flip, Noise, Occlusion, Project, RandomMove, Rotate
from tmor_train.data_sources import DataConfig
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


_ON_SHARDS = (pretrain_demo, stage1, stage2, joint, stage1_cpu, stage2_cpu)
_ON_SETS = (pretrain_sets, sets_train, sets_estimated, sets_no_penn)

RECIPES: dict[str, Callable[[], PretrainConfig]] = {make.__name__: make for make in (*_ON_SHARDS, *_ON_SETS)}
