"""Reads the FiftyOne dataset that ``posecap export --format fiftyone`` writes, and that FiftyOne itself exports of one
that was changed there (``fiftyone.types.FiftyOneDataset``).

Taken from what FiftyOne shows are which samples there are, their label and split, and the joints of the keypoints; all
else is that of ``facts``, and the arrays of vectors. A sample whose fields ``key``, ``facts``, ``video_vector`` or
``text_vectors`` are gone is an error. Both lists are read document by document, the frames in the order of the samples,
as FiftyOne keeps them; a document has at most :data:`MAX_DOCUMENT_CHARACTERS`, and an array
:data:`posecap.shards.paths.MAX_MEMBER_BYTES`.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posecap.imports import Extra, MadeWith
from posecap.joints import LAYOUTS
from posecap.shards import ShardError
from posecap.shards.extra import MemberName
from posecap.shards.paths import MAX_MEMBER_BYTES
from posecap.shards.serialization import read_captions, read_facts
from posecap.types import Sample

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
            yield _sample(key, document, list(own)), {}
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


def _sample(key: str, document: dict[str, Any], frames: list[dict[str, Any]]) -> Sample:
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
        video_D=_array(document["video_vector"], axes=1),
        text_CD=_array(document["text_vectors"], axes=2),
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


def _array(value: Any, *, axes: int) -> NDArray[np.float32]:
    """An array of float32 as FiftyOne stores it: compressed npy."""
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(base64.b64decode(value["$binary"]["base64"]), MAX_MEMBER_BYTES)
    if unpacking.unconsumed_tail:
        raise ShardError(f"an array takes more than {MAX_MEMBER_BYTES} bytes")
    array: NDArray[np.float32] = np.load(io.BytesIO(content), allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != axes:
        raise ShardError(f"an array is no float32 with {axes} axes")
    return array
