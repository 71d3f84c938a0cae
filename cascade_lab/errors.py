"""The one exception for input that a user can mend."""


class InputError(ValueError):
    """Say in one line which file, field and value is wrong, and what to do about it.

    The command line prints the message alone and exits with code 2.
    """
