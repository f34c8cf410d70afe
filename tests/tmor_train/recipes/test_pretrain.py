"""Encoders of skeleton sets have seen no clip that is tested on."""

import pytest

from tmor_train.data.datasets import SETS
from tmor_train.recipes.pretrain import RECIPES


def test_no_clip_that_is_tested_on() -> None:
    sets = dict(words.partition(":")[::2] for words in RECIPES["sets_train"]().data.sets)
    assert set(sets) == {"penn_action", "utd_mhad", "msr_action3d"}  # nothing of SBU, all of which is tested on
    assert set(sets.values()) == {"train"}


def test_nothing_of_penn_and_all_of_the_others() -> None:
    config = RECIPES["sets_no_penn"]()
    assert set(config.data.sets) == set(SETS) - {"penn_action"}
    assert config.data.texts == "datasets/movements.parquet"
    assert config.objective.text_head == "identity"
    assert config.objective.width == 384  # as long as the sentences' vectors


@pytest.mark.parametrize("name", ["sets_no_penn", "sets_train"])
def test_both_views_come_out_flat(name: str) -> None:
    """Clips in space and in pictures share a batch, so the first step of each view makes them plane."""
    views = RECIPES[name]().views
    for view in (views.anchor, views.positive, views.still):
        assert type(view[0]).__name__ == "Project"
