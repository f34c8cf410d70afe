"""Recipes: functions that return a whole configuration. Variants derive from one another.

Each file has the recipes of one kind of run and names them in a table ``RECIPES``; ``RECIPES`` here joins them.
What runs a recipe follows from the class of its configuration: :mod:`tmor_train.tasks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tmor_train.configuration import nearest
from tmor_train.recipes import evaluation, pretrain


class UnknownRecipeError(LookupError):
    """There is no recipe of that name; the message gives the nearest."""


RECIPES: dict[str, Callable[[], Any]] = {
    **pretrain.RECIPES,
    **evaluation.RECIPES,
}
"""By name. Each returns a frozen configuration, which has its name as ``recipe`` and a line on it as ``about``."""


def recipe(name: str) -> Any:
    """The frozen configuration that the recipe of that name returns.

    Raises:
        UnknownRecipeError: there is none.
    """
    if name not in RECIPES:
        raise UnknownRecipeError(f"no recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]()


__all__ = ["RECIPES", "UnknownRecipeError", "recipe"]
