"""Keypoints as COCO has them, in one JSON file, with clips as videos and tracks by person.

The lists of the file, in this order::

    categories    one for each layout of joints: id, name (person), keypoints (names), skeleton (bones as pairs of
                  joints, numbered from 1), layout
    videos        one for each clip: id, name (its key), split, label, uri, start_seconds, end_seconds, license
    images        one for each frame: id, video_id, frame_id (from 0), seconds (on the clock of the whole video), width
                  and height (as displayed), file_name ({key}/{frame_id}.jpg: where a picture would be)
    annotations   one for each person in each frame with a joint that is seen: id, image_id, category_id, track_id (the
                  person's number in the clip, from 0), keypoints (x, y and 2, or 0, 0, 0 for a joint that is not
                  seen), keypoint_scores, score (their mean over the joints seen), num_keypoints, bbox (around these
                  joints: left, top, width, height), area (of the box), iscrowd (0)

All ids count from 1. x and y are rounded to a hundredth of a pixel and scores to a thousandth, which halves the file.
COCO's readers hold it in memory as a whole; it is written clip by clip, in two passes over the clips, as frames and
people are in lists of their own. A frame in which nobody is seen has no annotation, so who is in a clip without being
seen is not known from the file. It holds no vectors of videos and texts, and no dataset can be made of it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from posecap.export import CHANGED, Clips, ExportError, joint_boxes, picture_size
from posecap.files import canonical_json
from posecap.joints import LAYOUTS

if TYPE_CHECKING:
    from posecap.stream import Streamed

_VIDEO = ("split", "label", "uri", "start_seconds", "end_seconds", "license")
"""Columns of the index that videos have, by the same names."""


def write(clips: Clips, file: BinaryIO) -> int:
    """Write the JSON; returns the number of clips.

    Raises:
        ExportError: a clip has no width and height, or the dataset changed meanwhile.
        ShardError, WhereError: as ``posecap.open``.
    """
    layouts = sorted({row["layout"] for row in clips.index(["layout"])})
    categories = {layout: number for number, layout in enumerate(layouts, 1)}
    file.write(b'{"categories":' + canonical_json([_category(number, name) for name, number in categories.items()]))
    videos = _write_list(file, "videos", _videos(clips))
    images = _write_list(file, "images", _images(clips))
    frames = _Counter()
    _write_list(file, "annotations", _annotations(clips, categories, frames))
    file.write(b"}\n")
    if (videos, images) != (frames.clips, frames.images):
        raise ExportError(CHANGED)
    return videos


@dataclass
class _Counter:
    """Counts clips and their frames."""

    clips: int = 0
    images: int = 0


def _write_list(file: BinaryIO, name: str, items: Iterable[dict[str, Any]]) -> int:
    """Write a list of the document, of which it is not the first value; returns its length."""
    file.write(f',"{name}":['.encode())
    count = 0
    for item in items:
        file.write((b",\n" if count else b"\n") + canonical_json(item))
        count += 1
    file.write(b"]")
    return count


def _category(number: int, name: str) -> dict[str, Any]:
    """The entry of a layout of joints."""
    layout = LAYOUTS[name]
    bones = [[parent + 1, child + 1] for child, parent in layout.bones]
    known = {"supercategory": "person", "keypoints": layout.names, "skeleton": bones, "layout": name}
    return {"id": number, "name": "person", **known}


def _videos(clips: Clips) -> Iterator[dict[str, Any]]:
    """An entry for each clip, in the order in which all lists have them."""
    for number, row in enumerate(clips.index(["key", *_VIDEO]), 1):
        yield {"id": number, "name": row["key"], **{name: row[name] for name in _VIDEO}}


def _images(clips: Clips) -> Iterator[dict[str, Any]]:
    """An entry for each frame. Raises ExportError for a clip without width and height."""
    number = 0
    for video, sample in enumerate(clips.samples(["pts", "facts"]), 1):
        width, height = picture_size(sample)
        for frame, seconds in enumerate(sample["pts"].tolist()):
            number += 1
            yield {
                "id": number,
                "video_id": video,
                "frame_id": frame,
                "seconds": seconds,
                "width": width,
                "height": height,
                "file_name": f"{sample['key']}/{frame:06}.jpg",
            }


def _annotations(clips: Clips, categories: dict[str, int], frames: _Counter) -> Iterator[dict[str, Any]]:
    """The people of each frame; ``frames`` counts what was read, and so numbers the images of the next clip. Raises
    ExportError where a clip has a layout that no clip had before."""
    number = 0
    for sample in clips.samples(["joints", "facts"]):
        category = categories.get(sample["facts"]["layout"])
        if category is None:
            raise ExportError(CHANGED)
        for frame, person, known in _people(sample):
            number += 1
            places = {"id": number, "image_id": frames.images + 1 + frame, "track_id": person}
            yield {**places, "category_id": category, "iscrowd": 0, **known}
        frames.clips += 1
        frames.images += sample["joints"].shape[1]


def _people(sample: Streamed) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Frame, person, and what an annotation says of the joints, of each person where a joint is seen."""
    joints_MTJ3 = sample["joints"].numpy().astype(np.float64)
    seen_MTJ = joints_MTJ3[..., 2] > 0
    keypoints_MTJ3 = np.where(seen_MTJ[..., None], joints_MTJ3.round(2), 0)
    keypoints_MTJ3[..., 2] = 2 * seen_MTJ  # COCO's flag: 2 is labelled and visible, 0 not labelled
    boxes_MT4 = joint_boxes(keypoints_MTJ3)
    for frame, person in np.argwhere(seen_MTJ.any(-1).T).tolist():
        seen_J, scores_J = seen_MTJ[person, frame], joints_MTJ3[person, frame, :, 2]
        left, top, right, bottom = boxes_MT4[person, frame].tolist()
        width, height = round(right - left, 2), round(bottom - top, 2)
        yield (
            frame,
            person,
            {
                "keypoints": keypoints_MTJ3[person, frame].ravel().tolist(),
                "keypoint_scores": scores_J.round(3).tolist(),
                "score": round(float(scores_J[seen_J].mean()), 3),
                "num_keypoints": int(seen_J.sum()),
                "bbox": [left, top, width, height],
                "area": round(width * height, 2),
            },
        )
