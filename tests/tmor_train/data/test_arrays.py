from __future__ import annotations

import numpy as np
import pytest

from tmor_train.data.arrays import Vectors, concat_vectors, slices, vectors

TEN = np.arange(10, dtype=np.float32)


def test_stretches_begin_where_asked_and_may_overlap() -> None:
    assert slices(TEN, np.array([[0, 7], [1, 2]]), 3).tolist() == [[[0, 1, 2], [7, 8, 9]], [[1, 2, 3], [2, 3, 4]]]
    assert slices(TEN, np.zeros((0, 2), np.int64), 3).shape == (0, 2, 3)


@pytest.mark.parametrize("start", [-1, 8])
def test_a_stretch_outside_is_refused(start: int) -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        slices(TEN, np.array([start]), 3)


def test_stretches_are_copies() -> None:
    taken = slices(TEN, np.array([0]), 2)
    taken[:] = -1
    assert TEN[0] == 0


def test_vectors_lie_in_several_maps_and_minus_one_is_zeros() -> None:
    store = Vectors((TEN, TEN * 10), np.array([0, 1, 1]), np.array([2, 0, 8]), 2)
    assert store.rows(np.array([2, -1, 0, 1])).tolist() == [[80, 90], [0, 0], [2, 3], [0, 10]]
    assert store.select(np.array([1])).rows(np.array([0, 0])).tolist() == [[0, 10], [0, 10]]


def test_joined_stores_count_on() -> None:
    store = concat_vectors([vectors(np.ones((2, 3), np.float32)), vectors(np.full((1, 3), 5, np.float32))])
    assert store.rows(np.array([2, 0])).tolist() == [[5, 5, 5], [1, 1, 1]]
    with pytest.raises(ValueError, match=r"lengths \[3, 4\]"):
        concat_vectors([store, vectors(np.ones((1, 4), np.float32))])


@pytest.mark.parametrize("store", [vectors(np.ones((2, 3), np.float32)), vectors(np.ones((0, 3), np.float32))])
def test_an_index_beyond_the_vectors_is_refused(store: Vectors) -> None:
    with pytest.raises(IndexError):
        store.rows(np.array([2, -1]))
    with pytest.raises(IndexError):
        store.rows(np.array([2]))
