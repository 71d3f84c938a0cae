"""The box coder: how a head says "a bit to the left, and twice as wide" in four numbers.

For a proposal with centre (px, py), width pw and height ph, and a target g likewise:

    dx = (gx - px) / pw      dw = log(gw / pw)
    dy = (gy - py) / ph      dh = log(gh / ph)

each divided by its ``std``, so that the numbers to learn are of order one. Later stages of the cascade see
better proposals, hence smaller moves, hence smaller stds.

Source: Girshick et al. 2014, R-CNN, appendix C; Cascade R-CNN, eq. 2, and section 4.1 for
the stds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cascade_lab.ops.boxes import at_least_float32, clip

# One step may not grow or shrink a side by more than 1000/16 = 62.5; exp() of a wild dw would overflow.
MAX_LOG_RATIO = abs(math.log(16 / 1000))


def encode_deltas(proposals: Tensor, targets: Tensor, std: Sequence[float]) -> Tensor:
    """Return the deltas that move each proposal onto its target.

    Shapes: (..., 4), (..., 4) xyxy pixels and std (4,) to (..., 4) without unit. A proposal or a target
    without width or height has no finite answer; such boxes are never positives, so none is asked for.
    """
    px, py, pw, ph = _centre_and_size(proposals)
    gx, gy, gw, gh = _centre_and_size(targets)
    deltas = torch.stack([(gx - px) / pw, (gy - py) / ph, (gw / pw).log(), (gh / ph).log()], dim=-1)
    return deltas / deltas.new_tensor(std)


def decode_deltas(
    deltas: Tensor, proposals: Tensor, std: Sequence[float], size: tuple[int, int] | None = None
) -> Tensor:
    """Return the boxes that the deltas move the proposals to; the inverse of `encode_deltas`.

    Shapes:
        deltas: (..., 4); proposals: any shape (..., 4) that broadcasts against it, so class-wise deltas
            are (R, K, 4) with ``proposals[:, None]``.
        std: (4,). size: (H, W) clips the boxes to the picture; None, as in the loss, does not.
        Returns (..., 4) xyxy pixels.
    """
    deltas = at_least_float32(deltas)
    dx, dy, dw, dh = (deltas * deltas.new_tensor(std)).unbind(-1)
    px, py, pw, ph = _centre_and_size(proposals)
    x, y = px + pw * dx, py + ph * dy
    w = pw * dw.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    h = ph * dh.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    boxes = torch.stack([x - w * 0.5, y - h * 0.5, x + w * 0.5, y + h * 0.5], dim=-1)
    return boxes if size is None else clip(boxes, size)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return centre x, centre y, width and height, each (...,)."""
    x1, y1, x2, y2 = at_least_float32(boxes).unbind(-1)
    return (x1 + x2) * 0.5, (y1 + y2) * 0.5, x2 - x1, y2 - y1
