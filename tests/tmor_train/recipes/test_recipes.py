"""What each recipe is about."""

import pytest

from tmor_train.recipes import (
    RECIPES,
    UnknownRecipeError,
    evaluation,
    pretrain,
    recipe,
)


def test_every_recipe_says_what_it_is_for() -> None:
    assert all(len(made().about) > 20 for made in RECIPES.values())


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownRecipeError, match=r"did you mean stage1\?"):
        recipe("stage_1")


def test_no_two_recipes_have_one_name() -> None:
    kinds = (pretrain, evaluation)
    assert len(RECIPES) == sum(len(module.RECIPES) for module in kinds)
    assert all(made().recipe == name for name, made in RECIPES.items())
