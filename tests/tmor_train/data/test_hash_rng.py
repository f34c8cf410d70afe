from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tmor_train.data.hash_rng import hashes, permutation, uniform


def test_numbers_depend_on_names_and_place_alone() -> None:
    whole = uniform(7, 3, 1, index_N=np.arange(100), count=5)
    alone = uniform(7, 3, 1, index_N=np.array([42]), count=5)
    assert (whole[42] == alone[0]).all()
    assert (uniform(7, 3, 1, index_N=np.arange(100), count=2) == whole[:, :2]).all()


def test_other_seeds_epochs_and_purposes_draw_others() -> None:
    index = np.arange(1000)
    drawn = [hashes(*names, index_N=index) for names in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    for number, one in enumerate(drawn):
        assert len(np.unique(one)) == 1000
        assert not any((one == other).any() for other in drawn[:number])


def test_numbers_are_even_over_zero_to_one() -> None:
    drawn = uniform(0, 0, 1, index_N=np.arange(20_000), count=3)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.abs(drawn.mean(0) - 0.5).max() < 0.01
    assert np.abs(np.histogram(drawn, 10)[0] / 6000 - 1).max() < 0.06
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.03


@given(count=st.integers(0, 300), seed=st.integers(0, 2**62), epoch=st.integers(0, 1000))
def test_a_permutation_holds_every_number_once(count: int, seed: int, epoch: int) -> None:
    order = permutation(seed, epoch, 0, count=count)
    assert sorted(order.tolist()) == list(range(count))
    assert (order == permutation(seed, epoch, 0, count=count)).all()


def test_permutations_of_epochs_differ() -> None:
    assert (permutation(0, 0, 0, count=50) != permutation(0, 1, 0, count=50)).any()
    assert (permutation(0, 0, 0, count=50) != np.arange(50)).any()
