"""Plain text in columns, for commands that print tables."""

from __future__ import annotations

import shutil
from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), gap: int = 2) -> list[str]:
    """Return one line per row, cells padded to the widest of their column.

    Args:
        right: numbers of the columns that are aligned to the right, as figures are.
        gap: spaces between columns.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        padded = [cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in cells]
        lines.append((" " * gap).join(padded).rstrip())
    return lines


def fitting(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return ``columns`` with the widest gap, of one or two spaces, that the terminal has room for."""
    wide = columns(rows, right, gap=2)
    return wide if max(map(len, wide)) <= terminal_width() else columns(rows, right, gap=1)


def terminal_width() -> int:
    """Return the columns of the terminal; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns
