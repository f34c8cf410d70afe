"""posecap datasets as motion sets: memory-mapped from local columns files, or streamed once from any URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posecap.shards import Dataset, ShardError
from posecap.shards.arrow_file import map_columns, read_columns
from posecap.shards.paths import columns_path
from posecap.stream import open_dataset
from posecap.types import PartName
from tmor_train.data.arrays import Floats, Numbers, Vectors, vectors
from tmor_train.data.builder import from_clips
from tmor_train.data.dataset import NOT_KNOWN, Clip, ClipTable, JointArray, MotionSet

_KNOWN = ("key", "split", "fps", "width", "height", "layout", "label", "captions")
# Joints (0), video (1) and text (2) of a sample: which array, and how long a row of it is.
_JOINTS, _VIDEO, _TEXT = "joints", "video", "text"


def read_shards(
    location: str | os.PathLike[str],
    *,
    split: str | None = None,
    read: Literal["auto", "columns", "tar"] = "auto",
    video: Literal["read", "leave"] = "read",
    text: Literal["read", "leave"] = "read",
) -> MotionSet:
    """The samples of a posecap dataset, without removed ones.

    Args:
        location: a folder, or for ``tar`` any URL that fsspec can read.
        split: one split, or None for all.
        read: ``columns`` maps the columns files of a folder into memory, so that nothing is read before it is
            gathered; ``tar`` reads every sample once and keeps it; ``auto`` takes columns of a folder, tars of a URL.
        video, text: ``leave`` omits those vectors.

    Raises:
        ShardError: no dataset there, no samples of that split, or a part is damaged.
    """
    if read not in ("auto", "columns", "tar"):
        raise ValueError(f"read is 'auto', 'columns' or 'tar', not {read!r}")
    folder = _local(os.fspath(location))
    if read == "columns" and folder is None:
        raise ShardError(f"{location} is not on a local disk, so its columns cannot be mapped; read it as 'tar'")
    found = _streamed(location, split) if folder is None or read == "tar" else _mapped(folder, split)
    if video == "leave":
        found = replace(found, video=None, clips=replace(found.clips, video_N=np.full(len(found), NOT_KNOWN, np.int64)))
    return replace(found, text=None) if text == "leave" else found


def _local(location: str) -> Path | None:
    if "://" not in location:
        return Path(location)
    filesystem, root = fsspec.core.url_to_fs(location)
    return Path(root) if "file" in filesystem.protocol else None


@dataclass
class _Mapping:
    """Mapped files and offsets, collected part by part."""

    maps: list[Floats] = field(default_factory=list)
    tables: list[Any] = field(default_factory=list)
    shapes: list[NDArray[np.int64]] = field(default_factory=list)  # M, T, C, video length, text length
    starts: dict[str, list[Numbers]] = field(default_factory=lambda: {_JOINTS: [], _VIDEO: [], _TEXT: []})
    map_numbers: list[Numbers] = field(default_factory=list)


def _mapped(folder: Path, split: str | None) -> MotionSet:
    dataset = Dataset(folder)
    found = _Mapping()
    for part, rows in dataset.parts(split):
        if len(rows):
            _map_part(folder, part, rows, dataset.part_index(part, list(_KNOWN)), found)
    if not found.tables:
        raise ShardError(f"no samples of split {split!r} at {folder}; `posecap.index` lists splits")
    return _set_of(found)


def _map_part(folder: Path, part: PartName, rows: NDArray[np.int64], index: Any, found: _Mapping) -> None:
    path = folder / columns_path(part)
    try:
        base = map_columns(path)
    except FileNotFoundError as error:
        raise ShardError(f"{path} is missing; read the dataset as 'tar', or build it again") from error
    keys: list[str] = []
    places: dict[str, list[Numbers]] = {_JOINTS: [], _VIDEO: [], _TEXT: []}
    shapes: list[tuple[int, ...]] = []
    for _, batch in read_columns(base):
        keys += batch.keys
        for name, starts in places.items():
            arrays = [batch.array(name, row) for row in range(batch.rows)]
            starts.append(_starts(base, arrays, path))
            if name == _JOINTS:
                shapes += [array.shape[:3] for array in arrays]
            elif name == _VIDEO:
                widths = [len(array) for array in arrays]
            else:
                lengths = [(array.shape[0], array.shape[1], wide) for array, wide in zip(arrays, widths, strict=True)]
                shapes[-batch.rows :] = [
                    (*shape, *more) for shape, more in zip(shapes[-batch.rows :], lengths, strict=True)
                ]
    if keys != index["key"].to_pylist():
        raise ShardError(f"{path} and the part's index hold other samples: run `posecap verify`")
    found.map_numbers.append(np.full(len(rows), len(found.maps), np.int64))
    found.maps.append(np.asarray(base)[: base.nbytes // 4 * 4].view(np.float32))
    found.tables.append(index.take(rows))
    found.shapes.append(np.array(shapes, np.int64)[rows])
    for name, starts in places.items():
        found.starts[name].append(np.concatenate(starts)[rows])


def _starts(base: NDArray[np.uint8], arrays: list[NDArray[np.float32]], path: Path) -> Numbers:
    """Where each array begins in the mapped file, in floats. The arrays of a batch follow each other without gaps."""
    sizes = np.array([array.size for array in arrays], np.int64)
    if not sizes.any():
        return np.zeros(len(arrays), np.int64)
    first = arrays[int(np.argmax(sizes > 0))]
    begin = first.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    if begin % 4:
        raise ShardError(f"{path}: floats do not lie at a multiple of 4 bytes; posecap writes them so")
    return np.asarray(begin // 4 + np.cumsum(sizes) - sizes, np.int64)


def _set_of(found: _Mapping) -> MotionSet:
    table = pa.concat_tables(found.tables).combine_chunks()
    people, frames, joints, captions, wide, wide_video = np.concatenate(found.shapes).T
    map_N = np.concatenate(found.map_numbers)
    layouts, layout_N = np.unique(np.array(table["layout"].to_pylist()), return_inverse=True)
    kinds, array_N = np.unique(map_N * len(layouts) + layout_N, return_inverse=True)
    arrays = tuple(JointArray(found.maps[kind // len(layouts)], str(layouts[kind % len(layouts)])) for kind in kinds)
    for layout in {array.layout for array in arrays}:
        _check_joints(JointArray(np.zeros(0, np.float32), layout), joints[layouts[layout_N] == layout])
    starts = {name: np.concatenate(parts) for name, parts in found.starts.items()}
    classes, label_N = _numbered(table["label"])
    sentences, caption_K = _sentences(table["captions"], captions)
    with_video = np.flatnonzero(wide_video > 0)
    video_N = np.full(len(table), NOT_KNOWN, np.int64)
    video_N[with_video] = np.arange(len(with_video))
    return MotionSet(
        arrays=arrays,
        clips=ClipTable(
            key_N=np.array(table["key"].to_pylist()),
            array_N=array_N.astype(np.int64),
            start_N=starts[_JOINTS],
            people_N=people,
            frames_N=frames,
            fps_N=_reals(table["fps"]),
            width_N=_reals(table["width"]),
            height_N=_reals(table["height"]),
            split_N=np.array(table["split"].to_pylist()),
            subject_N=np.full(len(table), NOT_KNOWN, np.int64),
            camera_N=np.full(len(table), NOT_KNOWN, np.int64),
            label_N=label_N,
            caption_first_N=np.cumsum(captions) - captions,
            caption_count_N=captions,
            video_N=video_N,
        ),
        classes=classes,
        sentences=sentences,
        caption_K=caption_K,
        video=_store(found.maps, map_N[with_video], starts[_VIDEO][with_video], wide_video[with_video]),
        text=_texts(found.maps, map_N, starts[_TEXT], captions, wide, caption_K),
    )


def _check_joints(array: JointArray, joints_N: Numbers) -> None:
    wrong = np.unique(joints_N[joints_N * 3 != array.joint_floats])
    if wrong.size:
        raise ShardError(f"samples of layout {array.layout!r} have {wrong.tolist()} joints: run `posecap verify`")


def _reals(column: Any) -> Floats:
    return np.nan_to_num(np.array(column.to_pylist(), np.float32))


def _numbered(column: Any) -> tuple[tuple[str, ...], Numbers]:
    """Class names, sorted, and each clip's number of one; -1 without a label."""
    labels = column.to_pylist()
    classes = tuple(sorted({label for label in labels if label is not None}))
    number = {name: at for at, name in enumerate(classes)}
    return classes, np.array([NOT_KNOWN if label is None else number[label] for label in labels], np.int64)


