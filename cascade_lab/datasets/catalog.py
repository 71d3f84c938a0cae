"""Which data set a recipe means, as a value, and how it is opened."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from cascade_lab.datasets import Dataset
from cascade_lab.datasets.coco import CocoDataset
from cascade_lab.datasets.transforms import AugmentConfig
from cascade_lab.errors import InputError

KINDS = ("coco",)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pictures come from, how many make a batch, and how they are changed on the way.

    Attributes:
        dataset: the format of the folder, one of ``KINDS``.
        root: the folder.
        images_per_batch: pictures in a step, over all processes together.
        workers: processes that decode and augment; the result never depends on it.
        cache: keep decoded pictures in memory when the set is small.
        keep_empty: train on pictures without objects too.
        group_by_aspect: let a batch hold only wide pictures or only others: less of it is padding.
    """

    dataset: str = "coco"
    root: str = "data/shapes"
    train_split: str = "train"
    val_split: str = "val"
    images_per_batch: int = 8
    workers: int = 0
    augment: AugmentConfig = AugmentConfig()
    cache: bool = True
    keep_empty: bool = False
    group_by_aspect: bool = False

    def __post_init__(self) -> None:
        if self.dataset not in KINDS:
            near = difflib.get_close_matches(self.dataset, KINDS, cutoff=0)
            raise InputError(f"data.dataset is {self.dataset!r} (must be one of {', '.join(near)})")
        for name, least in (("images_per_batch", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise InputError(f"data.{name} is {getattr(self, name)} (must be from {least} up)")
        for name in ("root", "train_split", "val_split"):
            if not getattr(self, name):
                raise InputError(f"data.{name} is empty; name a folder or a split")


def load_dataset(
    config: DataConfig, split: str, training: bool, classes: Sequence[str] | None = None
) -> Dataset:
    """Open and check one split.

    Args:
        training: leave out what cannot be learned from (see the data set's own docstring).
        classes: names of labels 0, 1, ... of a trained model; None takes the order of the file.
    """
    return CocoDataset(
        config.root,
        split,
        training=training,
        keep_empty=config.keep_empty,
        classes=classes,
        cache=config.cache,
    )
