"""Recipes by name: everything that decides a training run, as values that are built, compared and saved."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

from cascade_lab.errors import InputError
from cascade_lab.recipes.plain import diff, from_dict, to_dict
from cascade_lab.recipes.published import cascade_1x, cascade_3x, mask_rcnn
from cascade_lab.recipes.recipe import Recipe
from cascade_lab.recipes.small import micro, nano

__all__ = ["RECIPES", "Recipe", "diff", "from_dict", "micro", "nano", "recipe", "to_dict"]

RECIPES: dict[str, Callable[[], Recipe]] = {
    "nano": nano,
    "micro": micro,
    **{f"mask_rcnn_internimage_{s}_fpn_{n}x_coco": partial(mask_rcnn, s, n) for s in "tsb" for n in (1, 3)},
    **{f"cascade_internimage_{s}_fpn_1x_coco": partial(cascade_1x, s) for s in ("t", "s", "b", "l", "xl")},
    **{f"cascade_internimage_{s}_fpn_3x_coco": partial(cascade_3x, s) for s in ("t", "s", "b", "l", "xl")},
}


def recipe(name: str) -> Recipe:
    """Return the recipe of that name. Raises InputError that lists the nearest names."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.5) or list(RECIPES)
        raise InputError(f"recipe {name!r} does not exist; there is {', '.join(near)}")
    return RECIPES[name]()
