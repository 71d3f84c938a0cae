"""Which exercises a learner has got right: kept in memory, and in a small file where one can be written."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path


def record_file() -> Path:
    """Return where the record lies: in the folder of CASCADE_LAB_CACHE, or the user's cache."""
    base = os.environ.get("CASCADE_LAB_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cascade_lab" / "exercises.json"


class Record:
    """The ids that were right once; they stay so, though a notebook is run again with its cells empty.

    A file that cannot be read or written is no reason to stop a lesson: then memory alone remembers.
    """

    def __init__(self) -> None:
        self._green: set[str] = set()

    def green(self) -> set[str]:
        """Return the ids that are right, those that another notebook has written too."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            stored = json.loads(record_file().read_text(encoding="utf-8"))["green"]
            self._green |= {id for id in stored if isinstance(id, str)}
        return set(self._green)

    def add(self, id: str) -> None:
        """Remember that an exercise is right."""
        if id in self.green():
            return
        self._green.add(id)
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: nobody's home
            _write(record_file(), json.dumps({"green": sorted(self._green)}) + "\n")


def _write(path: Path, text: str) -> None:
    """Replace the file whole, so that no half of it is ever read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".exercises-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
