"""Recipes as plain JSON types, and back; and in which fields two of them differ."""

from __future__ import annotations

import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from cascade_lab.errors import InputError
from cascade_lab.recipes.recipe import Recipe


def to_dict(value: Any) -> Any:
    """Return a recipe, or any part of one, as plain JSON types."""
    if is_dataclass(value):
        return {field.name: to_dict(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_dict(member) for member in value]
    return value


def from_dict(plain: Any, kind: Any = Recipe, name: str = "") -> Any:
    """Rebuild what ``to_dict`` wrote.

    Args:
        name: the field that ``plain`` is the value of, for messages; empty for a whole recipe.

    Raises:
        InputError: a field is unknown or missing, or its value has another type.
    """
    if isinstance(kind, type) and is_dataclass(kind):
        start, hints = f"{name}." * bool(name), get_type_hints(kind)
        if not isinstance(plain, dict):
            raise _wrong(plain, name, f"the fields of {kind.__name__}")
        unknown = set(plain) - set(hints)
        if unknown:
            raise InputError(
                f"recipe field '{start}{min(unknown)}' is unknown to this version of cascade_lab;"
                " take the version that wrote it (environment.json beside it)"
            )
        needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
        if needed - set(plain):
            raise InputError(f"recipe field '{start}{min(needed - set(plain))}' is missing; restore the file")
        return kind(
            **{field: from_dict(value, hints[field], start + field) for field, value in plain.items()}
        )
    if get_origin(kind) is types.UnionType:
        inner = [member for member in get_args(kind) if member is not types.NoneType]
        return None if plain is None else from_dict(plain, inner[0], name)
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if not isinstance(plain, list) or (inner[-1] is not Ellipsis and len(plain) != len(inner)):
            raise _wrong(plain, name, f"a list of {'any length' if inner[-1] is Ellipsis else len(inner)}")
        kinds = [inner[0]] * len(plain) if inner[-1] is Ellipsis else inner
        members = zip(plain, kinds, strict=True)
        return tuple(from_dict(value, member, f"{name}.{i}") for i, (value, member) in enumerate(members))
    allowed = (float, int) if kind is float else (kind,)
    if kind in (bool, int, float, str) and type(plain) not in allowed:
        raise _wrong(plain, name, f"of type {kind.__name__}")
    return plain


def _wrong(plain: Any, name: str, expected: str) -> InputError:
    return InputError(
        f"recipe{f' field {name!r}' * bool(name)} is {plain!r} (must be {expected}); restore the file"
    )


def diff(a: Recipe, b: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two recipes differ: dotted name to both values.

    A field that only one of them has, such as those of a third stage, is None in the other.
    """
    left, right = flatten(a), flatten(b)
    names = left | right if len(left) >= len(right) else right | left  # in the order of the fuller one
    return {n: (left.get(n), right.get(n)) for n in names if left.get(n) != right.get(n)}


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Return every field by the name that it has on the command line: ``detector.cascade.stages.0.iou``."""
    if is_dataclass(value):
        members = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, tuple) and value and all(map(is_dataclass, value)):
        members = list(enumerate(value))
    else:
        return {name: to_dict(value)}
    inner = (flatten(member, f"{name}.{key}" if name else str(key)) for key, member in members)
    return {key: leaf for part in inner for key, leaf in part.items()}
