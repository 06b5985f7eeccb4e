"""Every recipe by its name in the settings."""

from __future__ import annotations

from collections.abc import Callable

from bento_selfheal.config.parameters import HealParameters
from bento_selfheal.healing.challenger.race_recipe import RaceRecipe
from bento_selfheal.healing.challenger.recipes import ArticleRecipe, Recipe, ReplayRecipe

RECIPES: dict[str, Callable[[HealParameters], Recipe]] = {
    "replay": ReplayRecipe,
    "race": RaceRecipe,
    "article": ArticleRecipe,
}


def make_recipe(parameters: HealParameters) -> Recipe:
    """The recipe that the settings name."""
    return RECIPES[parameters.recipe](parameters)
