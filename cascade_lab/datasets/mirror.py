"""Mirror and turn a picture (3, H, W) with its objects; neither is changed in place."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cascade_lab.ops.boxes import mirror as mirror_boxes
from cascade_lab.structures import Instances


def mirror(image: Tensor, targets: Instances) -> tuple[Tensor, Instances]:
    """Mirror left to right: x1' = W - x2, x2' = W - x1."""
    masks = None if targets.masks is None else targets.masks.flip(2)
    boxes = mirror_boxes(targets.boxes, targets.image_size[1])
    return image.flip(2), replace(targets, boxes=boxes, masks=masks)


def mirror_vertically(image: Tensor, targets: Instances) -> tuple[Tensor, Instances]:
    """Turn upside down: y1' = H - y2, y2' = H - y1."""
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    height = targets.image_size[0]
    masks = None if targets.masks is None else targets.masks.flip(1)
    boxes = torch.stack((x1, height - y2, x2, height - y1), dim=1)
    return image.flip(1), replace(targets, boxes=boxes, masks=masks)


def rotate_quarter(image: Tensor, targets: Instances) -> tuple[Tensor, Instances]:
    """Turn by 90 degrees against the clock: the right edge becomes the top, x' = y, y' = W - x."""
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    height, width = targets.image_size
    masks = None if targets.masks is None else targets.masks.rot90(1, (1, 2))
    boxes = torch.stack((y1, width - x2, y2, width - x1), dim=1)
    return image.rot90(1, (1, 2)), replace(targets, image_size=(width, height), boxes=boxes, masks=masks)
