"""What each recipe is about."""

import pytest

from tmor_train.data.augment import Project
from tmor_train.recipes import RECIPES, UnknownRecipeError, recipe


def test_stages_are_the_papers() -> None:
    one, two = recipe("stage1"), recipe("stage2")
    assert (one.objective.w_mm, one.objective.w_mv, one.objective.w_mt) == (1, 1, 0)
    assert (two.objective.w_mm, two.objective.w_mv, two.objective.w_mt) == (1, 1, 1)
    assert (one.loop.start, two.loop.start) == ("scratch", "checkpoint")
    assert (one.objective.queue_size, one.objective.momentum, one.objective.temperature_mm) == (65_536, 0.999, 0.07)
    assert (one.optimizer.method, one.optimizer.lr, one.batching.size, one.loop.epochs) == ("sgd", 0.1, 256, 65)


def test_variants_differ_only_where_they_say_so() -> None:
    one, cpu = recipe("stage1"), recipe("stage1_cpu")
    assert cpu.encoder == one.encoder
    assert cpu.views == one.views
    assert cpu.optimizer.method == "adamw"


def test_sets_in_space_are_seen_from_random_sides_and_clustered_from_one() -> None:
    views = recipe("pretrain_sets").views
    assert [type(step) for step in (views.anchor[0], views.positive[0])] == [Project, Project]
    assert views.still == (Project(yaw=0.0, pitch=0.0, camera="orthographic"),)


def test_every_recipe_says_what_it_is_for() -> None:
    assert all(len(made().about) > 20 for made in RECIPES.values())


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownRecipeError, match=r"did you mean stage1\?"):
        recipe("stage_1")
