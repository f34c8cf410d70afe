"""Reads skeletons in the text format of NTU RGB+D, ``.skeleton``, in which many later sets are written, too.

A. Shahroudy et al., "NTU RGB+D", CVPR 2016; the owners' MATLAB reader describes it
(https://github.com/shahroudy/NTURGB-D/blob/master/Matlab/read_skeleton_file.m). The first line is the number of frames.
For each frame there is a line with the number of bodies, and for each of these a line that begins with the body's id, a
line with the number of joints, and a line for each joint, which begins with its position. The id is what the sensor or
tracker calls one person for as long as it follows them; the place of a body within its frame says nothing: when a
person leaves, those behind move up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from tmor_train.data.arrays import Floats

Body = tuple[str, int]
"""An id, and the how-manieth body of that id it is in its frame, from 0."""


def bodies_by_id(lines: Iterable[str], *, joints: int, values: int, max_frames: int, max_people: int) -> Floats:
    """Positions (M, T, J, C) float32 of a file's bodies, one M for each id; 0 where that body is not in a frame.

    The body that is in the most frames comes first, and of equal ones the one that appears first. Ids are compared as
    they are written. Where one id stands several times in a frame, it does not tell those bodies apart: the first of
    them in each frame is one body, the second another, and so on. Sensors give a new id to who comes back, and to
    reflections and furniture: of more than ``max_people`` bodies those in the fewest frames are left out. M is 1, and
    all is 0, where no frame has a body. Lines after the last frame are ignored.

    Args:
        lines: of the file.
        joints, values: J, the number of joints of every body, and C, how many values of each joint's line are read.
        max_frames: most frames of a file.
        max_people: most bodies in one frame, and in the result.

    Raises:
        ValueError: a number is no number or out of its range, or an id is missing.
        EOFError: the file ends too early.
    """
    rest = chain(lines, _cut_off())
    frames = _count(next(rest), f"1 to {max_frames} frames", 1, max_frames)
    seen: Counter[Body] = Counter()  # in the order in which bodies appear
    found: list[tuple[Body, int, Floats]] = []
    for frame in range(frames):
        for body, position_JC in _frame(rest, frame, joints=joints, values=values, max_people=max_people):
            seen[body] += 1
            found.append((body, frame, position_JC))
    place = {body: number for number, (body, _) in enumerate(seen.most_common(max_people))}
    position_MTJC = np.zeros((max(1, len(place)), frames, joints, values), np.float32)
    for body, frame, position_JC in found:
        if body in place:
            position_MTJC[place[body], frame] = position_JC
    return position_MTJC


def _frame(
    lines: Iterator[str], frame: int, *, joints: int, values: int, max_people: int
) -> Iterator[tuple[Body, Floats]]:
    ids: Counter[str] = Counter()
    for _ in range(_count(next(lines), f"0 to {max_people} bodies in frame {frame}", 0, max_people)):
        words = next(lines).split(maxsplit=1)
        if not words:
            raise ValueError(f"a body of frame {frame} has no id")
        _count(next(lines), f"{joints} joints of a body in frame {frame}", joints, joints)
        rows = [next(lines).split(maxsplit=values)[:values] for _ in range(joints)]
        yield (words[0], ids[words[0]]), np.array(rows, np.float32)
        ids[words[0]] += 1


def _cut_off() -> Iterator[str]:
    """What follows the last line; a generator may not let StopIteration out."""
    raise EOFError("it is cut off")
    yield ""


def _count(line: str, expected: str, least: int, most: int) -> int:
    number = int(line)
    if not least <= number <= most:
        raise ValueError(f"{number} where {expected} are expected")
    return number
