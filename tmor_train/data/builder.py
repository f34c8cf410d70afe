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
    labels = {clip.label for clip in kept if clip.label is not None}
    names = tuple(sorted(labels) if classes is None else classes)
    if not labels <= set(names):
        raise ValueError(f"labels that are no class: {', '.join(sorted(labels - set(names)))}")
    kinds = sorted({(clip.layout, clip.joints_MTJC.shape[3]) for clip in kept})
    of_kind = [[clip for clip in kept if (clip.layout, clip.joints_MTJC.shape[3]) == kind] for kind in kinds]
    arrays = tuple(
        JointArray(np.concatenate([clip.joints_MTJC.reshape(-1) for clip in same]), layout, 3 if floats == 4 else 2)
        for (layout, floats), same in zip(kinds, of_kind, strict=True)
    )
    place = {}
    for array, same in enumerate(of_kind):
        starts = np.cumsum([0, *(clip.joints_MTJC.size for clip in same)]).tolist()
        place.update({clip.key: (array, start) for clip, start in zip(same, starts, strict=False)})
    number = {sentence: at for at, sentence in enumerate(dict.fromkeys(s for clip in kept for s in clip.captions))}
    counts = np.array([len(clip.captions) for clip in kept], np.int64)
    return MotionSet(
        arrays=arrays,
        clips=_table(kept, place, {name: at for at, name in enumerate(names)}, counts),
        classes=names,
        sentences=tuple(number),
        caption_K=np.array([number[s] for clip in kept for s in clip.captions], np.int64),
    )


def _table(
    clips: list[Clip], place: dict[str, tuple[int, int]], label: dict[str, int], captions_N: Numbers
) -> ClipTable:
    def whole(values: Iterable[int]) -> Numbers:
        return np.fromiter(values, np.int64, len(clips))

    def real(values: Iterable[float]) -> Floats:
        return np.fromiter(values, np.float32, len(clips))

    return ClipTable(
        key_N=np.array([clip.key for clip in clips]),
        array_N=whole(place[clip.key][0] for clip in clips),
        start_N=whole(place[clip.key][1] for clip in clips),
        people_N=whole(clip.joints_MTJC.shape[0] for clip in clips),
        frames_N=whole(clip.joints_MTJC.shape[1] for clip in clips),
        fps_N=real(clip.fps for clip in clips),
        width_N=real(clip.width for clip in clips),
        height_N=real(clip.height for clip in clips),
        split_N=np.array([clip.split for clip in clips]),
        subject_N=whole(clip.subject for clip in clips),
        camera_N=whole(clip.camera for clip in clips),
        label_N=whole(NOT_KNOWN if clip.label is None else label[clip.label] for clip in clips),
        caption_first_N=np.cumsum(captions_N) - captions_N,
        caption_count_N=captions_N,
        video_N=np.full(len(clips), NOT_KNOWN, np.int64),
    )


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
