"""Recipes by name: everything that decides a training run, as values that are built, compared and saved."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

from cascade_lab.errors import InputError
from cascade_lab.recipes.plain import diff, flatten, from_dict, to_dict
from cascade_lab.recipes.published import cascade_1x, cascade_3x, mask_rcnn, own_cascade
from cascade_lab.recipes.recipe import Recipe
from cascade_lab.recipes.small import micro, nano, pico

__all__ = ["RECIPES", "Recipe", "diff", "flatten", "from_dict", "micro", "nano", "pico", "recipe", "to_dict"]

RECIPES: dict[str, Callable[[], Recipe]] = {
    "pico": pico,
    "nano": nano,
    "micro": micro,
    **{f"mask_rcnn_internimage_{s}_fpn_{n}x_coco": partial(mask_rcnn, s, n) for s in "tsb" for n in (1, 3)},
    **{f"cascade_internimage_{s}_fpn_{n}x_coco": partial(own_cascade, s, n) for s in "tsb" for n in (1, 3)},
    "cascade_internimage_l_fpn_1x_coco": partial(cascade_1x, "l"),
    "cascade_internimage_l_fpn_3x_coco": partial(cascade_3x, "l"),
    "cascade_internimage_xl_fpn_1x_coco": partial(cascade_1x, "xl"),
    "cascade_internimage_xl_fpn_3x_coco": partial(cascade_3x, "xl"),
}


def recipe(name: str) -> Recipe:
    """Return the recipe of that name. Raises InputError that names the nearest ones."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.5)
        remedy = f"there is {', '.join(near)}" if near else "cascade-lab zoo lists them"
        raise InputError(f"recipe {name!r} does not exist; {remedy}")
    return RECIPES[name]()
