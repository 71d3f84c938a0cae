"""The losses, as sums over rows.

The caller divides by a number that all processes agree on (`global_mean`), not by the local count, so that
one GPU with sixteen pictures and sixteen GPUs with one each learn the same. Where a process takes its
pictures in several parts, the number is that of all parts (`engine.accumulate`); so a function is asked for
it. A sum over no rows is zero and still part of the graph: every parameter gets its gradient whatever the
picture. Sums are at least float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from cascade_lab.ops.boxes import at_least_float32, giou

# count () of this process's rows -> what their sum is divided by, ()
Divisor = Callable[[Tensor], Tensor]


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum the cross-entropy of the softmax. Shapes: (R, K + 1), (R,) int64 with background = K, to ()."""
    return functional.cross_entropy(at_least_float32(logits), labels, reduction="sum")


def objectness_loss(logits: Tensor, is_object: Tensor | bool) -> Tensor:
    """Sum the binary cross-entropy of the RPN. Shapes: (R,), one answer for all or (R,) bool, to ()."""
    logits = at_least_float32(logits)
    answer = torch.as_tensor(is_object, device=logits.device).to(logits.dtype).expand_as(logits)
    return functional.binary_cross_entropy_with_logits(logits, answer, reduction="sum")


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Sum 1 - GIoU of decoded boxes with their objects. Shapes: (R, 4), (R, 4) xyxy pixels, to ()."""
    return (1 - giou(boxes, targets)).sum()


def smooth_l1_loss(deltas: Tensor, targets: Tensor, beta: float = 1 / 9) -> Tensor:
    """Sum the distance of deltas: d^2 / (2 beta) below ``beta``, d - beta / 2 from there up.

    Shapes: (R, 4), (R, 4) to (). The default beta is that of the published RPN.
    Source: Fast R-CNN, eq. 3; beta as in later code.
    """
    deltas, targets = at_least_float32(deltas), at_least_float32(targets)
    return functional.smooth_l1_loss(deltas, targets, reduction="sum", beta=beta)


def l1_loss(deltas: Tensor, targets: Tensor) -> Tensor:
    """Sum the absolute distance of deltas. Shapes: (R, 4), (R, 4) to ()."""
    return (at_least_float32(deltas) - at_least_float32(targets)).abs().sum()


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Sum the binary cross-entropy over all pixels of the positives' own class maps.

    Shapes: (P, S, S), (P, S, S) in {0, 1}, to (). Classes do not compete: the maps of the other classes are
    not looked at. Source: Mask R-CNN, section 3.
    """
    logits = at_least_float32(logits)
    return functional.binary_cross_entropy_with_logits(logits, masks.to(logits.dtype), reduction="sum")


def global_mean(value: Tensor) -> Tensor:
    """Return the mean of a count () over all processes, detached; the count itself in a single process."""
    mean = value.detach().clone()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(mean)
        mean /= dist.get_world_size()
    return mean
