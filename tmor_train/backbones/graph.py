"""Skeleton graphs as the matrices that ST-GCN and AGCN multiply joints with, from the layouts of posecap.

Matrices are (3, V, V) float32, from a joint (row) to a joint (column). Columns sum to 1: over all three parts in
ST-GCN's, in each part (or to 0 where it has no links) in AGCN's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posecap.joints import LAYOUTS, Layout, LayoutError

_CENTRES = {"unik17": "neck", "h36m17": "thorax", "halpe26": "neck"}
"""The centre where it is not the root of the layout's bones: the joint between the shoulders, as in ``ntu25``."""


def layout_named(name: str) -> Layout:
    """The layout of that name.

    Raises:
        LayoutError: there is none.
    """
    if name not in LAYOUTS:
        raise LayoutError(f"unknown layout {name!r}; known: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def centre(layout: Layout) -> int:
    """The joint that "inward" points to: between the shoulders where the layout has such a joint, else its root.

    ``ntu25``: spine_shoulder and ``openpose18``: neck, as in ST-GCN; ``coco17`` and ``penn13``: nose and head;
    ``unik17`` and ``halpe26``: neck; ``h36m17``: thorax.
    """
    return layout.names.index(_CENTRES[layout.name]) if layout.name in _CENTRES else layout.root


def partitions_by_distance(layout: Layout) -> Tensor:
    """ST-GCN's "spatial" strategy: a joint itself, its neighbours farther from the centre, and those nearer.

    The three add up to the adjacency with self-links, each column divided by its sum.
    """
    inward, itself = _inward(layout), torch.eye(len(layout.names))
    # A column takes from its rows. Its children are farther from the centre, its parent is nearer.
    parts = torch.stack([itself, inward.T, inward])
    return parts / parts.sum((0, 1))


def partitions_by_direction(layout: Layout) -> Tensor:
    """2s-AGCN's: self-links, links to the centre and links from it, each column of each divided by its sum."""
    inward, itself = _inward(layout), torch.eye(len(layout.names))
    parts = torch.stack([itself, inward, inward.T])
    return parts / parts.sum(1, keepdim=True).clamp(min=1)


def _inward(layout: Layout) -> Tensor:
    """1 at (parent, child) of every bone, the parent being the end nearer to the centre. The bones of every layout are
    a tree, so that each joint is reached once, in whatever order."""
    links: dict[int, set[int]] = {joint: set() for joint in range(len(layout.names))}
    for one, other in layout.bones:
        links[one].add(other)
        links[other].add(one)
    matrix = torch.zeros(len(layout.names), len(layout.names))
    edge, reached = [centre(layout)], {centre(layout)}
    while edge:
        parent = edge.pop()
        for child in links[parent] - reached:
            matrix[parent, child] = 1
            reached.add(child)
            edge.append(child)
    return matrix
