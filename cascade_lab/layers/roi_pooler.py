"""Which pyramid level a box is read from, and the reading."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cascade_lab.ops.boxes import area
from cascade_lab.ops.roi_align import pyramid_roi_align


def boxes_to_rois(boxes: Sequence[Tensor]) -> Tensor:
    """Flatten per-picture boxes (R_i, 4) to rois (sum R_i, 5): picture index, then the box."""
    rows = [torch.cat([b.new_full((len(b), 1), i), b], dim=1) for i, b in enumerate(boxes)]
    return torch.cat(rows)


def level_of(boxes: Tensor, levels: int, canonical_size: float = 56.0) -> Tensor:
    """Return the pyramid level (R,) int64 that each box (R, 4) is read from; 0 is the finest.

    A box of side ``canonical_size`` to twice that reads level 0, and every doubling is one level
    coarser. Source: FPN, eq. 1, with 224 pixels at the fourth level written as 56 at the first. What is no
    box, since it is inverted or not a number, reads level 0 too, where RoIAlign finds nothing.
    """
    side = area(boxes).sqrt().nan_to_num(0.0)
    return torch.log2(side / canonical_size + 1e-6).floor().clamp(0, levels - 1).long()


def pool_rois(
    pyramid: Sequence[Tensor],
    strides: Sequence[int],
    rois: Tensor,
    size: int,
    *,
    canonical_size: float = 56.0,
    sampling_ratio: int = 0,
) -> Tensor:
    """Read every roi from its own level with RoIAlign.

    Shapes: levels (N, C, H_l, W_l) and rois (R, 5) in pixels of the input, to (R, C, size, size). Every level
    has a gradient in every step, with no roi on it too.
    """
    levels = level_of(rois[:, 1:], len(pyramid), canonical_size)
    scales = [1.0 / stride for stride in strides]
    return pyramid_roi_align(pyramid, rois, levels, size, scales, sampling_ratio)