def _sentences(column: Any, captions_N: Numbers) -> tuple[tuple[str, ...], Numbers]:
    """The different sentences in order of appearance, and the number of one for each caption of each clip."""
    if (np.array([len(texts or ()) for texts in column.to_pylist()], np.int64) != captions_N).any():
        raise ShardError("index and columns disagree on captions: run `posecap verify`")
    texts = column.combine_chunks().flatten() if isinstance(column, pa.ChunkedArray) else column.flatten()
    encoded = (texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts).dictionary_encode()
    return tuple(encoded.dictionary.to_pylist()), np.asarray(encoded.indices, np.int64)


def _store(maps: list[Floats], map_R: Numbers, start_R: Numbers, width_R: Numbers) -> Vectors | None:
    """Vectors in mapped files, or None where there are none.

    Raises:
        ShardError: they differ in length, so that no network takes them all.
    """
    widths = np.unique(width_R)
    if len(widths) > 1:
        raise ShardError(f"vectors of lengths {widths.tolist()} in one dataset: choose one split, or leave them out")
    return Vectors(tuple(maps), map_R, start_R, int(widths[0])) if len(widths) and widths[0] else None


def _texts(
    maps: list[Floats], map_N: Numbers, start_N: Numbers, count_N: Numbers, width_N: Numbers, caption_K: Numbers
) -> Vectors | None:
    """The vector of each sentence, from where it appears first."""
    clip_K = np.repeat(np.arange(len(count_N)), count_N)
    number_K = np.arange(len(clip_K)) - np.repeat(np.cumsum(count_N) - count_N, count_N)
    _, first = np.unique(caption_K, return_index=True)
    clip = clip_K[first]
    return _store(maps, map_N[clip], start_N[clip] + number_K[first] * width_N[clip], width_N[clip])


