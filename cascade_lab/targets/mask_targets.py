"""What the mask head should have answered for each positive box."""

from __future__ import annotations

from torch import Tensor

from cascade_lab.ops.masks import crop_masks
from cascade_lab.structures import Instances


def mask_targets(targets: Instances, boxes: Tensor, target_index: Tensor, size: int) -> Tensor:
    """Return the part of each box's object that lies under the box.

    Shapes: boxes (P, 4); target_index (P,) rows of ``targets.objects()``; returns (P, size, size) float32 in
    {0, 1}. The boxes are those that entered the stage, not yet refined by it.

    Raises ValueError if the targets came without masks.
    """
    objects = targets.objects()
    if objects.masks is None:
        raise ValueError("the targets have no masks")
    return crop_masks(objects.masks.to(boxes.device), boxes, target_index, size)
