"""Recipes: functions that return a whole configuration. Variants derive from one another.

Each file has the recipes of one kind of run and names them in a table ``RECIPES``; a new file is joined to them below.
What runs a recipe follows from the class of its configuration: :mod:`tmor_train.tasks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tmor_train.configuration import nearest
from tmor_train.recipes import ablations, comparisons, detection, evaluation, pretrain


class Recipe(Protocol):
    """What every configuration has: the name of its recipe, and a line about it."""

    @property
    def recipe(self) -> str: ...

    @property
    def about(self) -> str: ...


class UnknownRecipeError(KeyError):
    """There is no recipe of that name; the message gives the nearest."""

    def __str__(self) -> str:
        return str(self.args[0])


def _joined(*tables: Mapping[str, Callable[[], Recipe]]) -> dict[str, Callable[[], Recipe]]:
    """All tables as one, in order."""
    found: dict[str, Callable[[], Recipe]] = {}
    for table in tables:
        if twice := found.keys() & table.keys():
            raise ValueError(f"two recipes have one name: {', '.join(sorted(twice))}")
        found |= table
    return found


RECIPES = _joined(
    *(kind.RECIPES for kind in (pretrain, ablations, comparisons, evaluation, detection)),
)


def recipe(name: str) -> Any:
    """The recipe of that name: a frozen configuration, of which kind the name says.

    Raises:
        UnknownRecipeError: there is none.
    """
    if name not in RECIPES:
        raise UnknownRecipeError(f"no recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]()


__all__ = ["RECIPES", "Recipe", "UnknownRecipeError", "recipe"]
