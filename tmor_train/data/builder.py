"""Motion sets from clips, and from other motion sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

import numpy as np

from tmor_train.data.arrays import Floats, Numbers, Vectors, concat_vectors
from tmor_train.data.dataset import NOT_KNOWN, Clip, ClipTable, JointArray, MotionSet


def from_clips(clips: Iterable[Clip], *, classes: Sequence[str] | None = None) -> MotionSet:
    """Clips in memory as a set.

    Args:
        classes: names that labels are numbered by; without them, the labels that occur, sorted.

    Raises:
        ValueError: no clip, a repeated key, or a label that is not among ``classes``.
    """
    kept = list(clips)
    if not kept or len({clip.key for clip in kept}) < len(kept):
        raise ValueError("a set of clips needs at least one clip, and each a key of its own")

    def whole(values: Iterable[int]) -> Numbers:
        return np.fromiter(values, np.int64, len(kept))

    def real(values: Iterable[float]) -> Floats:
        return np.fromiter(values, np.float32, len(kept))

    labels = {clip.label for clip in kept if clip.label is not None}
    names = tuple(sorted(labels) if classes is None else classes)
    if not labels <= set(names):
        raise ValueError(f"labels that are no class: {', '.join(sorted(labels - set(names)))}")
    kind_N = [(clip.layout, clip.joints_MTJC.shape[3]) for clip in kept]
    kinds = sorted(set(kind_N))
    array_N, size_N = whole(map(kinds.index, kind_N)), whole(clip.joints_MTJC.size for clip in kept)
    start_N, arrays = np.zeros_like(size_N), []
    for number, (layout, floats) in enumerate(kinds):
        here = np.flatnonzero(array_N == number)
        start_N[here] = np.cumsum(size_N[here]) - size_N[here]
        values = np.concatenate([kept[clip].joints_MTJC.reshape(-1) for clip in here])
        arrays.append(JointArray(values, layout, 3 if floats == 4 else 2))
    sentences = {s: at for at, s in enumerate(dict.fromkeys(s for clip in kept for s in clip.captions))}
    label = {name: at for at, name in enumerate(names)}
    captions_N = whole(len(clip.captions) for clip in kept)
    table = ClipTable(
        key_N=np.array([clip.key for clip in kept]),
        array_N=array_N,
        start_N=start_N,
        people_N=whole(clip.joints_MTJC.shape[0] for clip in kept),
        frames_N=whole(clip.joints_MTJC.shape[1] for clip in kept),
        fps_N=real(clip.fps for clip in kept),
        width_N=real(clip.width for clip in kept),
        height_N=real(clip.height for clip in kept),
        split_N=np.array([clip.split for clip in kept]),
        subject_N=whole(clip.subject for clip in kept),
        camera_N=whole(clip.camera for clip in kept),
        label_N=whole(NOT_KNOWN if clip.label is None else label[clip.label] for clip in kept),
        caption_first_N=np.cumsum(captions_N) - captions_N,
        caption_count_N=captions_N,
        video_N=np.full(len(kept), NOT_KNOWN, np.int64),
    )
    caption_K = np.array([sentences[s] for clip in kept for s in clip.captions], np.int64)
    return MotionSet(tuple(arrays), table, classes=names, sentences=tuple(sentences), caption_K=caption_K)


def combined(sets: Sequence[MotionSet]) -> MotionSet:
    """Concatenate several sets; no joint is copied.

    Classes and sentences are merged by name: one that is in two sets gets one number. Video vectors are kept where a
    set has them. Text vectors are kept where every set with sentences has them.

    Raises:
        ValueError: no set, or vectors of different lengths.
    """
    if not sets:
        raise ValueError("nothing to combine")
    classes = tuple(dict.fromkeys(name for one in sets for name in one.classes))
    sentences = tuple(dict.fromkeys(sentence for one in sets for sentence in one.sentences))
    number = {sentence: at for at, sentence in enumerate(sentences)}
    caption_K = [np.array([number[s] for s in one.sentences], np.int64)[one.caption_K] for one in sets]
    filmed = [one.video for one in sets if one.video is not None]
    return MotionSet(
        arrays=tuple(array for one in sets for array in one.arrays),
        clips=_one_table(sets, {name: at for at, name in enumerate(classes)}),
        classes=classes,
        sentences=sentences,
        caption_K=np.concatenate(caption_K),
        video=concat_vectors(filmed) if filmed else None,
        text=_text(sets, sentences),
    )


def _one_table(sets: Sequence[MotionSet], label: dict[str, int]) -> ClipTable:
    tables, arrays, captions, videos = [], 0, 0, 0
    for one in sets:
        table = one.clips
        labels = np.array([label[name] for name in one.classes] + [NOT_KNOWN], np.int64)
        tables.append(
            replace(
                table,
                array_N=table.array_N + arrays,
                caption_first_N=table.caption_first_N + captions,
                label_N=labels[table.label_N],  # index -1 is the last entry
                video_N=np.where(table.video_N >= 0, table.video_N + videos, NOT_KNOWN),
            )
        )
        arrays, captions = arrays + len(one.arrays), captions + len(one.caption_K)
        videos += len(one.video) if one.video is not None else 0
    names = [f.name for f in fields(ClipTable)]
    return ClipTable(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


def _text(sets: Sequence[MotionSet], sentences: tuple[str, ...]) -> Vectors | None:
    """The vector of each sentence, from the first set that has it."""
    speaking = [one for one in sets if one.sentences]
    stores = [one.text for one in speaking if one.text is not None]
    if not stores or len(stores) < len(speaking):
        return None
    rows = {s: at for at, s in reversed(list(enumerate(s for one in speaking for s in one.sentences)))}
    return concat_vectors(stores).select(np.array([rows[s] for s in sentences], np.int64))
