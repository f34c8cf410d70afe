"""Class texts without what they share with their neighbours, by hand."""

import numpy as np
import pytest

from tmor_train.evaluation.text_contrast import contrasted

# Directions at 0, 60 and 180 degrees; the second is the first's neighbour, and the first the second's.
TEXTS = np.array([[2, 0], [0.5, np.sqrt(3) / 2], [-1, 0]], np.float32)


def test_the_nearest_ones_mean_is_taken_off_and_the_length_is_one() -> None:
    found = contrasted(TEXTS, neighbours=1, weight=0.5)
    first = np.array([1 - 0.25, -np.sqrt(3) / 4])
    np.testing.assert_allclose(found[0], first / np.linalg.norm(first), atol=1e-6)
    last = np.array([-1 - 0.25, -np.sqrt(3) / 4])  # 120 degrees from the second, 180 from the first
    np.testing.assert_allclose(found[2], last / np.linalg.norm(last), atol=1e-6)


def test_as_many_neighbours_as_there_are() -> None:
    all_of_them = contrasted(TEXTS, neighbours=9, weight=1.0)
    np.testing.assert_array_equal(all_of_them, contrasted(TEXTS, neighbours=2, weight=1.0))
    second = np.array([0.5 - (1 - 1) / 2, np.sqrt(3) / 2])
    np.testing.assert_allclose(all_of_them[1], second, atol=1e-6)


def test_neighbours_become_less_alike_and_weight_0_changes_directions_not_at_all() -> None:
    found = contrasted(TEXTS, neighbours=1, weight=0.5)
    assert found[0] @ found[1] < 0.5
    np.testing.assert_allclose(contrasted(TEXTS, neighbours=1, weight=0.0)[0], [1, 0], atol=1e-6)


def test_one_class_and_two_of_one_text() -> None:
    np.testing.assert_allclose(contrasted(TEXTS[:1], neighbours=3, weight=1.0), [[1, 0]])
    assert np.isfinite(contrasted(TEXTS[[0, 0]], neighbours=1, weight=1.0)).all()
    with pytest.raises(ValueError, match="not 0"):
        contrasted(TEXTS, neighbours=0, weight=1.0)
