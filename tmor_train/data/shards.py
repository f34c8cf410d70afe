"""Reads posecap datasets as motion sets: memory-mapped from local columns files, or tars read once from any URL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posecap.files import map_file
from posecap.shards import Dataset, ShardError
from posecap.shards.extra import MemberName
from posecap.shards.extra_fields import ExtraFields
from posecap.shards.paths import columns_path
from posecap.shards.serialization import read_columns
from posecap.stream import open_dataset
from posecap.types import Caption, PartName
from tmor_train.data.dataset import (
    NOT_KNOWN,
    Clip,
    ClipTable,
    Floats,
    JointArray,
    MotionSet,
    Numbers,
    Vectors,
    from_clips,
    vectors,
)
from tmor_train.data.provenance import record_parts

# Columns of a part's index.
_KNOWN = ("key", "split", "fps", "width", "height", "layout", "label", "captions", "caption_origins")
_WORDS = pa.list_(pa.field("item", pa.string(), nullable=False))
_ARRAYS = ("joints", "video", "text")  # arrays of a columns file


def read_shards(
    location: str | os.PathLike[str],
    *,
    split: str | None = None,
    read: Literal["auto", "columns", "tar"] = "auto",
    video: str = "read",
    text: str = "read",
    captions: Sequence[str] = (),
) -> MotionSet:
    """The samples of a posecap dataset as clips in pixels, without those that were removed from it.

    Classes are the labels that occur, sorted. Subjects and cameras are not known. A set has text vectors if its
    captions have them.

    Args:
        location: the dataset's folder, or for ``tar`` any URL that fsspec can read.
        split: name of one split, or None for all.
        read: ``columns`` maps the columns files of a folder into memory, so that joints and vectors are read only when
            gathered; ``tar`` reads every sample into memory; ``auto`` reads columns from a folder and tars from a URL.
        video, text: vectors of videos and of captions: ``read`` reads the samples' own, ``leave`` none, and the name of
            an extra member, as ``text.minilm``, those of it (:mod:`posecap.shards.extra`), without clips that have
            none.
        captions: origins of the captions that are read, as for ``posecap.open``; none reads the samples' own.

    Raises:
        ShardError: there is no dataset, it has no samples of that split, or no such member, a part is damaged, vectors
            that are read differ in length, or ``columns`` of a URL.
        ValueError: ``read`` is another word, or ``video`` or ``text`` names a member of another kind.
    """
    if read not in ("auto", "columns", "tar"):
        raise ValueError(f"read is 'auto', 'columns' or 'tar', not {read!r}")
    folder = _local(os.fspath(location))
    if read == "columns" and folder is None:
        raise ShardError(f"{location} is not on a local disk, so its columns cannot be mapped; read it as 'tar'")
    for kind, chosen in (("video", video), ("text", text)):
        if chosen not in ("read", "leave") and not chosen.startswith(f"{kind}."):
            raise ValueError(f"{kind} is 'read', 'leave' or the name of a member, as '{kind}.NAME', not {chosen!r}")
    wanted = Wanted(video, text, tuple(captions) or None)
    return _streamed(location, split, wanted) if folder is None or read == "tar" else _mapped(folder, split, wanted)


@dataclass(frozen=True)
class Wanted:
    """Which vectors and captions :func:`read_shards` reads; ``captions`` None for the samples' own."""

    video: str
    text: str
    captions: tuple[str, ...] | None

    @property
    def left(self) -> set[str]:
        """Vectors that are left out before they are read: of several lengths they cannot be read, and leaving them out
        is the remedy."""
        return {name for name, how in (("video", self.video), ("text", self.text)) if how == "leave"}

    @property
    def members(self) -> list[str]:
        """Extra members that are read."""
        return [name for name in (self.video, self.text) if "." in name]


def _local(location: str) -> Path | None:
    """The folder of a path or ``file://`` URL; None for other URLs."""
    if "://" not in location:
        return Path(location)
    filesystem, root = fsspec.core.url_to_fs(location)
    return Path(root) if "file" in filesystem.protocol else None


