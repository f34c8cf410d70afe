"""Ablations, and other works' methods on the same backbone, data and loop.

The paper's ablations: which losses (Table V), how many negatives and which backbone (its appendix). Names that begin
with ``ablation_`` are of posecap shards, as :func:`~tmor_train.recipes.pretrain.stage1` is; those that begin with
``sets_`` are of skeleton sets, which have no videos, as :func:`~tmor_train.recipes.pretrain.pretrain_sets` is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from tmor_train.data.augment import Shear, ShiftCrop
from tmor_train.objective_config import ObjectiveConfig
from tmor_train.recipes.pretrain import pretrain_sets, small, stage1, stage2
from tmor_train.training.config import PretrainConfig, ViewConfig

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


def _weighed(config: ObjectiveConfig, losses: tuple[Loss, ...]) -> ObjectiveConfig:
    """``config`` with weight 1 for ``losses`` and 0 for all others."""
    return replace(config, w_mm=float("mm" in losses), w_mv=float("mv" in losses), w_mt=float("mt" in losses))


def _row(losses: tuple[Loss, ...]) -> str:
    return "ablation_" + ("all" if losses == _ALL else "_".join(losses))


def _words(losses: tuple[Loss, ...]) -> str:
    return " + ".join(f"L_{loss}" for loss in losses)


_ALL: tuple[Loss, ...] = ("mm", "mv", "mt")
_ROWS: tuple[tuple[Loss, ...], ...] = (("mm",), ("mv",), ("mt",), ("mm", "mv"), ("mm", "mt"), _ALL)
_ROWS_OF_SETS: tuple[tuple[Loss, ...], ...] = (("mm",), ("mt",), ("mm", "mt"))
_BACKBONES: tuple[Literal["unik", "agcn", "stgcn"], ...] = ("unik", "agcn", "stgcn")
_QUEUES = (4096, 16_384, 32_768, 65_536)  # free choices up to MoCo's; the paper's appendix is not public
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
)

RECIPES: dict[str, Callable[[], PretrainConfig]] = {make().recipe: make for make in _FUNCTIONS}
