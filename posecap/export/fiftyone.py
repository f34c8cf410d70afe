"""FiftyOne's own dataset format on disk, ``fiftyone.types.FiftyOneDataset``, with a video sample for each clip.

Written here rather than by the package, which needs a MongoDB to hold a dataset before it exports it, and takes one
layout of joints. The files of the folder::

    metadata.json           types of fields, the skeleton (names of joints, bones), labels as default_classes
    samples.json            a sample for each clip
        filepath            data/{split}/{key}.mp4, where the clip's video is, or would be if it were stored
        tags, split         the split
        label               Classification, null for a clip without a label
        captions            list of texts
        key, license, ...   the clip's values by the names of the index (:data:`posecap.shards.INDEX_SCHEMA`),
                            quality measures among them, and people
        metadata            VideoMetadata: frame_rate, total_frame_count, duration
        video_vector        (D) and text_vectors (C, D): float32 arrays
        facts               JSON text: all facts but label and split
    frames.json             a frame for each frame of each clip, numbered from 1, in the order of the samples
        seconds             its time on the clock of the whole video
        keypoints           Keypoints: of each person of whom a joint is seen, label (person), index (the person's
                            number in the clip, from 1), points in [0, 1] of width and height, NaN for a joint that is
                            not seen, and confidence
        detections          Detections: the box around these joints, with the same index, and their mean score
    data/                   the videos, as far as the dataset stores them

Numbers of joints have nine significant digits, which is enough for float32: multiplied by width and height of the
source video and rounded to float32, points are the joints' very bits. Both lists are written clip by clip. Ids follow
from keys, so that a clip has the same in every export; a key of 24 hexadecimal digits is the sample's id itself.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from posecap.export import Clips, clip_path, joint_boxes, picture_size
from posecap.files import canonical_json
from posecap.joints import LAYOUTS
from posecap.shards import INDEX_SCHEMA
from posecap.stream import Streamed

VERSION = "1.0.0"
"""Of FiftyOne, whose datasets are written so; it migrates those of earlier versions when it loads them."""

_QUALITY = ("coverage", "mean_score", "zero_pose_share", "jitter", "bone_jump_share", "identity_switches", "motion")
_FACTS = (
    *("row_id", "uri", "source_id", "start_seconds", "end_seconds", "fps", "width", "height", "codec", "layout"),
    *("license", "source"),
)
_NAN = {"$numberDouble": "NaN"}
"""As MongoDB's extended JSON writes it, which FiftyOne reads."""


def write(clips: Clips, folder: Path) -> int:
    """Write the dataset; returns the number of clips.

    Raises:
        ExportError: clips have different layouts, a clip has no width and height, or the dataset changed meanwhile.
        ShardError, WhereError: as ``posecap.open``.
    """
    layout = clips.one_layout("a FiftyOne dataset")
    (folder / "metadata.json").write_bytes(canonical_json(_metadata(layout, clips.labels())))
    number = 0
    with (folder / "samples.json").open("wb") as samples, (folder / "frames.json").open("wb") as frames:
        samples.write(b'{"samples":[')
        frames.write(b'{"frames":[')
        for number, (sample, video) in enumerate(clips.samples_with_video(["joints", "pts", "video", "text", "facts"])):
            path = "data" / clip_path(sample, ".mp4")
            if video is not None:
                (folder / path.parent).mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(video)
            _append(samples, number, [_sample(sample, path.as_posix())])
            _append(frames, number, _frames(sample))
        for file in (samples, frames):
            file.write(b"]}\n")
    return number + 1


