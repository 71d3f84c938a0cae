"""The one exception for input that a user can mend, what is printed of it, and a check that raises it."""

from __future__ import annotations

from typing import Any, get_args


class InputError(ValueError):
    """Say in one line which file, field and value is wrong, and what to do about it.

    The command line prints the message, and below it the notes, each a further fault, and exits with code 2.
    """


def explain(error: InputError) -> str:
    """Return what a command prints of an error: the message in one line, every note in a line below it."""
    notes: list[str] = getattr(error, "__notes__", [])
    return "\n  ".join(" ".join(text.split()) for text in (str(error), *notes))


def check_word(name: str, value: object, words: Any) -> None:
    """Raise InputError where the setting ``name`` is none of the words of the Literal type ``words``."""
    if value not in get_args(words):
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, get_args(words)))}")
