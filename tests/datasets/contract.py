"""What every data set has to keep to; its own test file calls ``check_dataset``."""

from collections.abc import Iterable

import torch
from PIL import Image, ImageOps

from cascade_lab.datasets import Dataset


def check_dataset(dataset: Dataset, indices: Iterable[int] | None = None) -> None:
    """Assert the promises of ``Dataset`` on the given pictures, or on all."""
    count = len(dataset)
    assert count == len(dataset.image_ids) == len(set(dataset.image_ids)) == len(dataset.sizes)
    assert len(dataset.classes) == len(set(dataset.classes)) == len(dataset.category_ids)
    assert len(set(dataset.category_ids)) == len(dataset.category_ids)
    assert isinstance(dataset.classes, tuple) and all(name for name in dataset.classes)
    assert dataset.annotation_path.exists()
    for index in range(count) if indices is None else indices:
        _check_item(dataset, index)


def _check_item(dataset: Dataset, index: int) -> None:
    image, targets = dataset[index]
    height, width = dataset.sizes[index]
    with Image.open(dataset.path(index)) as file:
        assert ImageOps.exif_transpose(file).size == (width, height)
    assert image.dtype == torch.uint8 and image.shape == (3, height, width)
    assert targets.image_size == (height, width)
    assert targets.boxes.dtype == torch.float32 and torch.isfinite(targets.boxes).all()
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    assert (x2 - x1 >= 1).all() and (y2 - y1 >= 1).all()
    assert (x1 < width).all() and (y1 < height).all() and (x2 > 0).all() and (y2 > 0).all()
    assert targets.labels is not None and targets.labels.dtype == torch.int64
    assert ((targets.labels >= 0) & (targets.labels < len(dataset.classes))).all()
    assert targets.scores is None
    assert targets.ignore is None or targets.ignore.dtype == torch.bool
    if targets.masks is not None:
        assert targets.masks.dtype == torch.bool and targets.masks.shape == (len(targets), height, width)
        if targets.has_mask is not None:
            assert targets.has_mask.dtype == torch.bool and not targets.masks[~targets.has_mask].any()
    again, targets_again = dataset[index]
    assert torch.equal(image, again) and torch.equal(targets.boxes, targets_again.boxes)
    assert torch.equal(dataset.targets(index).boxes, targets.boxes)
