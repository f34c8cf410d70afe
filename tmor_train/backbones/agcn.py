"""AGCN, one stream of 2s-AGCN (Shi et al., CVPR 2019): blocks as in UNIK, on a skeleton graph with learned changes.

Parameters have the names and initial values of the released code. The graph follows from the layout and is not stored
in checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posecap.joints import layout_named
from tmor_train.backbones import People
from tmor_train.backbones.layers import BlockBackbone, SpatialUnit, partitions_by_direction


class AgcnSpatialUnit(SpatialUnit):
    """Mixes joints by attention + A + PA: A is the fixed graph in three partitions, one for each head, and PA learned
    changes of it, which begin at 1e-6 as in the released code; ``graph`` is A, (3, V, V) float."""

    A: Tensor

    def __init__(self, wide_in: int, wide_out: int, *, graph: Tensor) -> None:
        super().__init__(wide_in, wide_out, heads=len(graph))
        self.register_buffer("A", graph.clone(), persistent=False)
        self.PA = nn.Parameter(torch.full_like(graph, 1e-6))

    def dependencies(self) -> Tensor:
        return self.A + self.PA


class AGCN(BlockBackbone):
    """AGCN on the graph of a layout of :data:`posecap.joints.LAYOUTS`.

    Args:
        layout: name of the layout; V follows from it.
        channels: C, the number of coordinates of a joint.
        persons: M, the number of person slots; each has statistics of its own.
        classes: number of class scores that the model returns; None: it returns features.
        people: how persons are pooled; ``mean`` as in the released code.

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
        super().__init__(
            joints=graph.shape[1],
            channels=channels,
            persons=persons,
            classes=classes,
            people=people,
            spatial=lambda number, wide_in, wide_out: AgcnSpatialUnit(wide_in, wide_out, graph=graph),
            names=("gcn1", "tcn1"),
        )
        self.layout = layout
