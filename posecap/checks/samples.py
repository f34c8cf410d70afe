"""Whether a sample agrees with itself: arrays with facts, and video, skeleton and features on the same time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from posecap.joints import LAYOUTS
from posecap.types import Sample


def check_sample(sample: Sample, *, split: str, tolerance_seconds: float) -> Iterator[str]:
    """Sentences on what is wrong with a sample; none for a sound one.

    Args:
        split: of the part that holds it.
        tolerance_seconds: how far frames may lie outside the clip's span.
    """
    yield from _shapes(sample, split)
    yield from (
        f"{name} holds NaN or infinity"
        for name in ("joints_MTJ3", "pts_T", "video_D", "text_CD")
        if not np.isfinite(getattr(sample, name)).all()
    )
    yield from _times(sample, tolerance_seconds)


def _shapes(sample: Sample, split: str) -> Iterator[str]:
    people, frames, joints, _ = sample.joints_MTJ3.shape
    layout = sample.facts.get("layout")
    if layout not in LAYOUTS:
        yield f"layout {layout!r} is not known"
    elif len(LAYOUTS[layout].names) != joints:
        yield f"joints has {joints} joints, layout {layout} has {len(LAYOUTS[layout].names)}"
    known = {"clip_id": sample.key, "split": split, "people": people, "frames": frames, "joints": joints}
    for name, value in known.items():
        if sample.facts.get(name) != value:
            yield f"facts say {name} is {sample.facts.get(name)!r}, the sample says {value!r}"
    if not (people and frames and sample.video_D.size):
        yield f"there is nothing in it: joints {sample.joints_MTJ3.shape}, video {sample.video_D.shape}"


def _times(sample: Sample, tolerance: float) -> Iterator[str]:
    pts = sample.pts_T
    if pts.size == 0:
        return
    if not (np.diff(pts) > 0).all():
        yield "pts does not strictly increase"
    try:
        start, end = _pair(sample.facts["start_seconds"], sample.facts["end_seconds"])
        pts_span, video_span = _pair(*sample.facts["pts_span"]), _pair(*sample.facts["video_span"])
    except (KeyError, TypeError, ValueError) as error:
        yield f"facts lack start_seconds, end_seconds, pts_span or video_span: {error!r}"
        return
    if pts_span != (float(pts[0]), float(pts[-1])):
        yield f"facts say pts_span is {pts_span}, pts runs from {pts[0]} to {pts[-1]}"
    for what, (first, last) in {"skeleton": (float(pts[0]), float(pts[-1])), "video vector": video_span}.items():
        if not start - tolerance <= first <= last <= end + tolerance:
            yield f"{what} covers {first:.3f} to {last:.3f} s of a clip of {start:.3f} to {end:.3f} s"


def _pair(first: Any, last: Any) -> tuple[float, float]:
    return float(first), float(last)
