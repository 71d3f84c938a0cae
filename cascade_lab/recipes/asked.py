"""The first word of a command that takes a recipe: its name, or a call for help."""

from __future__ import annotations

from collections.abc import Sequence

from cascade_lab.overrides import describe
from cascade_lab.recipes import Recipe, recipe

HELP = ("-h", "--help")


def recipe_or_help(arguments: Sequence[str], usage: str) -> Recipe | None:
    """Return the recipe that the first word names, or print what was asked for instead and return None.

    ``--help`` after a name also lists every field of that recipe. Raises InputError for an unknown name.
    """
    if not arguments or arguments[0] in HELP:
        print(usage)
        return None
    named = recipe(arguments[0])
    if set(HELP) & set(arguments[1:]):
        print(f"{usage}\n\nrecipe {named.name}:\n{describe(named)}")
        return None
    return named
