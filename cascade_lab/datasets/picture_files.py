"""The pictures that an annotation file names: are they there, and inside the data folder?"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any


class PictureFiles:
    """Look pictures up in one listing of their folder: asking the disk for each of 100,000 is slow."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, os.path.realpath(root)
        self.listings: dict[str, dict[str, os.DirEntry[str]]] = {}

    def fault(self, name: Any) -> str:
        """Say what is wrong with a file name; empty if it is a picture inside the root."""
        if not isinstance(name, str) or not name:
            return "(must be the name of a picture); name its file"
        relative = PurePosixPath(name)
        if (
            "\0" in name
            or "\\" in name
            or name[1:2] == ":"
            or relative.is_absolute()
            or ".." in relative.parts
        ):
            return "(must be a plain path below the picture folder); rename the picture"
        entry = self._listing(str(relative.parent)).get(relative.name)
        if entry is None or not entry.is_file():
            return f"(not found in {self.folder}); add the picture or remove it from images"
        # A listing holds only folders inside the root, so only a link can lead out of it.
        if entry.is_symlink() and not self._is_inside(entry.path):
            return "(a link that leaves the data folder); put the picture itself there"
        return ""

    def _listing(self, parent: str) -> dict[str, os.DirEntry[str]]:
        if parent not in self.listings:
            folder = self.folder / parent
            inside = folder.is_dir() and self._is_inside(str(folder))
            self.listings[parent] = {entry.name: entry for entry in os.scandir(folder)} if inside else {}
        return self.listings[parent]

    def _is_inside(self, path: str) -> bool:
        return os.path.commonpath([os.path.realpath(path), self.root]) == self.root
