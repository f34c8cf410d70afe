"""The annotation pickle of pyskl and mmaction2, which their ``PoseDataset`` reads.

A dict with three items::

    annotations   a list with a dict for each clip:
        frame_dir        the clip's key
        label            number of its label in label_names, -1 for none
        img_shape        (height, width) of the source video in pixels, as displayed
        total_frames     T
        keypoint         (M, T, J, 2) float32, x and y in these pixels; zeros where a joint is not seen
        keypoint_score   (M, T, J) float32
    split         the keys of each split, by its name
    label_names   the dataset's labels, sorted; the peers pass it over

Nothing but dicts, lists, tuples, numbers, texts and arrays is in the file. The peers load it with Python's pickle,
which holds all of it in memory: about 12 bytes for each joint of each person and frame. Choose clips with ``split`` and
``where`` if that is too much. It is written clip by clip. It holds neither times nor vectors of videos and texts, so no
dataset can be made of it again.

The opcodes are written here rather than by :class:`pickle.Pickler`, which takes a list as a whole, and names a module
of NumPy 2 (``numpy._core``) that NumPy 1, with which the peers run, does not have.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from posecap.export import CHANGED, Clips, ExportError, picture_size

_PROTOCOL = 3
"""The first that has bytes; later ones refer to values by their number in the whole file, which would have to be
counted, and Python 3.7, with which pyskl runs, reads it."""
_RECONSTRUCT, _EMPTY, _FLOAT32 = b"h\x64", b"h\x65", b"h\x66"
"""What recalls (BINGET) from places 100 to 102 of the reader's memo the three values that each array begins with. The
values of :func:`_plain` use the first few places, again and again."""


def write(clips: Clips, file: BinaryIO) -> int:
    """Write the pickle; returns the number of clips.

    Raises:
        ExportError: clips have different layouts, a clip has no width and height, or the dataset changed
            meanwhile.
        ShardError, WhereError: as ``posecap.open``.
    """
    clips.one_layout("a pyskl file")
    names = clips.labels()
    numbers = {name: number for number, name in enumerate(names)}
    file.write(_preamble() + b"}" + _plain("annotations") + b"]")  # EMPTY_DICT, the key, EMPTY_LIST
    count = 0
    for sample in clips.samples(["joints", "facts"]):
        width, height = picture_size(sample)
        joints_MTJ3 = sample["joints"].numpy()
        annotation = {
            "frame_dir": sample["key"],
            "label": numbers.get(sample["facts"].get("label"), -1),
            "img_shape": (height, width),
            "total_frames": joints_MTJ3.shape[1],
            "keypoint": joints_MTJ3[..., :2],
            "keypoint_score": joints_MTJ3[..., 2],
        }
        file.write(b"}(")  # EMPTY_DICT, MARK
        for name, value in annotation.items():
            file.write(_plain(name))
            file.writelines(_array(value) if isinstance(value, np.ndarray) else [_plain(value)])
        file.write(b"ua")  # SETITEMS, APPEND
        count += 1
    file.write(b"s" + _plain("split") + b"}")  # SETITEM, the key, EMPTY_DICT
    listed = 0
    # Parts are ordered by split, so each split is met once.
    for split, rows in groupby(clips.index(["split", "key"]), itemgetter("split")):
        file.write(_plain(split) + b"]")
        for row in rows:
            file.write(_plain(row["key"]) + b"a")
            listed += 1
        file.write(b"s")
    if listed != count:
        raise ExportError(CHANGED)
    file.write(b"s" + _plain("label_names") + _plain(names) + b"s.")  # SETITEM twice, STOP
    return count


def _plain(value: Any) -> bytes:
    """The opcodes that push a number, a text, or a tuple or list of these: without the first (PROTO) and last (STOP).

    Only of lists with more than a hundred texts could they use the memo from place 100 on, and no array follows one.
    """
    return pickle.dumps(value, _PROTOCOL)[2:-1]


def _preamble() -> bytes:
    """PROTO, and the opcodes that put what arrays begin with into the memo: BINPUT, POP."""
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n"
    empty = b"cnumpy\nndarray\n" + _plain((0,)) + _plain(b"b") + b"\x87"  # the class, shape and code; TUPLE3
    values = (reconstruct, empty, _plain(np.dtype("<f4")))
    places = (_RECONSTRUCT, _EMPTY, _FLOAT32)
    put = (value + b"q" + place[1:] + b"0" for value, place in zip(values, places, strict=True))
    return b"\x80" + bytes([_PROTOCOL]) + b"".join(put)


def _array(values: NDArray[np.float32]) -> Iterator[bytes]:
    """The opcodes that push an array, as NumPy pickles it: REDUCE makes an empty one, and BUILD gives it its state of
    version, shape, dtype, Fortran order and bytes.

    A clip's joints have less than the 4 GiB that a length of four bytes (BINBYTES) can say
    (:data:`posecap.shards.paths.MAX_MEMBER_BYTES`).
    """
    content = values.astype("<f4", order="C").tobytes()
    yield _RECONSTRUCT + _EMPTY + b"R(" + _plain(1) + _plain(values.shape) + _FLOAT32 + b"\x89"
    yield b"B" + len(content).to_bytes(4, "little")
    yield content
    yield b"tb"
