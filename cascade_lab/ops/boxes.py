"""Boxes as x1, y1, x2, y2 in pixels: area, overlap, clipping and the other ways to write them.

Nothing adds 1 to a width: a box that covers one pixel is (x, y, x + 1, y + 1). Half-precision input is
computed in float32, where a coordinate of 1000 is still exact; float64 stays float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-6  # a union of area 0 counts as this much, so that two empty boxes overlap by 0 and not by 0/0


def area(boxes: Tensor) -> Tensor:
    """Return width times height. Shapes: (..., 4) to (...,), in square pixels."""
    x1, y1, x2, y2 = at_least_float32(boxes).unbind(-1)
    return (x2 - x1) * (y2 - y1)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of every box of ``a`` with every box of ``b``.

    Shapes: (A, 4), (B, 4) to (A, B) in [0, 1]. Equal boxes give exactly the same number wherever they
    stand in the list, which the assigner's rule of equality rests on.
    """
    a, b = at_least_float32(a), at_least_float32(b)
    shared = _pairwise_intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :] - shared
    return shared / union.clamp(min=EPS)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of box i of ``a`` with box i of ``b``.

    Shapes: (R, 4), (R, 4) to (R,) in [0, 1].
    """
    shared, union = _paired_overlap(a, b)
    return shared / union


def pairwise_ioa(a: Tensor, b: Tensor) -> Tensor:
    """Return how much of every box of ``a`` lies inside every box of ``b``: intersection over area of ``a``.

    Shapes: (A, 4), (B, 4) to (A, B) in [0, 1].
    """
    a, b = at_least_float32(a), at_least_float32(b)
    return _pairwise_intersection(a, b) / area(a)[:, None].clamp(min=EPS)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised IoU of box i of ``a`` with box i of ``b``.

    Shapes: (R, 4), (R, 4) to (R,) in [-1, 1]. It is the IoU minus the share of the smallest enclosing box
    that neither box covers, so it still grows when boxes that do not touch come nearer.

    Source: Rezatofighi et al. 2019, "Generalized Intersection over Union", algorithm 1.
    """
    a, b = at_least_float32(a), at_least_float32(b)
    shared, union = _paired_overlap(a, b)
    hull = _span(torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])).clamp(min=EPS)
    return shared / union - (hull - union) / hull


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the part of each box that lies inside a picture. Shapes: (..., 4); size is (H, W)."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def scale(boxes: Tensor, factors: tuple[float, float]) -> Tensor:
    """Return boxes (..., 4) of a picture that was resized by ``factors`` = (y, x)."""
    fy, fx = factors
    boxes = at_least_float32(boxes)
    return boxes * boxes.new_tensor([fx, fy, fx, fy])


def mirror(boxes: Tensor, width: float) -> Tensor:
    """Return boxes (..., 4) of a picture that was mirrored left to right: x1' = W - x2, x2' = W - x1."""
    x1, y1, x2, y2 = at_least_float32(boxes).unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=-1)


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Return corners for left, top, width, height (the form of COCO files). Shapes: (..., 4)."""
    boxes = at_least_float32(boxes)
    return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Return left, top, width, height for corners. Shapes: (..., 4)."""
    boxes = at_least_float32(boxes)
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)


def at_least_float32(values: Tensor) -> Tensor:
    """Return float32 for anything narrower or whole-numbered; float64 stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _pairwise_intersection(a: Tensor, b: Tensor) -> Tensor:
    """Return the shared area (A, B).

    One axis after the other, which takes half the memory: a picture may have a thousand objects, and each
    meets every anchor.
    """
    sides = []
    for low, high in ((0, 2), (1, 3)):
        begin = torch.maximum(a[:, None, low], b[None, :, low])  # (A, B)
        sides.append((torch.minimum(a[:, None, high], b[None, :, high]) - begin).clamp(min=0))
    return sides[0] * sides[1]


def _paired_overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the area that box i of ``a`` shares with box i of ``b``, and that of their union, each (R,)."""
    a, b = at_least_float32(a), at_least_float32(b)
    shared = _span(torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:]))
    return shared, (area(a) + area(b) - shared).clamp(min=EPS)


def _span(top_left: Tensor, bottom_right: Tensor) -> Tensor:
    """Return the area (...,) between two corners (..., 2); 0 where they do not enclose anything."""
    width, height = (bottom_right - top_left).clamp(min=0).unbind(-1)
    return width * height
