"""Builds motion sets: from clips in memory, and by concatenating other motion sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

import numpy as np

from tmor_train.data.arrays import Floats, Numbers, Vectors, concat_vectors
from tmor_train.data.dataset import NOT_KNOWN, Clip, ClipTable, JointArray, MotionSet


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