@dataclass(frozen=True)
class _Part:
    """A part of the dataset: its mapped columns file and, for each of its N samples, where it lies in it.

    ``values`` is the whole file as float32. ``table`` is the rows of the part's index. ``shape_N6`` holds people,
    frames, joints, captions, and the lengths of a caption's vector and of the video's vector (0: none); ``start_N3``
    the indices of ``values`` at which joints, video vector and caption vectors begin.
    """

    values: Floats
    table: Any
    shape_N6: Numbers
    start_N3: Numbers
    video: _Member | None = None
    text: _Member | None = None
    captions: tuple[list[list[str]], list[list[int]]] | None = None
    """Where captions are chosen: those of each sample, and which rows of the caption vectors are theirs."""


@dataclass(frozen=True)
class _Member:
    """Vectors of a part's samples in an extra member: ``values`` is its file as float32, ``start_N`` the indices of it
    at which those of each sample begin, ``width_N`` their lengths."""

    values: Floats
    start_N: Numbers
    width_N: Numbers


def _mapped(folder: Path, split: str | None, wanted: Wanted) -> MotionSet:
    """All samples of a folder, mapped; raises as :func:`read_shards`."""
    dataset = Dataset(folder)
    fields = [*wanted.members, *(["text"] if wanted.text == "read" else [])]
    extra = ExtraFields(dataset, fields, wanted.captions)
    parts = []
    for part, rows in extra.parts(dataset.parts(split)):
        mapped = _map_part(folder, part, rows, dataset.part_index(part, list(_KNOWN)))
        parts.append(_with_members(mapped, part, extra, wanted) if extra else mapped)
    if not parts:
        raise ShardError(f"no samples of split {split!r} at {folder}; `posecap.index` lists splits")
    record_parts(str(folder), split, read="columns")
    return _set_of(parts, wanted.left)