def _streamed(location: str | os.PathLike[str], split: str | None) -> MotionSet:
    with_video: list[NDArray[np.float32]] = []
    vector_of: dict[str, NDArray[np.float32]] = {}
    rows: list[int] = []

    def clips() -> Iterator[Clip]:
        for sample in open_dataset(location, split=split, seed=None, rank=0, world_size=1):
            facts = sample["facts"]
            rows.append(len(with_video) if len(sample["video"]) else NOT_KNOWN)
            with_video.extend([sample["video"].numpy()] if len(sample["video"]) else [])
            for sentence, vector in zip(sample["captions"], sample["text"].numpy(), strict=True):
                vector_of.setdefault(sentence, vector)
            yield Clip(
                key=sample["key"],
                joints_MTJC=sample["joints"].numpy(),
                layout=facts["layout"],
                fps=facts["fps"],
                width=facts["width"],
                height=facts["height"],
                label=facts["label"],
                captions=tuple(sample["captions"]),
                split=facts["split"],
            )

    motions = from_clips(clips())
    clips_as_known = replace(motions.clips, video_N=np.array(rows, np.int64))
    text = [vector_of[sentence] for sentence in motions.sentences]
    return replace(
        motions, clips=clips_as_known, video=_stacked(with_video), text=_stacked(text if all(map(len, text)) else [])
    )


def _stacked(rows: list[NDArray[np.float32]]) -> Vectors | None:
    widths = sorted({len(row) for row in rows})
    if len(widths) > 1:
        raise ShardError(f"vectors of lengths {widths} in one dataset: choose one split, or leave them out")
    return vectors(np.stack(rows)) if rows else None
