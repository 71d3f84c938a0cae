"""Mask targets: each box looks at the mask of its own object."""

import pytest
import torch

from cascade_lab.structures import Instances
from cascade_lab.targets.mask_targets import mask_targets


def scene(**changes) -> Instances:
    """Left half, right half, and a third object that is the whole picture."""
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[0, :, :4], masks[1, :, 4:], masks[2] = True, True, True
    return Instances((8, 8), torch.zeros(3, 4), **{"masks": masks, **changes})


BOXES = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8], [2, 2, 6, 6]])


def test_by_hand():
    found = mask_targets(scene(), BOXES, torch.tensor([1, 0, 0]), 2)
    assert found.tolist() == [[[0, 1], [0, 1]], [[1, 0], [1, 0]], [[1, 0], [1, 0]]]


def test_index_counts_objects_without_ignored_regions():
    targets = scene(ignore=torch.tensor([True, False, False]))
    found = mask_targets(targets, BOXES[:2], torch.tensor([0, 1]), 2)
    assert found.tolist() == [[[0, 1], [0, 1]], [[1, 1], [1, 1]]]


def test_no_positives():
    assert mask_targets(scene(), BOXES[:0], torch.zeros(0, dtype=torch.int64), 28).shape == (0, 28, 28)


def test_targets_without_masks():
    with pytest.raises(ValueError, match="no masks"):
        mask_targets(scene(masks=None), BOXES, torch.tensor([0, 1, 2]), 28)
