"""Print a recipe, every field and what follows from them: ``cascade-lab show``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cascade_lab.commands.columns import columns, terminal_width
from cascade_lab.commands.derived import derived, published
from cascade_lab.overrides import override
from cascade_lab.recipes import Recipe, flatten, to_dict
from cascade_lab.recipes.asked import recipe_or_help
from cascade_lab.settle import make_room

USAGE = """usage: cascade-lab show RECIPE [options]

  RECIPE     a name that cascade-lab zoo lists
  --json     the same as JSON
  --optim.lr X, --schedule.steps N, ...   any field, as in cascade-lab train

What follows from the fields stands below them, after "=", and then what was
published. What the command line changed is marked with "*".
cascade-lab show RECIPE --help lists the type of every field."""

PUBLISHED = "published by the InternImage project"


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    json: bool = False


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    named = recipe_or_help(arguments, USAGE)
    if named is None:
        return 0
    asked, options = override((make_room(named, arguments[1:]), ShowOptions()), arguments[1:])
    if options.json:
        told = {"recipe": to_dict(asked), "derived": derived(asked), "published": published(asked)}
        print(json.dumps(told, indent=1))
    else:
        print(as_text(asked, named))
    return 0


def as_text(asked: Recipe, named: Recipe) -> str:
    """Return ``asked`` as lines in groups; what differs from ``named``, the recipe as it is, is marked."""
    fields, before = flatten(asked), flatten(named)
    changed = [name for name, value in fields.items() if value != before.get(name)]
    shown = {name: written(value) + "*" * (name in changed) for name, value in fields.items()}
    lines = []
    for group, members in _side_by_side(grouped(shown), shown).items():
        indent = "  " if group else ""
        lines += [*([group] if group else []), *(indent + row for row in members), ""]
    for title, values in (("= follows from the fields", derived(asked)), (PUBLISHED, published(asked))):
        rows = [(name.replace("_", " "), written(value)) for name, value in values.items()]
        lines += [title, *(f"  {row}" for row in _pairs(rows)), ""] if rows else []
    lines.pop()
    if changed:
        lines += ["", f"* changed; {named.name} itself has"]
        lines += [f"  {row}" for row in columns([(name, written(before.get(name))) for name in changed])]
    return "\n".join(lines)


def grouped(names: Sequence[str] | dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return dotted names by what stands before their last dot: group -> (last part, whole name)."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(names, key=lambda name: "." in name):  # the fields of no group first
        group, _, last = name.rpartition(".")
        groups.setdefault(group, []).append((last, name))
    return groups


def written(value: Any) -> str:
    """Return a value as one would read it; lists as the command line takes them."""
    if isinstance(value, list):
        return " ".join(map(written, value)) or "()"
    if isinstance(value, float):
        text = f"{value:.6g}"
        return text if set(text) & set(".en") else f"{text}.0"
    return f"{value:,}" if type(value) is int and value >= 10_000 else str(value)


def _side_by_side(groups: dict[str, list[tuple[str, str]]], shown: dict[str, str]) -> dict[str, list[str]]:
    """Return the lines of every group; groups that differ in a number only, the stages, share their lines."""
    alike: dict[str, list[list[tuple[str, str]]]] = {}
    for group, members in groups.items():
        head, _, number = group.rpartition(".")
        alike.setdefault(head if number.isdigit() else group, []).append(members)
    return {
        group: _pairs([(last, shown[name]) for last, name in sets[0]])
        if len(sets) == 1
        else columns([(rows[0][0], *(shown[name] for _, name in rows)) for rows in zip(*sets, strict=True)])
        for group, sets in alike.items()
    }


def _pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return names and values in two columns; a value that is too long goes on below itself."""
    width = max(len(name) for name, _ in rows)
    room = max(20, terminal_width() - width - 4)
    lines = []
    for name, value in rows:
        first, *more = textwrap.wrap(value, room, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [f"{name:<{width}}  {first}", *(f"{'':<{width}}  {line}" for line in more)]
    return lines
