"""Soft-NMS: a box next to a better one is not dropped, its score is lowered.

Where two objects stand close together, hard NMS drops the box of the second. Soft-NMS keeps it further down
the list, where it costs little if it was a double and finds the object if it was not.

Source: Bodla et al. 2017, "Soft-NMS", figure 2, equations 2 and 3.
"""

from __future__ import annotations

import sys
from typing import Literal

import torch
from torch import Tensor

from cascade_lab.ops.boxes import at_least_float32, pairwise_iou

Decay = Literal["linear", "gaussian"]


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    decay: Decay,
    *,
    iou: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 0.001,
    most: int = sys.maxsize,
) -> tuple[Tensor, Tensor]:
    """Return the indices (D,) of the boxes that stay and their new scores (D,), best first.

    Shapes: (R, 4), (R,), (R,) integer group numbers: boxes of different groups (classes) never meet.

    Args:
        decay, iou, sigma: how much a neighbour loses, see ``remaining_share``.
        min_score: a box whose score is not above it is dropped. The paper has no such limit and returns every
            box; with 0 only those go that have lost everything.
        most: stop after so many boxes. New scores come out in falling order, so these are the best.

    Of equal scores the earlier box is the better one.
    """
    scores = at_least_float32(scores).clone()
    keep: list[Tensor] = []
    waiting = (scores > min_score).nonzero().squeeze(1)
    while len(waiting) and len(keep) < most:
        place = scores[waiting].argmax()  # the first of equal ones
        best = waiting[place]
        keep.append(best)
        waiting = waiting[torch.arange(len(waiting), device=waiting.device) != place]
        overlap = pairwise_iou(boxes[best][None], boxes[waiting])[0].to(scores)  # (waiting,)
        share = remaining_share(overlap, decay, iou, sigma)
        scores[waiting] *= torch.where(groups[waiting] == groups[best], share, 1.0)
        waiting = waiting[scores[waiting] > min_score]
    rows = torch.stack(keep) if keep else torch.zeros(0, dtype=torch.int64, device=boxes.device)
    return rows, scores[rows]


def remaining_share(overlap: Tensor, decay: Decay, iou: float, sigma: float) -> Tensor:
    """Return what a box keeps of its score beside a better one that it overlaps by ``overlap``.

    ``"linear"`` (Soft-NMS, eq. 2): 1 below the threshold ``iou``, and 1 - overlap from there on.
    ``"gaussian"`` (Soft-NMS, eq. 3): exp(-overlap^2 / sigma), without a threshold and so without a jump.

    At exactly the threshold a box loses, as the paper has it; the hard NMS of `ops/nms.py` spares it there.
    """
    if decay == "gaussian":
        return (-overlap.square() / sigma).exp()
    return torch.where(overlap < iou, 1.0, 1 - overlap)
