"""The paper's stages and their variants; encoders of skeleton sets have seen no clip that is tested on."""

from dataclasses import replace

import pytest

from tmor_train.data.augment import EstimatorError, Noise, Project
from tmor_train.data.datasets import SETS
from tmor_train.recipes.pretrain import RECIPES


def test_stages_are_the_papers() -> None:
    one, two = RECIPES["stage1"](), RECIPES["stage2"]()
    assert (one.objective.w_mm, one.objective.w_mv, one.objective.w_mt) == (1, 1, 0)
    assert (two.objective.w_mm, two.objective.w_mv, two.objective.w_mt) == (1, 1, 1)
    assert (one.loop.start, two.loop.start) == ("scratch", "checkpoint")
    assert (one.objective.queue_size, one.objective.momentum, one.objective.temperature_mm) == (65_536, 0.999, 0.07)
    assert (one.optimizer.method, one.optimizer.lr, one.batching.size, one.loop.epochs) == ("sgd", 0.1, 256, 65)


def test_variants_differ_only_where_they_say_so() -> None:
    one, cpu = RECIPES["stage1"](), RECIPES["stage1_cpu"]()
    assert cpu.encoder == one.encoder
    assert cpu.views == one.views
    assert cpu.optimizer.method == "adamw"


def test_sets_in_space_are_seen_from_random_sides_and_clustered_from_one() -> None:
    views = RECIPES["pretrain_sets"]().views
    assert [type(step) for step in (views.anchor[0], views.positive[0])] == [Project, Project]
    assert views.still == (Project(yaw=0.0, pitch=0.0, camera="orthographic"),)


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


def test_estimated_joints_differ_from_recorded_ones_in_their_errors_alone() -> None:
    made, base = RECIPES["sets_estimated"](), RECIPES["sets_train"]()
    for view, plain in ((made.views.anchor, base.views.anchor), (made.views.positive, base.views.positive)):
        assert view == (*(step for step in plain if not isinstance(step, Noise)), EstimatorError())
    assert replace(made, recipe=base.recipe, about=base.about, views=base.views) == base
