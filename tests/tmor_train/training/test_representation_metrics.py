"""Figures of embeddings, worked out by hand."""

import math

import pytest
import torch

from tmor_train.training.representation_metrics import (
    alignment,
    effective_rank,
    neighbours_agree,
    step_metrics,
    uniformity,
)

torch.set_num_threads(1)


def test_effective_rank_counts_directions() -> None:
    square = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert effective_rank(square) == pytest.approx(2.0)
    assert effective_rank(square * torch.tensor([1.0, 0, 0])) == pytest.approx(1.0)
    # Singular values 3 and 1: exp(-(0.75 log 0.75 + 0.25 log 0.25)).
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert effective_rank(square * torch.tensor([3.0, 1, 1])) == pytest.approx(expected)


def test_embeddings_that_are_all_the_same_have_no_direction() -> None:
    assert effective_rank(torch.full((8, 4), 0.3)) == 0.0
    assert effective_rank(torch.full((8, 4), 0.3) + 1e-8 * torch.randn(8, 4)) == 0.0


def test_alignment_is_the_squared_distance_on_the_sphere() -> None:
    one = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert alignment(one, 5 * one) == 0.0
    assert alignment(one, -one) == pytest.approx(4.0)
    assert alignment(one, one.flip(1)) == pytest.approx(2.0)


def test_uniformity_is_low_where_embeddings_spread() -> None:
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0.0, abs=1e-5)
    # A pair of opposites is 2 apart: log exp(-2 * 4).
    assert uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8.0)
    assert uniformity(torch.ones(1, 3)) == 0.0


def test_neighbours_with_the_same_label() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [1.0, 0.2]])
    assert neighbours_agree(embeddings, torch.tensor([0, 0, 1, 1, -1])) == 1.0
    # The second and the fifth are each other's nearest, and their labels differ.
    assert neighbours_agree(embeddings, torch.tensor([0, 0, 1, 1, 1])) == pytest.approx(0.6)
    assert neighbours_agree(embeddings, torch.tensor([-1, -1, -1, -1, 3])) is None


def test_a_step_is_watched_without_its_graph() -> None:
    features = torch.randn(6, 4, requires_grad=True)
    figures = step_metrics(features, features.detach())
    assert figures["alignment"] == pytest.approx(0.0, abs=1e-6)
    assert 1 <= figures["rank"] <= 4
    assert figures["uniformity"] < 0
