"""The anchor grid of one pyramid level: the boxes that the RPN starts from.

Source: Ren et al. 2015, "Faster R-CNN", section 3.1.1. As published with InternImage, an anchor is centred on
the top left corner of its cell (position times stride), not on its middle, and no side is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def base_anchors(stride: int, scales: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Return the anchors of one position, centred on (0, 0), as x1, y1, x2, y2 in pixels.

    Shapes: S scales and T ratios to (T * S, 4) float32, ratio by ratio. An anchor has the area
    (stride * scale) squared, and ratio is height over width.
    """
    stretch = torch.tensor(ratios, dtype=torch.float32).sqrt()[:, None]  # (T, 1)
    scale = torch.tensor(scales, dtype=torch.float32)  # (S,)
    w = (stride * (1 / stretch) * scale).flatten()  # (A,)
    h = (stride * stretch * scale).flatten()
    return torch.stack([-0.5 * w, -0.5 * h, 0.5 * w, 0.5 * h], dim=-1)


def grid_anchors(base: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
    """Return the base anchors at every position of a feature map.

    Shapes: base (A, 4) and grid (h, w) to (h * w * A, 4): row by row, then column, then base anchor,
    which is the order of the head's output (h, w, A) flattened.
    """
    h, w = grid
    y, x = torch.meshgrid(
        torch.arange(h, dtype=base.dtype, device=base.device) * stride,
        torch.arange(w, dtype=base.dtype, device=base.device) * stride,
        indexing="ij",
    )
    shifts = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)  # (h * w, 1, 4)
    return (shifts + base).view(-1, 4)


def inside(anchors: Tensor, size: tuple[int, int], border: float) -> Tensor:
    """Return which anchors (A,) stick out of a picture of size (H, W) by at most ``border`` pixels.

    The right and bottom edges must stay truly below the limit, as published. A negative border is no limit.
    """
    if border < 0:
        return torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
    height, width = size
    x1, y1, x2, y2 = anchors.unbind(-1)
    return (x1 >= -border) & (y1 >= -border) & (x2 < width + border) & (y2 < height + border)


def on_picture(grid: tuple[int, int], size: tuple[int, int], stride: int, shapes: int) -> Tensor:
    """Return which anchors of `grid_anchors` belong to a cell that begins inside a picture of size (H, W).

    Shapes: grid (h, w) and ``shapes`` anchors per position to (h * w * shapes,) bool. The batch may be padded
    beyond what this picture needs; its anchors out there are not trained. The cell is counted rather than
    the anchor's centre measured, which float32 may put on the wrong side of the edge.
    """
    h, w = grid
    rows = torch.arange(h) * stride < size[0]
    columns = torch.arange(w) * stride < size[1]
    return (rows[:, None] & columns[None, :]).flatten().repeat_interleave(shapes)
