"""Show the library's own lines beside the text that explains them, so that the two cannot part."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from cascade_lab.errors import InputError

MOST_LINES = 15


def reveal(thing: Callable[..., Any], around: str = "") -> None:
    """Print ``module:line`` and the lines of a function or class around the first one that contains a text.

    They are read from the file as it is installed, at most 15 of them; without ``around``, the first 15.

    Raises:
        InputError: the text is not there, or the thing has no Python source.
    """
    name = getattr(thing, "__qualname__", repr(thing))
    try:
        lines, first = inspect.getsourcelines(thing)
    except (OSError, TypeError) as error:
        raise InputError(f"{name} has no Python source; reveal a function or class of the library") from error
    places = [number for number, line in enumerate(lines) if around in line]
    if not places:
        raise InputError(
            f"{name} has no line with {around!r}; read it whole with print(inspect.getsource({name}))"
        )
    begin = max(0, min(places[0] - MOST_LINES // 2, len(lines) - MOST_LINES))
    if begin and (body := _docstring_end(lines)) <= places[0]:
        begin = max(begin, body)  # no end of a docstring whose beginning is cut off
    shown = textwrap.dedent("".join(lines[begin : begin + MOST_LINES])).splitlines()
    print(f"{thing.__module__}:{first + places[0]}  {name}")
    width = len(str(first + len(lines)))
    for number, line in enumerate(shown, start=first + begin):
        print(f"{number:{width}}  {line}".rstrip())


def _docstring_end(lines: list[str]) -> int:
    """Return how many lines a function or class takes up to the end of its docstring; 0 without one."""
    thing: Any = ast.parse(textwrap.dedent("".join(lines))).body[0]
    first = thing.body[0] if isinstance(thing, ast.FunctionDef | ast.ClassDef) else None
    return (first.end_lineno or 0) if first and ast.get_docstring(thing) else 0
