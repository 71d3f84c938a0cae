"""Print the fields in which two recipes differ, side by side: ``cascade-lab diff``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from cascade_lab.commands.columns import columns, terminal_width
from cascade_lab.commands.show import grouped, written
from cascade_lab.errors import InputError
from cascade_lab.overrides import override, split_named
from cascade_lab.recipes import Recipe, diff, flatten, recipe

USAGE = """usage: cascade-lab diff A B [options]

  A, B     names of two recipes; cascade-lab zoo lists them
  --json   the same as JSON: field -> [value in A, value in B]

"-" is a field that a recipe does not have, such as those of a third stage."""


@dataclass(frozen=True, kw_only=True)
class DiffOptions:
    json: bool = False


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    names, rest = split_named(arguments)
    (options,) = override((DiffOptions(),), rest)
    if len(names) != 2:
        raise InputError(f"expected the names of two recipes, got {len(names)}: {' '.join(names) or 'none'}")
    a, b = map(recipe, names)
    print(json.dumps(diff(a, b), indent=1) if options.json else as_text(a, b))
    return 0


def as_text(a: Recipe, b: Recipe) -> str:
    """Return three columns, field and both values, in groups."""
    differing = {name: values for name, values in diff(a, b).items() if name != "name"}
    if not differing:
        return f"{a.name} and {b.name} are the same in every field"
    owned = flatten(a), flatten(b)
    width = max(len(name.rpartition(".")[2]) for name in differing) + 2
    room = max(16, (terminal_width() - width - 4) // 2)
    rows = [("", "A", "B")]
    for group, members in grouped(differing).items():
        rows += [("", "", ""), *([(group, "", "")] if group else [])]
        for last, name in members:
            cells = [
                written(v) if name in own else "-" for v, own in zip(differing[name], owned, strict=True)
            ]
            first, *more = _folded(cells, room)
            rows += [(f"  {last}", *first), *(("", *line) for line in more)]
    # The name of a group is no cell: it may reach over all columns.
    table = columns([(field if field.startswith("  ") else "", *values) for field, *values in rows])
    lines = [
        row[0] if row[0] and not row[0].startswith("  ") else line
        for row, line in zip(rows, table, strict=True)
    ]
    return "\n".join([f"A: {a.name}", f"B: {b.name}", "", *lines])


def _folded(cells: Sequence[str], room: int) -> list[tuple[str, ...]]:
    """Return texts as lines of at most ``room`` characters, beside each other."""
    folded = (textwrap.wrap(cell, room, break_on_hyphens=False) or [""] for cell in cells)
    return list(zip_longest(*folded, fillvalue=""))
