"""Non-maximum suppression: of boxes that overlap too much, keep the one with the highest score."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from cascade_lab.ops.boxes import at_least_float32, pairwise_iou

# NMS takes quadratic time, so from here on the groups are handled one by one (the published limit).
GROUPWISE_FROM = 10_000


def nms(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Return the indices of the boxes that survive, best score first.

    Shapes: (R, 4), (R,) to (D,) int64. A box falls when its IoU with a better survivor is above ``iou``;
    of equal scores the earlier box is the better one.
    """
    boxes, scores = at_least_float32(boxes), at_least_float32(scores)
    widest = torch.promote_types(boxes.dtype, scores.dtype)
    return torchvision.ops.nms(boxes.to(widest), scores.to(widest), iou)


def nms_reference(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Do the same as `nms`, in the words of the definition."""
    waiting = scores.argsort(descending=True, stable=True)
    keep = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        keep.append(int(best))
        overlap = pairwise_iou(boxes[best][None], boxes[waiting])[0]
        waiting = waiting[overlap <= iou]
    return torch.tensor(keep, dtype=torch.int64, device=boxes.device)


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Do NMS within each group (class or pyramid level) and return the survivors of all, best score first.

    Shapes: (R, 4), (R,), (R,) integer group numbers from 0, to (D,) int64. Each group is moved to a place of
    its own, so that one run of NMS serves all and boxes of different groups never meet. Far away, float32
    is coarser: next to the threshold an IoU may fall on the other side, as in the published models.
    """
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    boxes = at_least_float32(boxes)
    reach = boxes.max() - boxes.min().clamp(max=0) + 1
    apart = boxes + (groups.to(boxes) * reach)[:, None]
    if len(boxes) < GROUPWISE_FROM:
        return nms(apart, scores, iou)

    survives = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for group in groups.unique():
        rows = (groups == group).nonzero().squeeze(1)
        survives[rows[nms(apart[rows], scores[rows], iou)]] = True
    keep = survives.nonzero().squeeze(1)
    return keep[scores[keep].argsort(descending=True, stable=True)]
