"""Small valid rows, clips and samples for tests: any field can be given, all others follow from ``seed``.

posed(people=2, frames=40)                      two walkers, 40 frames at 25 per second
posed(joints_MTJ3=mine)                         frames, people, tracks and times follow from the array
captioned(captions=(Caption("x", "row"),))
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from posecap import files
from posecap.joints import convert
from posecap.skeletons import measure
from posecap.types import (
    Caption,
    CaptionedClip,
    Clip,
    EmbeddedClip,
    Media,
    PosedClip,
    Row,
    Sample,
    SkeletonClip,
    Span,
    Tracks,
    Video,
)
from posecap.visualization.contact_sheet import Thumbnail

# A standing figure, COCO-17, about 100 pixels tall, its hips at the origin.
_STANDING = np.array(
    [
        *[(0, -55), (3, -58), (-3, -58), (6, -56), (-6, -56)],
        *[(12, -40), (-12, -40), (16, -20), (-16, -20), (18, -2), (-18, -2)],
        *[(8, 0), (-8, 0), (9, 24), (-9, 24), (9, 46), (-9, 46)],
    ],
    np.float64,
)
# How far each joint swings from side to side, in pixels; left and right against each other.
_SWING = np.array([1, 1, 1, 1, 1, 3, -3, 8, -8, 16, -16, -2, 2, -9, 9, -18, 18], np.float64)


def row(**changes: Any) -> Row:
    known = {"row_id": "walk-1", "uri": "videos/walk.mp4", "label": "walking", "captions": ("Somebody walks by.",)}
    return Row(**{**known, "license": "CC0-1.0", "source": "made up", "place": "rows.csv:2", **changes})


def thumbnails(*samples: Sample) -> list[Thumbnail]:
    """The thumbnails of samples, as :func:`posecap.visualization.contact_sheet.write_preview` takes them."""
    return [
        Thumbnail(s.key, s.facts["label"], None if s.thumbnail_jpeg is None else partial(bytes, s.thumbnail_jpeg))
        for s in samples
    ]


def walkers(*, people: int = 1, frames: int = 24, seed: int = 0, layout: str = "coco17") -> np.ndarray:
    """(M, T, J, 3) float32: people 200 pixels apart who walk to the right, arms and legs swinging."""
    rng = np.random.default_rng(seed)
    joints = np.zeros((people, frames, 17, 3))
    phase = 2 * np.pi * (np.arange(frames)[None, :] / 24 + rng.random((people, 1)))
    joints[..., :2] = _STANDING
    joints[..., 0] += np.sin(phase)[..., None] * _SWING
    joints[..., 0] += 100 + 200 * np.arange(people)[:, None, None] + np.arange(frames)[None, :, None]
    joints[..., 1] += 120
    joints[..., 2] = 0.5 + 0.4 * rng.random((people, frames, 17))
    return convert(joints.astype(np.float32), source="coco17", target=layout)


def tracks_of(joints_MTJ3: np.ndarray, *, layout: str | None = None) -> Tracks:
    """Boxes around the seen joints, with the mean of their scores; with the joints too where ``layout`` is named."""
    seen = joints_MTJ3[..., 2] > 0
    there = seen.any(-1)
    low = np.where(seen[..., None], joints_MTJ3[..., :2], np.inf).min(-2, initial=np.inf)
    high = np.where(seen[..., None], joints_MTJ3[..., :2], -np.inf).max(-2, initial=-np.inf)
    boxes = np.where(there[..., None], np.concatenate([low, high], -1), 0)
    scores = np.where(there, joints_MTJ3[..., 2].sum(-1) / np.maximum(seen.sum(-1), 1), 0)
    joints = None if layout is None else joints_MTJ3
    return Tracks(
        boxes_MT4=boxes.astype(np.float32), scores_MT=scores.astype(np.float32), joints_MTJ3=joints, layout=layout
    )


def _clip_fields(frames: int, fps: float, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Fields of a Clip. ``row`` among the changes gives its video another row; ``pts_T`` may be a list."""
    frames = len(changes.get("frames_THW3", range(frames)))
    pts_T = np.asarray(changes.pop("pts_T", np.arange(frames) / fps), np.float64)
    span = changes.get("span", Span(float(pts_T[0]), float(pts_T[-1]) + 1 / fps))
    known_row = changes.pop("row", None) or row()
    source_id = hashlib.sha256(f"source {seed}".encode()).hexdigest()
    rng = np.random.default_rng(seed)
    return {
        "video": Video(row=known_row, path=Path("videos/walk.mp4"), source_id=source_id, size_bytes=1_000),
        "clip_id": files.clip_id(source_id, known_row.row_id, span),
        "span": span,
        "media": Media(width=640, height=360, fps=fps, codec="h264", rotation_degrees=0, seconds=None),
        "decoder": "made-up-decoder",
        "frames_THW3": rng.integers(0, 256, (len(pts_T), 36, 64, 3), np.uint8),
        "pts_T": pts_T,
    }


