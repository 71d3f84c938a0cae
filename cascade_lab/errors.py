"""The one exception for input that a user can mend."""


class InputError(ValueError):
    """Say in one line which file, field and value is wrong, and what to do about it.

    The command line prints the message, and below it the notes, each a further fault, and exits with code 2.
    """


def explain(error: InputError) -> str:
    """Return what a command prints of an error: the message in one line, every note in a line below it."""
    notes: list[str] = getattr(error, "__notes__", [])
    return "\n  ".join(" ".join(text.split()) for text in (str(error), *notes))
