"""Clips of skeletons as training data: one clip (:class:`Clip`), many of them (:class:`MotionSet`), joints and vectors
in flat arrays and metadata in a table; sets of clips in memory and of other sets; and the conversion of joints to
another layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posecap.joints import LAYOUTS, LayoutError, convert

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


def slices(values: Floats, start: Numbers, width: int) -> Floats:
    """``values[s : s + width]`` for every s of ``start``: (*start.shape, width).

    Args:
        values: (size,) float32, contiguous; may be mapped from a file, of which only these slices are read.
        start: int64 of any shape, indices of ``values``.
        width: number of values of each slice.

    Raises:
        IndexError: a slice is out of bounds.
    """
    if start.size == 0 or width == 0:
        return np.zeros((*start.shape, width), np.float32)
    if start.min() < 0 or start.max() + width > len(values):
        raise IndexError(f"slices of {width} values are out of bounds of an array of {len(values)}")
    # All slices as overlapping rows, each a float32 (4 bytes) after the one before. A fancy index copies those
    # requested and releases the GIL; np.take would first copy all rows.
    rows = np.ndarray((len(values) - width + 1, width), np.float32, buffer=values, strides=(4, 4))
    taken: Floats = rows[start]
    return taken


@dataclass(frozen=True, eq=False)
class Vectors:
    """R vectors of length ``width`` that lie in several flat arrays, which may be mapped from files.

    Vector r is ``maps[map_R[r]][start_R[r] : start_R[r] + width]``; ``map_R`` and ``start_R`` are int64 (R,).
    """

    maps: tuple[Floats, ...]
    map_R: Numbers
    start_R: Numbers
    width: int

    def __len__(self) -> int:
        return len(self.start_R)

    def rows(self, index: Numbers) -> Floats:
        """The vectors of the given indices (P,) int64, copied: (P, width) float32; index -1 gives zeros.

        Raises:
            IndexError: an index is R or more.
        """
        known = index >= 0
        if not known.all():
            taken = np.zeros((len(index), self.width), np.float32)
            if known.any():
                taken[known] = self.rows(index[known])
            return taken
        if len(self.maps) == 1:
            return slices(self.maps[0], self.start_R[index], self.width)
        taken = np.empty((len(index), self.width), np.float32)
        start, maps = self.start_R[index], self.map_R[index]
        for number in np.flatnonzero(np.bincount(maps)).tolist():
            rows_of_map = np.flatnonzero(maps == number)
            taken[rows_of_map] = slices(self.maps[number], start[rows_of_map], self.width)
        return taken

    def select(self, index: Numbers) -> Vectors:
        """The vectors of the given indices, in that order, without copying values."""
        return Vectors(self.maps, self.map_R[index], self.start_R[index], self.width)


def vectors(values_RD: Floats) -> Vectors:
    """The rows of a matrix (R, D) as :class:`Vectors`, copied unless they are contiguous float32."""
    rows, width = values_RD.shape
    flat = np.ascontiguousarray(values_RD, np.float32).reshape(-1)
    return Vectors((flat,), np.zeros(rows, np.int64), np.arange(rows, dtype=np.int64) * width, width)


def concat_vectors(stores: Sequence[Vectors]) -> Vectors:
    """The vectors of all ``stores``, those of the first one first; no value is copied.

    Raises:
        ValueError: there is no store, or their vectors differ in length.
    """
    widths = {store.width for store in stores}
    if len(widths) != 1:
        raise ValueError(f"vectors of lengths {sorted(widths)} do not fit one set; embed all of them with one model")
    maps = tuple(values for store in stores for values in store.maps)
    first = np.cumsum([0, *(len(store.maps) for store in stores[:-1])])
    return Vectors(
        maps,
        np.concatenate([store.map_R + offset for store, offset in zip(stores, first, strict=True)]),
        np.concatenate([store.start_R for store in stores]),
        widths.pop(),
    )


NOT_KNOWN = -1
"""Value of a subject, camera, class index or row of vectors that is not known."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A stretch of video as the skeletons of the people in it, with its labels.

    ``key`` names the clip in its set. ``joints_MTJC`` float32 is people x frames x joints x (x, y, score) or (x, y, z,
    score); the joints are those of ``layout`` (:data:`posecap.joints.LAYOUTS`). (x, y) are pixels of a picture of
    ``width`` x ``height`` pixels, y down. (x, y, z) are metres in camera axes: x to the right, y down, z away from the
    camera; ``width`` and ``height`` are not used. A joint was seen where its score is above 0; loaders use scores for
    nothing else. There is at least one person and one frame.

    ``fps`` is in frames per second, 0 where unknown. ``label`` is the name of the clip's class, None
    where it has none; ``captions`` are sentences that describe it. ``split`` is any name. ``subject`` and ``camera``
    are the numbers its publisher gives, :data:`NOT_KNOWN` where there are none.

    Raises:
        posecap.joints.LayoutError: joints do not fit the layout, are not finite float32, or are in pixels of a picture
            without size.
    """

    key: str
    joints_MTJC: Floats = field(repr=False)
    layout: str
    fps: float = 0.0
    width: float = 0.0
    height: float = 0.0
    label: str | None = None
    captions: tuple[str, ...] = ()
    split: str = "train"
    subject: int = NOT_KNOWN
    camera: int = NOT_KNOWN

    def __post_init__(self) -> None:
        shape = self.joints_MTJC.shape
        joints = len(LAYOUTS[self.layout].names) if self.layout in LAYOUTS else None
        if len(shape) != 4 or shape[2] != joints or shape[3] not in (3, 4) or not shape[0] or not shape[1]:
            raise LayoutError(f"clip {self.key}: joints {shape} are not (M, T, {joints}, 3 or 4) of {self.layout!r}")
        if shape[3] == 3 and not (self.width > 0 and self.height > 0):
            raise LayoutError(f"clip {self.key}: joints in pixels need the width and height of their picture")
        if self.joints_MTJC.dtype != np.float32 or not np.isfinite(self.joints_MTJC).all():
            raise LayoutError(f"clip {self.key}: joints must be finite float32")


@lru_cache(maxsize=64)  # each layout of posecap to each, 49
def _weights(source: str, target: str) -> Tensor:
    """Weight of each source joint in each target joint, (J, K); a column of zeros where the source lacks it."""
    joints = len(LAYOUTS[source].names) if source in LAYOUTS else 0
    # Converting a skeleton with 1 at one joint and 0 elsewhere gives the weights of that joint.
    probes = np.zeros((joints, joints, 3), np.float32)
    probes[..., 2] = 1
    probes[np.arange(joints), np.arange(joints), 0] = 1
    return torch.from_numpy(convert(probes, source=source, target=target)[..., 0].copy())


def relayout(joints: Tensor, seen: Tensor, *, source: str, target: str) -> tuple[Tensor, Tensor]:
    """Convert a batch of skeletons to another layout by the exact maps of :mod:`posecap.joints`.

    A joint that the source lacks is not seen, and neither is a mean of joints of which one is not seen; no joint is
    invented. Coordinates of joints that are not seen are undefined.

    Args:
        joints: (..., J) float, one coordinate of each of the J joints of ``source``, all finite; coordinates of one
            joint are converted independently, so they stand on leading axes.
        seen: (..., J) bool, which joints are seen.

    Returns:
        The same coordinate of each of the K joints of ``target``, (..., K), and which of these are seen, (..., K).

    Raises:
        posecap.joints.LayoutError: unknown layout, or no exact map between the two.
    """
    if source == target:
        return joints, seen
    weights_JK = _weights(source, target).to(joints)
    uses_JK = (weights_JK != 0).to(joints.dtype)
    needed_K = uses_JK.sum(0)
    there = seen.to(joints.dtype) @ uses_JK  # a product of floats is faster than one of integers; these are counts
    return joints @ weights_JK, (there > needed_K - 0.5) & (needed_K > 0)


@dataclass(frozen=True, eq=False)
class JointArray:
    """The joints of some clips one after another in one flat array, which may be mapped from a file.

    ``values`` is (size,) float32. Each clip is stored as (M, T, J, ``dimensions`` + 1), the score last, in one layout;
    ``dimensions`` counts coordinates.
    """

    values: Floats
    layout: str
    dimensions: Literal[2, 3] = 2

    @property
    def joint_floats(self) -> int:
        """Number of floats that one person takes in one frame."""
        return len(LAYOUTS[self.layout].names) * (self.dimensions + 1)


@dataclass(frozen=True, eq=False)
class ClipTable:
    """The metadata of N clips, a row per clip, each column (N,).

    A clip's joints begin at ``start_N`` (in floats) of the set's array ``array_N``, for ``people_N`` people and
    ``frames_N`` frames. ``label_N`` is its class index and ``video_N`` its row of the set's video vectors, -1 where it
    has none. Its captions are the ``caption_count_N`` entries of the set's ``caption_K`` from ``caption_first_N`` on.
    The other columns are the fields of :class:`Clip`.

    Raises:
        ValueError: columns differ in length.
    """

    key_N: NDArray[np.str_]
    array_N: Numbers
    start_N: Numbers
    people_N: Numbers
    frames_N: Numbers
    fps_N: Floats
    width_N: Floats
    height_N: Floats
    split_N: NDArray[np.str_]
    subject_N: Numbers
    camera_N: Numbers
    label_N: Numbers
    caption_first_N: Numbers
    caption_count_N: Numbers
    video_N: Numbers

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, f.name)) for f in fields(self)}
        if len(lengths) > 1:
            raise ValueError(f"columns of a clip table differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.key_N)

    def select(self, index: NDArray[Any]) -> ClipTable:
        """Some rows, by indices or by a mask."""
        return ClipTable(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, eq=False)
class MotionSet:
    """N clips whose joints lie in flat arrays; where these are mapped from files, joints are read only when gathered.

    ``clips`` is the clips' table. ``classes`` are the names of the classes by index. ``sentences`` are the distinct
    captions; ``caption_K`` int64 (K,) lists the captions of all clips as indices of ``sentences``. ``text`` holds a
    vector for each sentence and ``video`` one for each clip that has one (see ``ClipTable.video_N``); None where the
    set has no such vectors. Arrays may differ in layout and dimensions: :meth:`gather` converts to one layout.
    """

    arrays: tuple[JointArray, ...]
    clips: ClipTable
    classes: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    caption_K: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    video: Vectors | None = None
    text: Vectors | None = None

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def dimensions(self) -> Literal[2, 3]:
        """Number of coordinates that :meth:`gather` gives: 3 if any clip has three, else 2."""
        return 3 if any(array.dimensions == 3 for array in self.arrays) else 2

    @property
    def has_depth(self) -> NDArray[np.bool_]:
        """Which clips have three coordinates: (N,)."""
        deep = np.array([array.dimensions == 3 for array in self.arrays], np.bool_)
        found: NDArray[np.bool_] = deep[self.clips.array_N]
        return found

    def select(self, index: Sequence[int] | NDArray[Any]) -> MotionSet:
        """Some clips, by indices or by a mask, in that order. No joint is copied; classes and sentences stay as they
        are, also those that no clip has any more."""
        chosen = np.asarray(index)  # of an empty list: float64, which indexes nothing
        return replace(self, clips=self.clips.select(chosen if chosen.size else np.zeros(0, np.int64)))

    def split(self, *names: str) -> MotionSet:
        """The clips of some splits.

        Raises:
            KeyError: no clip is in one of them.
        """
        unknown = set(names) - set(self.clips.split_N.tolist())
        if unknown:
            raise KeyError(f"no split {', '.join(sorted(unknown))}; there are {', '.join(self.splits)}")
        return self.select(np.isin(self.clips.split_N, names))

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that occur, sorted."""
        return tuple(np.unique(self.clips.split_N).tolist())

    def clip(self, number: int) -> Clip:
        """The clip of index ``number``, with a copy of its joints."""
        row = self.clips.select(np.array([number]))
        array = self.arrays[int(row.array_N[0])]
        people, frames, label = (int(column[0]) for column in (row.people_N, row.frames_N, row.label_N))
        first, count = int(row.caption_first_N[0]), int(row.caption_count_N[0])
        start, size = int(row.start_N[0]), people * frames * array.joint_floats
        return Clip(
            key=str(row.key_N[0]),
            joints_MTJC=array.values[start : start + size].reshape(people, frames, -1, array.dimensions + 1).copy(),
            layout=array.layout,
            fps=float(row.fps_N[0]),
            width=float(row.width_N[0]),
            height=float(row.height_N[0]),
            label=self.classes[label] if label >= 0 else None,
            captions=tuple(self.sentences[s] for s in self.caption_K[first : first + count]),
            split=str(row.split_N[0]),
            subject=int(row.subject_N[0]),
            camera=int(row.camera_N[0]),
        )

    def gather(
        self, index_N: Numbers, *, frame_NT: Numbers, person_NM: Numbers, layout: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Some frames of some people of many clips, in one layout.

        Args:
            index_N: int64 indices of the clips.
            frame_NT: int64, for each clip the indices of its frames, -1 for an empty frame; the same for all its
                people.
            person_NM: int64, for each clip the indices of its people, -1 for an empty slot.
            layout: the layout of the result.

        Returns:
            joints (N, M, T, V, C) float32 in the clips' units, C being :attr:`dimensions`, and seen (N, M, T, V) bool.
            Coordinates of joints that are not seen are undefined; the third of a clip with two is 0. In memory C comes
            before M, T and V, so that each coordinate is contiguous.

        Raises:
            IndexError: a clip has no such frame or person.
            posecap.joints.LayoutError: a clip's layout has no exact map to ``layout``.
        """
        frames_N, people_N = self.clips.frames_N[index_N], self.clips.people_N[index_N]
        if (frame_NT.max(1, initial=-1) >= frames_N).any() or (person_NM.max(1, initial=-1) >= people_N).any():
            raise IndexError("a frame or person index is out of range of its clip")
        frame_NMT = person_NM[:, :, None] * frames_N[:, None, None] + frame_NT[:, None, :]
        absent = (person_NM < 0)[:, :, None] | (frame_NT < 0)[:, None, :]
        frame_NMT[absent] = 0  # any frame that is there; what it holds is not seen
        kind_N = self._kinds[self.clips.array_N[index_N]]
        kinds = np.unique(kind_N).tolist()
        if len(kinds) == 1 and self.arrays[kinds[0]].dimensions == self.dimensions:
            planes, seen = self._of_kind(kinds[0], index_N, frame_NMT, layout)
        else:
            shape = (*frame_NMT.shape, len(LAYOUTS[layout].names))
            planes = torch.zeros(shape[0], self.dimensions, *shape[1:])
            seen = torch.zeros(shape, dtype=torch.bool)
            for kind in kinds:
                rows = np.flatnonzero(kind_N == kind)
                some_planes, some_seen = self._of_kind(kind, index_N[rows], frame_NMT[rows], layout)
                planes[rows, : some_planes.shape[1]], seen[rows] = some_planes, some_seen
        if absent.any():
            seen &= torch.from_numpy(~absent)[..., None]
        return planes.permute(0, 2, 3, 4, 1), seen

    @cached_property
    def _kinds(self) -> Numbers:
        """For each array the index of the first one with the same layout and dimensions."""
        kinds = [(array.layout, array.dimensions) for array in self.arrays]
        return np.array([kinds.index(kind) for kind in kinds], np.int64)

    def _of_kind(
        self, kind: int, index_N: Numbers, frame_NMT: Numbers, layout: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Joints (N, C, M, T, V) and their mask (N, M, T, V) of clips whose arrays have one layout and dimensions."""
        array = self.arrays[kind]
        values = self._values(index_N, frame_NMT, array.joint_floats)
        values = values.reshape(*frame_NMT.shape, -1, array.dimensions + 1)
        planes = np.empty((len(values), array.dimensions, *values.shape[1:-1]), np.float32)
        for axis in range(array.dimensions):  # NumPy copies a plane twice as fast as torch permutes
            planes[:, axis] = values[..., axis]
        seen = torch.from_numpy(values[..., -1] > 0)
        return relayout(torch.from_numpy(planes), seen, source=array.layout, target=layout)

    def _values(self, index_N: Numbers, frame_NMT: Numbers, width: int) -> Floats:
        """The stored values of frames, ``width`` floats each: (N, M, T, width).

        ``frame_NMT`` counts frames through all of a clip's people: person * frames of the clip + frame.
        """
        clips, people, frames = frame_NMT.shape
        first_NMT, length = frame_NMT, width
        if (frame_NMT[..., 1:] - frame_NMT[..., :-1] == 1).all():  # consecutive frames are one slice
            first_NMT, length = frame_NMT[..., :1], width * frames
        start = self.clips.start_N[index_N][:, None, None] + first_NMT * width
        array_N = self.clips.array_N[index_N]
        if (array_N == array_N[:1]).all():
            values = slices(self.arrays[int(array_N[0])].values, start, length)
        else:
            values = np.empty((*start.shape, length), np.float32)
            for number in np.flatnonzero(np.bincount(array_N)).tolist():
                rows = np.flatnonzero(array_N == number)
                values[rows] = slices(self.arrays[number].values, start[rows], length)
        return values.reshape(clips, people, frames, width)


def from_clips(clips: Iterable[Clip], *, classes: Sequence[str] | None = None) -> MotionSet:
    """The set of some clips, in their order; their joints are copied. It has no vectors.

    Args:
        classes: names of the classes in the order of their indices; None takes the labels that occur, sorted.

    Raises:
        ValueError: there is no clip, two have the same key, or a label is not among ``classes``.
    """
    kept = list(clips)
    if not kept or len({clip.key for clip in kept}) < len(kept):
        different = len({clip.key for clip in kept})
        raise ValueError(f"{len(kept)} clips with {different} different keys; a set needs a clip, and no key twice")

    def integers(values: Iterable[int]) -> Numbers:
        return np.fromiter(values, np.int64, len(kept))

    def floats(values: Iterable[float]) -> Floats:
        return np.fromiter(values, np.float32, len(kept))

    labels = {clip.label for clip in kept if clip.label is not None}
    names = tuple(sorted(labels) if classes is None else classes)
    if not labels <= set(names):
        raise ValueError(f"labels that are not among the classes: {', '.join(sorted(labels - set(names)))}")
    kind_N = [(clip.layout, clip.joints_MTJC.shape[3]) for clip in kept]
    kinds = sorted(set(kind_N))
    array_N, size_N = integers(map(kinds.index, kind_N)), integers(clip.joints_MTJC.size for clip in kept)
    start_N, arrays = np.zeros_like(size_N), []
    for number, (layout, channels) in enumerate(kinds):
        of_kind = np.flatnonzero(array_N == number)
        start_N[of_kind] = np.cumsum(size_N[of_kind]) - size_N[of_kind]
        values = np.concatenate([kept[clip].joints_MTJC.reshape(-1) for clip in of_kind])
        arrays.append(JointArray(values, layout, 3 if channels == 4 else 2))
    sentences = {s: index for index, s in enumerate(dict.fromkeys(s for clip in kept for s in clip.captions))}
    class_index = {name: index for index, name in enumerate(names)}
    captions_N = integers(len(clip.captions) for clip in kept)
    table = ClipTable(
        key_N=np.array([clip.key for clip in kept]),
        array_N=array_N,
        start_N=start_N,
        people_N=integers(clip.joints_MTJC.shape[0] for clip in kept),
        frames_N=integers(clip.joints_MTJC.shape[1] for clip in kept),
        fps_N=floats(clip.fps for clip in kept),
        width_N=floats(clip.width for clip in kept),
        height_N=floats(clip.height for clip in kept),
        split_N=np.array([clip.split for clip in kept]),
        subject_N=integers(clip.subject for clip in kept),
        camera_N=integers(clip.camera for clip in kept),
        label_N=integers(NOT_KNOWN if clip.label is None else class_index[clip.label] for clip in kept),
        caption_first_N=np.cumsum(captions_N) - captions_N,
        caption_count_N=captions_N,
        video_N=np.full(len(kept), NOT_KNOWN, np.int64),
    )
    caption_K = np.array([sentences[s] for clip in kept for s in clip.captions], np.int64)
    return MotionSet(tuple(arrays), table, classes=names, sentences=tuple(sentences), caption_K=caption_K)


def combined(sets: Sequence[MotionSet]) -> MotionSet:
    """The clips of several sets as one, those of the first set first; no joint is copied.

    Classes and sentences are merged by name: one that occurs in two sets gets one index, in the order of their first
    occurrence. Video vectors are kept where a set has them. Text vectors are kept only if every set with sentences has
    them, else the result has none; a sentence of two sets has the vector of the first. Keys are not compared: two sets
    may have a clip of the same key.

    Raises:
        ValueError: there is no set, or vectors differ in length.
    """
    if not sets:
        raise ValueError("there are no motion sets to combine; give at least one")
    classes = tuple(dict.fromkeys(name for one in sets for name in one.classes))
    sentences = tuple(dict.fromkeys(sentence for one in sets for sentence in one.sentences))
    index_of = {sentence: index for index, sentence in enumerate(sentences)}
    caption_K = [np.array([index_of[s] for s in one.sentences], np.int64)[one.caption_K] for one in sets]
    videos = [one.video for one in sets if one.video is not None]
    return MotionSet(
        arrays=tuple(array for one in sets for array in one.arrays),
        clips=_one_table(sets, {name: index for index, name in enumerate(classes)}),
        classes=classes,
        sentences=sentences,
        caption_K=np.concatenate(caption_K),
        video=concat_vectors(videos) if videos else None,
        text=_text(sets, sentences),
    )


def _one_table(sets: Sequence[MotionSet], class_index: dict[str, int]) -> ClipTable:
    """The tables of all sets, their indices moved to the merged arrays, captions, video vectors and classes."""
    tables, arrays, captions, videos = [], 0, 0, 0
    for one in sets:
        table = one.clips
        labels = np.array([class_index[name] for name in one.classes] + [NOT_KNOWN], np.int64)
        tables.append(
            replace(
                table,
                array_N=table.array_N + arrays,
                caption_first_N=table.caption_first_N + captions,
                label_N=labels[table.label_N],  # -1 is the last entry, which is NOT_KNOWN
                video_N=np.where(table.video_N >= 0, table.video_N + videos, NOT_KNOWN),
            )
        )
        arrays, captions = arrays + len(one.arrays), captions + len(one.caption_K)
        videos += len(one.video) if one.video is not None else 0
    names = [f.name for f in fields(ClipTable)]
    return ClipTable(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


def _text(sets: Sequence[MotionSet], sentences: tuple[str, ...]) -> Vectors | None:
    """The vector of each sentence, from the first set that has it; None if a set with sentences has no vectors."""
    with_sentences = [one for one in sets if one.sentences]
    stores = [one.text for one in with_sentences if one.text is not None]
    if not stores or len(stores) < len(with_sentences):
        return None
    rows = {s: row for row, s in reversed(list(enumerate(s for one in with_sentences for s in one.sentences)))}
    return concat_vectors(stores).select(np.array([rows[s] for s in sentences], np.int64))
