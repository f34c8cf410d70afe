"""Cosines of several regions as one product, against sums by hand."""

import numpy as np
import pytest

from tmor_train.evaluation.part_pooling import region_weights, side_by_side


def test_weights_of_the_whole_and_its_parts() -> None:
    assert region_weights(5, 0.6).tolist() == pytest.approx([0.4, 0.15, 0.15, 0.15, 0.15])
    assert region_weights(2, 0.0).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="not 1"):
        region_weights(1, 0.5)


def test_the_product_is_the_weighted_mean_of_the_regions_products() -> None:
    weights = np.array([0.5, 0.25, 0.25], np.float32)
    clips = np.array([[[1, 0], [0, 1], [0.6, 0.8]]], np.float32)
    classes = np.array([[[1, 0], [1, 0], [0, 1]], [[0, 1], [0, 1], [0.8, 0.6]]], np.float32)
    scores = side_by_side(clips, weights) @ side_by_side(classes, weights).T
    assert scores[0].tolist() == pytest.approx([0.5 * 1 + 0.25 * 0 + 0.25 * 0.8, 0.5 * 0 + 0.25 * 1 + 0.25 * 0.96])
    assert np.linalg.norm(side_by_side(clips, weights)) == pytest.approx(1)
