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

It is read back, and so is what FiftyOne itself exports of a dataset that was changed there. Taken from what FiftyOne
shows are which samples there are, their label and split, and the joints of the keypoints; all else is that of
``facts``, and the arrays of vectors. A sample whose fields ``key``, ``facts``, ``video_vector`` or ``text_vectors`` are
gone is an error. Both lists are read document by document, the frames in the order of the samples, as FiftyOne keeps
them; a document has at most :data:`MAX_DOCUMENT_CHARACTERS`, and an array
:data:`posecap.shards.paths.MAX_MEMBER_BYTES`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from itertools import count, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posecap.export import Clips, Extra, MadeWith, clip_path, joint_boxes, picture_size
from posecap.files import canonical_json
from posecap.joints import LAYOUTS
from posecap.shards import INDEX_SCHEMA, ShardError
from posecap.shards.extra import MemberName
from posecap.shards.paths import MAX_MEMBER_BYTES
from posecap.shards.serialization import read_captions, read_facts
from posecap.types import Sample

if TYPE_CHECKING:
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


MAX_DOCUMENT_CHARACTERS = 64 << 20
"""Of a sample or a frame: four times what MongoDB stores of one, as its JSON is longer."""
_READ_CHARACTERS = 1 << 16
"""Read at once. Our choice."""


def files(source: Path) -> list[Path]:
    """The two lists of the dataset; none where it is no dataset of FiftyOne."""
    found = [source / "samples.json", source / "frames.json"]
    return found if all(path.is_file() for path in found) else []


def made_with(source: Path) -> Mapping[MemberName, MadeWith]:
    """Nothing: the format holds no extra members."""
    return {}


def samples(source: Path) -> Iterator[tuple[Sample, Extra]]:
    """The samples of the dataset, one after another.

    Raises:
        ShardError, ValueError: it is damaged, or not what an export writes.
    """
    frames = groupby(_documents(source / "frames.json", "frames"), lambda frame: _object_id(frame.get("_sample_id")))
    for document in _documents(source / "samples.json", "samples"):
        key = document.get("key")
        if not isinstance(key, str):
            raise ShardError(f"sample {document.get('_id')} has no key")
        try:
            of_sample, own = next(frames, (None, iter(())))
            if of_sample != _object_id(document.get("_id")):
                raise ShardError("frames.json does not have its frames next; export it with all frames, in their order")
            yield _read_sample(key, document, list(own)), {}
        except (KeyError, TypeError, IndexError, AttributeError, zlib.error) as error:
            raise ShardError(f"clip {key}: not as an export writes it: {error!r}") from error
        except ValueError as error:
            raise ShardError(f"clip {key}: {error}") from error
    if next(frames, None) is not None:
        raise ShardError("frames.json has frames of samples that are not in samples.json")


