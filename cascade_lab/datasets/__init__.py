"""Pictures and their objects. ``Dataset`` says what every file here offers; the catalog lists the files."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor

from cascade_lab.structures import Instances


class Dataset(Protocol):
    """Numbered pictures with their objects, in a fixed order.

    Attributes:
        classes: name of label 0, 1, ...
        category_ids: id that the annotation file gives to label 0, 1, ...
        image_ids: id of every picture in the annotation file.
        sizes: (H, W) of every picture as it is displayed.
        annotation_path: the file that an evaluator scores against.
    """

    classes: tuple[str, ...]
    category_ids: list[int]
    image_ids: list[int]
    sizes: list[tuple[int, int]]
    annotation_path: Path

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Instances]:
        """Return the picture, uint8 (3, H, W) RGB, and its objects, boxes xyxy in pixels of that picture."""
        ...

    def targets(self, index: int) -> Instances:
        """Return the objects alone, without opening the picture."""
        ...

    def path(self, index: int) -> Path:
        """Return the file of the picture."""
        ...