def _with_members(mapped: _Part, part: PartName, extra: ExtraFields, wanted: Wanted) -> _Part:
    """The part with the extra members and captions that are wanted."""
    read = {str(name): rows for name, rows in extra.rows_of(part).items()}
    keys, found = mapped.table["key"].to_pylist(), dict[str, _Member]()
    for kind, name in (("video", wanted.video), ("text", wanted.text)):
        if name in read:
            vectors_N = [read[name].vector(key) for key in keys]
            base = read[name].base
            first = base.__array_interface__["data"][0]
            starts = [vector.__array_interface__["data"][0] - first if vector.size else 0 for vector in vectors_N]
            widths = [vector.shape[-1] for vector in vectors_N]
            values = np.asarray(base)[: base.nbytes // 4 * 4].view(np.float32)
            found[kind] = _Member(values, np.array(starts, np.int64) // 4, np.array(widths, np.int64))
    texts, numbers = list[list[str]](), list[list[int]]()
    columns = (mapped.table[name].to_pylist() for name in ("key", "captions", "caption_origins"))
    for key, sentences, origins in zip(*columns, strict=True):
        captions = [Caption(text, origin) for text, origin in zip(sentences, origins, strict=True)]
        own = extra.own(captions)
        texts.append(extra.of(part, key, captions)["captions"] if extra.chooses else sentences)
        rows = read.get(wanted.text)
        numbers.append(own if rows is None else extra.text_rows(MemberName.of(wanted.text), rows, key, own))
    return replace(mapped, video=found.get("video"), text=found.get("text"), captions=(texts, numbers))


def _map_part(folder: Path, part: PartName, rows: NDArray[np.int64], index: Any) -> _Part:
    """Those ``rows`` of a part that are in the dataset; ``index`` is the part's. ShardError where its files are missing
    or disagree."""
    path = folder / columns_path(part)
    try:
        base = map_file(path)
    except FileNotFoundError as error:
        raise ShardError(f"{path} is missing; read the dataset as 'tar', or build it again") from error
    keys: list[str] = []
    shapes: list[tuple[int, ...]] = []
    starts: list[Numbers] = []
    for _, batch in read_columns(base):
        keys += batch.keys
        columns = [[batch.array(name, row) for row in range(batch.rows)] for name in _ARRAYS]
        starts.append(np.stack([_starts(base, arrays, path) for arrays in columns], 1))
        shapes += [
            (*joints.shape[:3], *text.shape[:2], len(video)) for joints, video, text in zip(*columns, strict=True)
        ]
    if keys != index["key"].to_pylist():
        raise ShardError(f"{path} and the part's index hold other samples: run `posecap verify`")
    # A plain view of the map, whose last bytes may not fill a float; no array of the file ends in them.
    values = np.asarray(base)[: base.nbytes // 4 * 4].view(np.float32)
    return _Part(values, index.take(rows), np.array(shapes, np.int64)[rows], np.concatenate(starts)[rows])


def _starts(base: NDArray[np.uint8], arrays: list[NDArray[np.float32]], path: Path) -> Numbers:
    """Where each array begins in the mapped file, in floats. The arrays are views of the map, and those of a batch
    follow each other without gaps, as Arrow stores a column of lists. ShardError where floats are not aligned."""
    sizes = np.array([array.size for array in arrays], np.int64)
    if not sizes.any():
        return np.zeros(len(arrays), np.int64)
    first = arrays[int(np.argmax(sizes > 0))]
    begin = first.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    if begin % 4:
        raise ShardError(f"{path}: floats do not lie at a multiple of 4 bytes; posecap writes them so")
    return np.asarray(begin // 4 + np.cumsum(sizes) - sizes, np.int64)


def _set_of(parts: list[_Part], left: set[str]) -> MotionSet:
    """The samples of mapped parts as one set, without the vectors named in ``left``; raises as :func:`read_shards`."""
    table, maps = pa.concat_tables([part.table for part in parts]), [part.values for part in parts]
    people, frames, joints, captions, text_width_N, video_width_N = np.concatenate([part.shape_N6 for part in parts]).T
    joints_start_N, video_start_N, text_start_N = np.concatenate([part.start_N3 for part in parts]).T
    map_N = np.repeat(np.arange(len(parts)), [len(part.table) for part in parts])
    sentences, caption_K = _sentences(table["captions"], captions)
    number_K = np.arange(len(caption_K)) - np.repeat(np.cumsum(captions) - captions, captions)
    if parts[0].captions is not None:
        chosen = [part.captions for part in parts if part.captions is not None]
        captions = np.array([len(texts) for of_part, _ in chosen for texts in of_part], np.int64)
        sentences, caption_K = _sentences(
            pa.chunked_array([pa.array(of_part, _WORDS) for of_part, _ in chosen]), captions
        )
        number_K = np.array([row for _, rows in chosen for of_sample in rows for row in of_sample], np.int64)
    text_map_N, video_map_N = map_N, map_N
    if parts[0].video is not None:
        video_map_N, video_start_N, video_width_N = _in_members(maps, [part.video for part in parts], map_N)
    if parts[0].text is not None:
        text_map_N, text_start_N, text_width_N = _in_members(maps, [part.text for part in parts], map_N)
    layouts, layout_N = np.unique(np.array(table["layout"].to_pylist()), return_inverse=True)
    # A number for each pair of a file and a layout in it.
    kinds, array_N = np.unique(map_N * len(layouts) + layout_N, return_inverse=True)
    arrays = tuple(JointArray(maps[kind // len(layouts)], str(layouts[kind % len(layouts)])) for kind in kinds)
    for layout in {array.layout for array in arrays}:
        _check_joints(JointArray(np.zeros(0, np.float32), layout), joints[layouts[layout_N] == layout])
    classes, label_N = _numbered(table["label"])
    with_video = np.flatnonzero((video_width_N > 0) & ("video" not in left))
    video_N = np.full(len(table), NOT_KNOWN, np.int64)
    video_N[with_video] = np.arange(len(with_video))
    return MotionSet(
        arrays=arrays,
        clips=ClipTable(
            key_N=np.array(table["key"].to_pylist()),
            array_N=array_N.astype(np.int64),
            start_N=joints_start_N,
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
        video=_store(maps, video_map_N[with_video], video_start_N[with_video], video_width_N[with_video]),
        text=None
        if "text" in left
        else _texts(maps, (text_map_N, text_start_N, text_width_N), captions, number_K, caption_K),
    )


def _in_members(maps: list[Floats], members: list[_Member | None], map_N: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Map, start and width of the vectors of each sample in an extra member, whose files are added to ``maps``."""
    there = [member for member in members if member is not None]
    first = len(maps)
    maps += [member.values for member in there]
    starts, widths = (np.concatenate([getattr(one, name) for one in there]) for name in ("start_N", "width_N"))
    return map_N + first, starts, widths


def _check_joints(array: JointArray, joints_N: Numbers) -> None:
    """Raises ShardError where samples of the array's layout have another number of joints than it."""
    wrong = np.unique(joints_N[joints_N * 3 != array.joint_floats])
    if wrong.size:
        raise ShardError(f"samples of layout {array.layout!r} have {wrong.tolist()} joints: run `posecap verify`")


def _reals(column: Any) -> Floats:
    """The numbers of a column, 0 where it has none, which a :class:`ClipTable` takes as unknown."""
    return np.nan_to_num(np.array(column.to_pylist(), np.float32))


def _numbered(column: Any) -> tuple[tuple[str, ...], Numbers]:
    """The sorted class names, and each clip's class index, -1 without a label."""
    labels = column.to_pylist()
    classes = tuple(sorted({label for label in labels if label is not None}))
    index_of = {name: index for index, name in enumerate(classes)}
    return classes, np.array([NOT_KNOWN if label is None else index_of[label] for label in labels], np.int64)


def _sentences(column: Any, captions_N: Numbers) -> tuple[tuple[str, ...], Numbers]:
    """The distinct sentences in order of appearance, and for each caption of each clip the index of its sentence;
    ShardError where the index has other numbers of captions than ``captions_N``."""
    if (np.array([len(texts or ()) for texts in column.to_pylist()], np.int64) != captions_N).any():
        raise ShardError("index and columns disagree on captions: run `posecap verify`")
    encoded = column.combine_chunks().flatten().dictionary_encode()
    return tuple(encoded.dictionary.to_pylist()), np.asarray(encoded.indices, np.int64)


def _store(maps: list[Floats], map_R: Numbers, start_R: Numbers, width_R: Numbers) -> Vectors | None:
    """The vectors that begin at ``start_R`` of the mapped files ``map_R``; None where there are none.

    Raises:
        ShardError: they differ in length.
    """
    widths = np.unique(width_R)
    if len(widths) > 1:
        raise ShardError(f"vectors of lengths {widths.tolist()} in one dataset: choose one split, or leave them out")
    return Vectors(tuple(maps), map_R, start_R, int(widths[0])) if len(widths) and widths[0] else None


def _texts(
    maps: list[Floats],
    places_N: tuple[Numbers, Numbers, Numbers],
    count_N: Numbers,
    number_K: Numbers,
    caption_K: Numbers,
) -> Vectors | None:
    """The vector of each sentence, from where it appears first.

    Args:
        places_N: map, start and width of the vectors of each clip.
        count_N: captions of each clip; ``number_K`` says of each caption which of its clip's vectors is its own.
    """
    map_N, start_N, width_N = places_N
    clip_K = np.repeat(np.arange(len(count_N)), count_N)
    _, first = np.unique(caption_K, return_index=True)
    clip = clip_K[first]
    return _store(maps, map_N[clip], start_N[clip] + number_K[first] * width_N[clip], width_N[clip])


def _streamed(location: str | os.PathLike[str], split: str | None, wanted: Wanted) -> MotionSet:
    """All samples of a dataset's tars, in memory."""
    left = wanted.left
    video, text = (name if "." in name else kind for kind, name in (("video", wanted.video), ("text", wanted.text)))
    fields = ["joints", "captions", "facts", *({video, text} - left)]
    with_video: list[NDArray[np.float32]] = []
    vector_of: dict[str, NDArray[np.float32]] = {}
    rows: list[int] = []

    def clips() -> Iterator[Clip]:
        known: dict[str, Any] = {"split": split, "seed": None, "rank": 0, "world_size": 1}
        for sample in open_dataset(location, fields=fields, captions=wanted.captions, **known):
            facts = sample["facts"]
            vector = [] if "video" in left else [one for one in [sample[video].numpy()] if len(one)]
            rows.append(len(with_video) if vector else NOT_KNOWN)
            with_video.extend(vector)
            if "text" not in left:
                for sentence, text_D in zip(sample["captions"], sample[text].numpy(), strict=True):
                    vector_of.setdefault(sentence, text_D)
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
    record_parts(os.fspath(location), split, read="tar")
    clips_with_videos = replace(motions.clips, video_N=np.array(rows, np.int64))
    of_sentences = [] if "text" in left else [vector_of[sentence] for sentence in motions.sentences]
    return replace(
        motions,
        clips=clips_with_videos,
        video=_stacked(with_video),
        text=_stacked(of_sentences if any(map(len, of_sentences)) else []),
    )


def _stacked(rows: list[NDArray[np.float32]]) -> Vectors | None:
    """Vectors of samples as rows; None where there are none, ShardError for several lengths."""
    widths = sorted({len(row) for row in rows})
    if len(widths) > 1:
        raise ShardError(f"vectors of lengths {widths} in one dataset: choose one split, or leave them out")
    return vectors(np.stack(rows)) if rows else None
