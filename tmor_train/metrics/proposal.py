"""An event that was found, or that is true, and how far two of them overlap."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Proposal:
    """Frames ``begin`` to ``end`` (excluded) show class ``number`` (of those without background)."""

    begin: int
    end: int
    number: int
    confidence: float


def iou(one: Proposal, other: Proposal) -> float:
    """Frames in both of two events, as a share of the frames in either."""
    both = max(0, min(one.end, other.end) - max(one.begin, other.begin))
    return both / (one.end - one.begin + other.end - other.begin - both)


__all__ = ["Proposal", "iou"]