def _posed_fields(people: int, frames: int, fps: float, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    layout = changes.get("layout", "coco17")
    frames = len(changes.get("pts_T", changes.get("frames_THW3", range(frames))))
    joints = changes.get("joints_MTJ3")
    if joints is None:
        joints = walkers(people=people, frames=frames, seed=seed, layout=layout)
    known = _clip_fields(joints.shape[1], fps, seed, changes)
    names = {"detector": "made-up-detector", "tracker": "made-up-tracker", "pose_model": "made-up-detector"}
    return {**known, **names, "tracks": tracks_of(joints), "joints_MTJ3": joints, "layout": layout}


def clip(*, frames: int = 24, fps: float = 25.0, seed: int = 0, **changes: Any) -> Clip:
    return Clip(**{**_clip_fields(frames, fps, seed, changes), **changes})


def posed(*, people: int = 1, frames: int = 24, fps: float = 25.0, seed: int = 0, **changes: Any) -> PosedClip:
    return PosedClip(**{**_posed_fields(people, frames, fps, seed, changes), **changes})


def skeleton(*, people: int = 1, frames: int = 24, fps: float = 25.0, seed: int = 0, **changes: Any) -> SkeletonClip:
    quality = changes.pop("quality", None)
    item = posed(people=people, frames=frames, fps=fps, seed=seed, **changes)
    return item.extend(SkeletonClip, quality=quality or measure(item.joints_MTJ3, item.pts_T, item.layout))


def captioned(*, captions: tuple[Caption, ...] | None = None, **changes: Any) -> CaptionedClip:
    """Takes what :func:`skeleton` takes."""
    known = (Caption("Somebody walks by.", "row"), Caption("walking", "label"))
    return skeleton(**changes).extend(CaptionedClip, captions=known if captions is None else captions)


def embedded(*, video_dimension: int = 6, text_dimension: int = 4, **changes: Any) -> EmbeddedClip:
    """Takes what :func:`captioned` takes, and the fields of an EmbeddedClip."""
    own = ("video_D", "text_CD", "video_span", "video_model", "text_model")
    added = {name: changes.pop(name) for name in own if name in changes}
    item = captioned(**changes)
    rng = np.random.default_rng(changes.get("seed", 0))
    known = {
        "video_D": _unit(rng.standard_normal(video_dimension)),
        "text_CD": _unit(rng.standard_normal((len(item.captions), text_dimension))),
        "video_span": Span(float(item.pts_T[0]), max(float(item.pts_T[-1]), float(item.pts_T[0]) + 1e-3)),
        "video_model": "made-up-video-model",
        "text_model": "made-up-text-model",
    }
    return item.extend(EmbeddedClip, **{**known, **added})


def sample(*, thumbnail_jpeg: bytes | None = None, video_mp4: bytes | None = None, **changes: Any) -> Sample:
    """Takes what :func:`embedded` takes, and ``key`` and ``facts`` (merged into the packed ones)."""
    from posecap.stages.pack import Pack

    key, facts = changes.pop("key", None), changes.pop("facts", {})
    (made,) = Pack(thumbnail_side=0)(embedded(**changes))
    if key is not None:
        facts = {"clip_id": key, **facts}
    return replace(
        made, key=key or made.key, facts={**made.facts, **facts}, thumbnail_jpeg=thumbnail_jpeg, video_mp4=video_mp4
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


__all__ = [
    "captioned",
    "clip",
    "embedded",
    "posed",
    "row",
    "sample",
    "skeleton",
    "tracks_of",
    "walkers",
]
