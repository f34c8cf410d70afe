"""Which frames of a clip a model of few frames sees."""

from __future__ import annotations


def middle_frames(count: int, wanted: int) -> list[int]:
    """Indices of the middle frames of ``wanted`` equal stretches of ``count`` frames; every frame of a shorter clip.

    The middle of an even stretch is the earlier of its two middle frames, as in ViCLIP's evaluation.
    """
    if count <= wanted:
        return list(range(count))
    edges = [i * count // wanted for i in range(wanted + 1)]
    return [(edges[i] + edges[i + 1] - 1) // 2 for i in range(wanted)]