def _append(file: BinaryIO, clip: int, documents: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> None:
    """Write documents of a clip, by its number, each on a line of its own."""
    for number, document in enumerate(documents):
        file.write((b",\n" if clip or number else b"\n") + canonical_json(document))


def _metadata(layout: str, labels: list[str]) -> dict[str, Any]:
    """The document of the dataset."""
    known, label = LAYOUTS[layout], "fiftyone.core.labels"
    tags = _field("tags", "ListField", subfield="StringField")
    one = [_field("id", "ObjectIdField", db_field="_id"), tags, _field("label", "StringField")]
    tracked = [*one, _field("attributes", "DictField"), _field("index", "IntField")]
    scores = _field("confidence", "ListField", subfield="FloatField")
    keypoint = [*tracked, _field("points", "KeypointsField"), scores]
    box = _field("bounding_box", "ListField", subfield="FloatField")
    detection = [*tracked, box, _field("confidence", "FloatField")]
    video = {"frame_rate": "FloatField", "total_frame_count": "IntField", "duration": "FloatField"}
    typed = {f.name: _kind(f.type) for f in INDEX_SCHEMA if f.name in ("key", "split", *_FACTS, *_QUALITY)}
    internal = {"id": "_id", "_dataset_id": "_dataset_id"}
    ids = [_field(name, "ObjectIdField", db_field=stored) for name, stored in internal.items()]
    times = [_field(name, "DateTimeField", read_only=True) for name in ("created_at", "last_modified_at")]
    lists = {"keypoints": ("Keypoint", keypoint), "detections": ("Detection", detection)}
    return {
        "version": VERSION,
        "media_type": "video",
        "default_classes": labels,
        "default_skeleton": {"labels": list(known.names), "edges": [list(bone) for bone in known.bones]},
        "sample_fields": [
            *ids,
            *times,
            *(_field(name, "StringField") for name in ("filepath", "_media_type", "facts")),
            _field("_rand", "FloatField"),
            tags,
            _document("metadata", "fiftyone.core.metadata.VideoMetadata", [_field(*pair) for pair in video.items()]),
            *(_field(name, kind) for name, kind in typed.items()),
            _field("people", "IntField"),
            _document("label", f"{label}.Classification", one),
            _field("captions", "ListField", subfield="StringField"),
            _field("video_vector", "VectorField"),
            _field("text_vectors", "ArrayField"),
        ],
        "frame_fields": [
            *ids,
            *times,
            _field("_sample_id", "ObjectIdField"),
            _field("frame_number", "FrameNumberField"),
            _field("seconds", "FloatField"),
            *(
                _document(name, f"{label}.{kind}s", [_document(name, f"{label}.{kind}", fields, many=True)])
                for name, (kind, fields) in lists.items()
            ),
        ],
    }


def _field(
    name: str, ftype: str, *, subfield: str | None = None, db_field: str | None = None, read_only: bool = False
) -> dict[str, Any]:
    """The document of a field, whose types are classes of ``fiftyone.core.fields``."""
    return {
        "name": name,
        "ftype": f"fiftyone.core.fields.{ftype}",
        "embedded_doc_type": None,
        "subfield": subfield and f"fiftyone.core.fields.{subfield}",
        "fields": [],
        "db_field": db_field or name,
        "description": None,
        "info": None,
        "read_only": read_only,
    }


def _document(name: str, kind: str, fields: list[dict[str, Any]], *, many: bool = False) -> dict[str, Any]:
    """The document of a field that holds a document of the class ``kind``, or a list of them."""
    listed = _field(name, "ListField", subfield="EmbeddedDocumentField")
    return {**(listed if many else _field(name, "EmbeddedDocumentField")), "embedded_doc_type": kind, "fields": fields}


def _kind(kind: pa.DataType) -> str:
    """The type of a field for a column of the index."""
    return "StringField" if pa.types.is_string(kind) else "IntField" if pa.types.is_integer(kind) else "FloatField"


def _sample(sample: Streamed, path: str) -> dict[str, Any]:
    """The document of a clip, whose video is at ``path``."""
    facts, key = sample["facts"], sample["key"]
    quality = facts.get("quality") or {}
    label = facts.get("label")
    named = {"_id": _id(key, "label"), "_cls": "Classification", "tags": [], "label": label}
    frames = len(sample["pts"])
    return {
        "_id": _sample_id(key),
        "_media_type": "video",
        "_rand": int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32,
        "filepath": path,
        "tags": [facts["split"]],
        "metadata": {
            "_cls": "VideoMetadata",
            "frame_rate": facts.get("fps"),
            "total_frame_count": frames,
            "duration": float(sample["pts"][-1] - sample["pts"][0]),
        },
        "key": key,
        "split": facts["split"],
        "people": facts["people"],
        **{name: facts.get(name) for name in _FACTS},
        **{name: quality.get(name) for name in _QUALITY},
        "label": None if label is None else named,
        "captions": [caption["text"] for caption in facts["captions"]],
        "video_vector": _array(sample["video"].numpy()),
        "text_vectors": _array(sample["text"].numpy()),
        "facts": canonical_json({name: v for name, v in facts.items() if name not in ("label", "split")}).decode(),
    }


def _frames(sample: Streamed) -> Iterator[dict[str, Any]]:
    """The document of each frame of a clip. Raises ExportError for a clip without width and height."""
    key, size = sample["key"], np.array(picture_size(sample), np.float64)
    joints_MTJ3 = sample["joints"].numpy()
    seen_MTJ = joints_MTJ3[..., 2] > 0
    points_MTJ2 = joints_MTJ3[..., :2].astype(np.float64) / size
    boxes_MT4 = joint_boxes(joints_MTJ3) / np.tile(size, 2)
    sample_id, numbers = _sample_id(key), count()
    for frame, seconds in enumerate(sample["pts"].tolist()):
        keypoints, detections = [], []
        for person in np.flatnonzero(seen_MTJ[:, frame].any(-1)).tolist():
            seen_J, scores_J = seen_MTJ[person, frame], joints_MTJ3[person, frame, :, 2]
            known = {"attributes": {}, "tags": [], "label": "person", "index": person + 1}
            left, top, right, bottom = boxes_MT4[person, frame].tolist()
            points = zip(seen_J.tolist(), points_MTJ2[person, frame].tolist(), strict=True)
            keypoints.append(
                {
                    "_id": _id(key, next(numbers)),
                    "_cls": "Keypoint",
                    **known,
                    "points": [[_short(x), _short(y)] if seen else [_NAN, _NAN] for seen, (x, y) in points],
                    "confidence": [_short(score) for score in np.where(seen_J, scores_J, 0).tolist()],
                }
            )
            detections.append(
                {
                    "_id": _id(key, next(numbers)),
                    "_cls": "Detection",
                    **known,
                    "bounding_box": [_short(edge) for edge in (left, top, right - left, bottom - top)],
                    "confidence": _short(float(scores_J[seen_J].mean())),
                }
            )
        yield {
            "_id": _id(key, next(numbers)),
            "_sample_id": sample_id,
            "frame_number": frame + 1,
            "seconds": seconds,
            "keypoints": {"_cls": "Keypoints", "keypoints": keypoints},
            "detections": {"_cls": "Detections", "detections": detections},
        }


def _short(value: float) -> float:
    """The value to nine significant digits: those that tell apart all float32, and products of them."""
    return float(f"{value:.9g}")


def _sample_id(key: str) -> dict[str, str]:
    """The id of a clip's sample: its key, if that can be one."""
    return {"$oid": key} if re.fullmatch(r"[0-9a-f]{24}", key) else _id(key, "sample")


def _id(key: str, what: str | int) -> dict[str, str]:
    """The id of something of a clip. Of a number, two of one clip never have the same."""
    begin = hashlib.sha256(key.encode()).hexdigest()[:16]
    return {"$oid": begin + (f"{what:08x}" if isinstance(what, int) else hashlib.sha256(what.encode()).hexdigest()[:8])}


def _array(values: Any) -> dict[str, Any]:
    """An array as FiftyOne stores it in a document: compressed npy."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return {"$binary": {"base64": base64.b64encode(zlib.compress(file.getvalue())).decode(), "subType": "00"}}
