"""NTU RGB+D 60 and 120 as benchmarks of clips in 2D: COCO joints that PYSKL estimated by HRNet from the owners' videos.

A. Shahroudy et al., CVPR 2016; J. Liu et al., TPAMI 2019; H. Duan et al., "PYSKL", 2022. ``ntu60_hrnet.pkl`` and
``ntu120_hrnet.pkl`` are pickles of a dict: ``split`` has lists of names (``xsub_train``, ``xsub_val``, ...),
``annotations`` is a list with a dict for each clip: ``frame_dir`` (``S001C002P003R002A013``: setup, camera, person,
repetition, action), ``label`` from 0, ``img_shape`` (height, width), ``keypoint`` (M, T, 17, 2) in pixels and
``keypoint_score`` (M, T, 17). They are read by :mod:`posecap.weights.unpickle`, which executes nothing in them. A
clip's split is that of the file's lists; what they name ``val`` is what the benchmark tests on. Clips in neither list
of a protocol, and names in a list without an annotation, are left out, as by PYSKL. A joint at (0, 0) was not found.
Videos have 30 frames per second.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from posecap.weights.unpickle import ARRAY_NAMES, UnsafePickleError, unpickle
from tmor_train.benchmarks.base import Benchmark, Parts, check_for
from tmor_train.data import Clip, from_clips
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource, parsing
from tmor_train.data.provenance import record_file

_PAGE = "https://github.com/kennymckormick/pyskl/blob/main/tools/data/README.md"
# Bounds that the published files keep by far; only damaged or hostile ones exceed them.
MAX_FILE_BYTES = 8 << 30
MAX_CLIPS, MAX_PEOPLE, MAX_FRAMES, MAX_SIDE = 200_000, 8, 2_000, 100_000
_MAX_OPCODES_PER_CLIP = 200  # of the pickle; an annotation takes 50 to 80, depending on the pickle protocol
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")  # setup, camera, person, repetition, action


def read_annotations(path: Path) -> tuple[dict[str, list[str]], list[dict[Any, Any]]]:
    """The clips' names of each split (``xsub_train``, ...), and the clips' annotations as the file has them, unchecked.

    Raises:
        MissingFilesError: the file is not there.
        DamagedFileError: it is not as published, or holds objects other than arrays of numbers and plain values.
    """
    if not path.is_file():
        raise _source(path.name).missing(path)
    size = path.stat().st_size
    if not 0 < size <= MAX_FILE_BYTES:
        raise DamagedFileError(f"{path} has {size} bytes, expected 1 to {MAX_FILE_BYTES}")
    with (
        parsing(path, "annotation file of PYSKL", UnsafePickleError),
        path.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        content = unpickle(
            cast(BinaryIO, mapped),
            names=ARRAY_NAMES,
            max_opcodes=MAX_CLIPS * _MAX_OPCODES_PER_CLIP,
            max_copied_bytes=4 * size,  # arrays are copied out of the file once; the rest is for its lists and dicts
        )
    record_file(path)
    if not isinstance(content, dict) or not isinstance(content.get("split"), dict):
        raise DamagedFileError(f"{path} is no annotation file of PYSKL: it is not a dict with a dict 'split'")
    split, annotations = content["split"], content.get("annotations")
    lists = all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in split.values())
    if not lists or not isinstance(annotations, list) or len(annotations) > MAX_CLIPS:
        raise DamagedFileError(
            f"{path}: 'split' does not hold lists of names, or 'annotations' is not a list of at most {MAX_CLIPS}"
        )
    return split, annotations


def _source(file: str) -> DatasetSource:
    return DatasetSource("NTU RGB+D", _PAGE, f"the 2D skeletons {file}")


def clip_of(annotation: Any, *, classes: tuple[str, ...], where: str) -> Clip:
    """An annotation as a clip in the layout ``coco17``, x and y in pixels.

    Its split is the default of :class:`~tmor_train.data.Clip`; the caller replaces it.

    Args:
        annotation: an element of the second result of :func:`read_annotations`; it may be anything.
        classes: names of the classes by index.
        where: the file and the entry in it, for messages.

    Raises:
        DamagedFileError: it is not as published.
    """
    with parsing(where, "annotation of PYSKL"):
        name, label = annotation["frame_dir"], int(annotation["label"])
        height, width = (float(side) for side in annotation["img_shape"])
        xy_MTJ2, score_MTJ = annotation["keypoint"], annotation["keypoint_score"]
        match = _NAME.fullmatch(name)
    if match is None or label != int(match[5]) - 1 or not 0 <= label < len(classes):
        raise DamagedFileError(f"{where}: {name!r} with the label {label} is not a clip of the {len(classes)} classes")
    arrays = isinstance(xy_MTJ2, np.ndarray) and isinstance(score_MTJ, np.ndarray)
    if not arrays or xy_MTJ2.dtype.kind != "f" or score_MTJ.dtype.kind != "f":
        raise DamagedFileError(f"{where}: 'keypoint' or 'keypoint_score' of {name} is not an array of floats")
    shape = xy_MTJ2.shape
    if len(shape) != 4 or shape[2:] != (17, 2) or score_MTJ.shape != shape[:3]:
        raise DamagedFileError(
            f"{where}: joints {shape} and scores {score_MTJ.shape} of {name}, expected (M, T, 17, 2) and (M, T, 17)"
        )
    sides = 0 < width < MAX_SIDE and 0 < height < MAX_SIDE
    if not 0 < shape[0] <= MAX_PEOPLE or not 0 < shape[1] <= MAX_FRAMES or not sides:
        raise DamagedFileError(
            f"{where}: {name} has joints {shape} in a picture of {width:g} x {height:g}, expected 1 to {MAX_PEOPLE} "
            f"people, 1 to {MAX_FRAMES} frames and sides below {MAX_SIDE:,} pixels"
        )
    xy = np.asarray(xy_MTJ2, np.float32)
    # HRNet's scores are heights of a heat map and may fall below 0, which means as much as 0: nothing was found.
    score = np.where((xy != 0).any(-1), np.asarray(score_MTJ, np.float32).clip(0), 0)
    joints = np.concatenate([xy, score[..., None]], -1, dtype=np.float32)
    if not np.isfinite(joints).all():
        raise DamagedFileError(f"{where}: a joint or score of {name} is NaN or infinite")
    return Clip(
        key=name,
        joints_MTJC=joints,
        layout="coco17",
        fps=30.0,
        width=width,
        height=height,
        label=classes[label],
        subject=int(match[3]),
        camera=int(match[2]),
    )


def _benchmark(count: int, protocols: tuple[str, ...], clips: int) -> Benchmark:
    """NTU RGB+D of ``count`` classes; the two sets differ in nothing else."""
    file = f"ntu{count}_hrnet.pkl"
    classes = tuple(f"A{number:03d}" for number in range(1, count + 1))

    def read(folder: Path, protocol: str) -> Parts:
        """As :attr:`Benchmark.read`."""
        path = folder / file
        split, annotations = read_annotations(path)
        names = [split.get(f"{protocol}_{part}", []) for part in ("train", "val")]
        if not set(names[0]).isdisjoint(names[1]):
            raise DamagedFileError(f"{path}: its splits {protocol}_train and {protocol}_val have clips in common")
        split_of = {name: part for part, listed in zip(("train", "test"), names, strict=True) for name in listed}

        def clips_of_protocol() -> Iterator[Clip]:
            for number in range(len(annotations)):
                # An annotation is released as soon as it is a clip; both at once would need twice the memory.
                entry, annotations[number] = annotations[number], {}
                clip = clip_of(entry, classes=classes, where=f"{path}, annotation {number}")
                if clip.key in split_of:
                    yield replace(clip, split=split_of[clip.key])

        clips = list(clips_of_protocol())
        keys = {clip.key for clip in clips}
        if len(keys) < len(clips):
            raise DamagedFileError(f"{path} has {len(clips) - len(keys)} clips more than once")
        if any(keys.isdisjoint(listed) for listed in names):
            raise DamagedFileError(f"{path} has no clips of {protocol}_train or of {protocol}_val")
        return Parts.by_split(from_clips(clips, classes=classes))

    return Benchmark(
        name=f"ntu{count}",
        about=f"NTU RGB+D {count}, actions of one or two people in 2D (HRNet, PYSKL)",
        protocols=protocols,
        clips=clips,
        classes=count,
        missing=check_for(_source(file), file),
        read=read,
    )


NTU60 = _benchmark(60, ("xsub", "xview"), 56_880)
NTU120 = _benchmark(120, ("xsub", "xset"), 114_480)
