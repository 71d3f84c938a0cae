"""All that needs a GPU, in one go, with one report; see ``command.py``."""