def _documents(path: Path, name: str) -> Iterator[dict[str, Any]]:
    """The documents of the list ``name``, which is all that the file holds."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8") as file:
        text = file.read(_READ_CHARACTERS)
        begin = f'{{"{name}":['
        head = "".join(text[: 2 * len(begin)].split())  # FiftyOne writes a space in it
        if not head.startswith(begin):
            raise ShardError(f"{path.name} does not begin with the list {name}")
        text = text[text.index("[") + 1 :]
        while True:
            text = text.lstrip(" \t\r\n,") or file.read(_READ_CHARACTERS).lstrip(" \t\r\n,")
            if not text or text.startswith("]"):
                break
            document, end = _decode(decoder, text, final=False)
            while document is None:  # it reaches beyond what was read: as much again, so that no text is read often
                more = file.read(max(_READ_CHARACTERS, len(text)))
                text += more
                if len(text) > 2 * MAX_DOCUMENT_CHARACTERS:
                    raise ShardError(f"{path.name}: a document has more than {MAX_DOCUMENT_CHARACTERS} characters")
                document, end = _decode(decoder, text, final=not more)
            yield document
            text = text[end:]
        if not text:
            raise ShardError(f"{path.name} is cut short")


def _decode(decoder: json.JSONDecoder, text: str, *, final: bool) -> tuple[dict[str, Any] | None, int]:
    """The document at the beginning of a text and where it ends; None where it may go on beyond, unless ``final``."""
    try:
        document, end = decoder.raw_decode(text)
    except RecursionError as error:
        raise ShardError("a document is nested too deeply") from error
    except ValueError as error:
        if final:
            raise ShardError(f"a document is damaged: {error}") from error
        return None, 0
    if not isinstance(document, dict):
        raise ShardError("a document is no object")
    return document, end


def _read_sample(key: str, document: dict[str, Any], frames: list[dict[str, Any]]) -> Sample:
    """The sample of a document and the documents of its frames."""
    label = document.get("label")
    facts = {**read_facts(document["facts"]), "label": label["label"] if label else None, "split": document["split"]}
    shape = people, joints = int(facts["people"]), len(LAYOUTS[facts["layout"]].names)
    if [int(_number(frame["frame_number"])) for frame in frames] != list(range(1, len(frames) + 1)):
        raise ShardError("its frames are not numbered from 1 on; export it with all frames")
    if not 0 < people * len(frames) * joints * 12 <= MAX_MEMBER_BYTES:
        raise ShardError(f"{people} people in {len(frames)} frames are none, or too many")
    size = np.array([facts["width"], facts["height"]], np.float64)
    joints_MTJ3 = np.zeros((people, len(frames), joints, 3), np.float32)
    for number, frame in enumerate(frames):
        for keypoint in (frame.get("keypoints") or {}).get("keypoints") or []:
            person = int(_number(keypoint["index"])) - 1
            if not 0 <= person < people:
                raise ShardError(f"frame {number + 1} has the person {person + 1}, of {shape[0]}")
            joints_MTJ3[person, number] = _joints(keypoint, joints, size)
    return Sample(
        key=key,
        joints_MTJ3=joints_MTJ3,
        pts_T=np.array([_number(frame["seconds"]) for frame in frames], np.float64),
        video_D=_read_array(document["video_vector"], axes=1),
        text_CD=_read_array(document["text_vectors"], axes=2),
        captions=tuple(read_captions(facts)),
        facts=facts,
    )


def _joints(keypoint: dict[str, Any], joints: int, size: NDArray[np.float64]) -> NDArray[np.float32]:
    """The joints of a person in a frame, (J, 3): zeros where a point is NaN or has no confidence."""
    places_J2 = np.array([[_number(x), _number(y)] for x, y in keypoint["points"]], np.float64) * size
    scores_J = np.array([_number(score) for score in keypoint["confidence"]], np.float64)
    joints_J3 = np.concatenate([places_J2, scores_J[:, None]], -1)
    if len(joints_J3) != joints:
        raise ShardError(f"a person has {len(joints_J3)} keypoints, the layout has {joints}")
    seen_J = np.isfinite(joints_J3).all(-1) & (scores_J > 0)
    return np.where(seen_J[:, None], joints_J3, 0).astype(np.float32)


def _number(value: Any) -> float:
    """A number of MongoDB's extended JSON, which writes some as objects: ``{"$numberDouble": "NaN"}``."""
    if isinstance(value, dict):
        (kind, written), *others = value.items()
        if others or kind not in ("$numberDouble", "$numberInt", "$numberLong"):
            raise ShardError(f"{value} is no number")
        return float(written)
    return float(value)


def _object_id(value: Any) -> str | None:
    """The 24 digits of an id."""
    return value.get("$oid") if isinstance(value, dict) else None


def _read_array(value: Any, *, axes: int) -> NDArray[np.float32]:
    """An array of float32 as FiftyOne stores it: compressed npy."""
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(base64.b64decode(value["$binary"]["base64"]), MAX_MEMBER_BYTES)
    if unpacking.unconsumed_tail:
        raise ShardError(f"an array takes more than {MAX_MEMBER_BYTES} bytes")
    array: NDArray[np.float32] = np.load(io.BytesIO(content), allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != axes:
        raise ShardError(f"an array is no float32 with {axes} axes")
    return array
