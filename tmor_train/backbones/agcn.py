"""AGCN, one stream of 2s-AGCN (Shi et al., CVPR 2019): UNIK's blocks on a skeleton graph that learning may bend.

Names and starting values are those of the released code. Its graph is fixed by the layout, and in no checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tmor_train.backbones import Backbone, People
from tmor_train.backbones.graph import layout_named, partitions_by_direction
from tmor_train.backbones.layers import STRIDED, WIDTHS, Block, SpatialUnit, TemporalUnit, person_clips
from tmor_train.backbones.weights import Head, load_weights


class AgcnSpatialUnit(SpatialUnit):
    """Attention + A + PA: A the fixed graph in three parts, one a head; PA learned, from 1e-6."""

    A: Tensor

    def __init__(self, wide_in: int, wide_out: int, *, graph: Tensor) -> None:
        super().__init__(wide_in, wide_out, heads=len(graph))
        self.register_buffer("A", graph.clone(), persistent=False)
        self.PA = nn.Parameter(torch.full_like(graph, 1e-6))

    def dependencies(self) -> Tensor:
        return self.A + self.PA


class AgcnBlock(Block):
    def __init__(self, wide_in: int, wide_out: int, *, graph: Tensor, number: int) -> None:
        stride = 2 if number in STRIDED else 1
        super().__init__(wide_in, wide_out, stride=stride, first=number == 1)
        self.gcn1 = AgcnSpatialUnit(wide_in, wide_out, graph=graph)
        self.tcn1 = TemporalUnit(wide_out, wide_out, stride=stride)

    def units(self, x: Tensor) -> Tensor:
        y: Tensor = self.tcn1(self.gcn1(x))
        return y


class AGCN(Backbone):
    """The encoder on the graph of a layout of :data:`posecap.joints.LAYOUTS`.

    Args:
        layout: name of the layout; V follows from it.
        channels: C, coordinates of a joint.
        persons: M, slots with statistics of their own.
        classes: class scores to give; None for features.
        people: how persons are pooled; ``mean`` is the released code's.

    Raises:
        LayoutError: unknown layout.
        ValueError: a size below 1.
    """

    def __init__(
        self,
        *,
        layout: str = "unik17",
        channels: int = 2,
        persons: int = 2,
        classes: int | None = None,
        people: People = "mean",
    ) -> None:
        graph = partitions_by_direction(layout_named(layout))
        super().__init__(joints=graph.shape[1], channels=channels, classes=classes, people=people)
        if persons < 1:
            raise ValueError(f"persons are at least 1, not {persons}")
        self.layout, self.persons = layout, persons
        self.data_bn = nn.BatchNorm1d(persons * self.joints * channels)
        wide_in = channels
        for number, wide in enumerate(WIDTHS, 1):
            self.add_module(f"l{number}", AgcnBlock(wide_in, wide, graph=graph, number=number))
            wide_in = wide

    def load(self, state_dict: Mapping[str, Tensor], *, head: Head = "load") -> None:
        """Take weights by the released names; see :func:`~tmor_train.backbones.weights.load_weights`."""
        load_weights(self, state_dict, head=head)

    def joint_features(self, x: Tensor) -> Tensor:
        y = person_clips(x, self.data_bn)
        for number in range(1, len(WIDTHS) + 1):
            y = self.get_submodule(f"l{number}")(y)
        return y
