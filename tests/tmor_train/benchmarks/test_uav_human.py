from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tmor_train.benchmarks.uav_human import bodies_by_id

ANNA, BERT, CLEO = "72057594037944738", "72057594037944739", "0"


def lines(*frames: Sequence[tuple[str, int]]) -> list[str]:
    """A file of frames of bodies (id, x of their first joint), of two joints each."""
    written = [str(len(frames))]
    for bodies in frames:
        written.append(str(len(bodies)))
        for identity, x in bodies:
            written += [f"{identity} 0 1 1 1 1 0 0.0 0.0 2", "2", f"{x} 1 2 0 0 0 2", f"{x}.5 1 2 0 0 0 2"]
    return written


def first_joint(*frames: Sequence[tuple[str, int]], people: int = 8) -> list[list[float]]:
    """x of the first joint of each body, by frame."""
    return bodies_by_id(lines(*frames), joints=2, values=3, max_frames=100, max_people=people)[:, :, 0, 0].tolist()


def test_positions_are_read_as_they_stand() -> None:
    read = bodies_by_id(lines([(ANNA, 7)]), joints=2, values=3, max_frames=100, max_people=8)
    assert read.dtype == np.float32
    assert read.tolist() == [[[[7, 1, 2], [7.5, 1, 2]]]]


def test_bodies_that_swap_places_keep_their_identity() -> None:
    assert first_joint([(ANNA, 1), (BERT, 11)], [(BERT, 12), (ANNA, 2)], [(ANNA, 3), (BERT, 13)]) == [
        [1, 2, 3],
        [11, 12, 13],
    ]


def test_who_leaves_and_returns_is_the_same() -> None:
    """Bert moves up in the file when Anna leaves."""
    assert first_joint([(ANNA, 1), (BERT, 11)], [(BERT, 12)], [], [(BERT, 14), (ANNA, 4)]) == [
        [11, 12, 0, 14],
        [1, 0, 0, 4],
    ]


def test_a_new_id_is_somebody_else() -> None:
    assert first_joint([(ANNA, 1)], [(ANNA, 2)], [(BERT, 11)]) == [[1, 2, 0], [0, 0, 11]]


def test_who_is_in_most_frames_comes_first_and_of_equals_who_appears_first() -> None:
    assert first_joint([(CLEO, 21)], [(BERT, 11)], [(ANNA, 1)], [(BERT, 12)]) == [
        [0, 11, 0, 12],
        [21, 0, 0, 0],
        [0, 0, 1, 0],
    ]


def test_bodies_of_one_id_in_a_frame_are_told_apart_by_their_place() -> None:
    assert first_joint([(CLEO, 1), (CLEO, 11)], [(CLEO, 2), (ANNA, 21), (CLEO, 12)], [(CLEO, 3)]) == [
        [1, 2, 3],
        [11, 12, 0],
        [0, 21, 0],
    ]


def test_of_too_many_bodies_the_rarest_are_left_out() -> None:
    assert first_joint([(ANNA, 1), (BERT, 11)], [(CLEO, 21), (BERT, 12)], [(CLEO, 22)], people=2) == [
        [11, 12, 0],
        [0, 21, 22],
    ]


def test_nobody_is_one_body_of_zeros() -> None:
    assert first_joint([], []) == [[0, 0]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({0: "0"}, "0 where 1 to 100 frames"),
        ({0: "many"}, "invalid literal"),
        ({1: "9"}, "9 where 0 to 8 bodies in frame 0"),
        ({1: "-1"}, "-1 where 0 to 8"),
        ({2: "  "}, "a body of frame 0 has no id"),
        ({3: "25"}, "25 where 2 joints"),
        ({4: "1 2"}, "inhomogeneous"),
        ({4: "x 1 2"}, "could not convert"),
    ],
)
def test_damage_is_refused(changed: dict[int, str], message: str) -> None:
    content = lines([(ANNA, 1)], [(ANNA, 2)])
    for number, line in changed.items():
        content[number] = line
    with pytest.raises(ValueError, match=message):
        bodies_by_id(content, joints=2, values=3, max_frames=100, max_people=8)


def test_a_file_that_is_cut_off_is_refused_wherever_it_ends() -> None:
    content = lines([(ANNA, 1)], [(BERT, 11)])
    for length in range(len(content)):
        with pytest.raises(EOFError, match="cut off"):
            bodies_by_id(content[:length], joints=2, values=3, max_frames=100, max_people=8)
