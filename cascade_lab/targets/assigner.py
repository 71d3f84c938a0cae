"""The assigner (elsewhere "matcher"): which object, if any, a box stands for.

Source: Faster R-CNN, section 3.1.2, for the two thresholds and the rescue of objects that no anchor fits;
Cascade R-CNN, eq. 5: each stage has its own threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cascade_lab.ops.boxes import pairwise_ioa, pairwise_iou
from cascade_lab.structures import Instances

NEGATIVE = -1
UNUSED = -2


@dataclass(frozen=True)
class Assignment:
    """The answer for each box.

    Shapes:
        target_index: (R,) int64, the row in ``targets.objects()``; -1 for background, -2 for a box that no
            loss looks at.
        iou: (R,) the best IoU with any object; 0 where there is none, or where the box was not allowed.
    """

    target_index: Tensor
    iou: Tensor


@dataclass(frozen=True, kw_only=True)
class Assigner:
    """Match boxes with objects by IoU.

    Args:
        positive_iou: from here up a box is its best object.
        negative_iou: below this a box is background; between the two it is unused.
        min_positive_iou: an object whose best box overlaps it by less is not rescued.
        match_low_quality: rescue objects: the boxes that overlap an object best get it, even below
            ``positive_iou``, and even where they overlap another object more.
        ignore_ioa: background boxes that lie in an ignored region by more than this share of their own
            area are unused; 0 or less turns the rule off, and ignored regions are plain background then.
    """

    positive_iou: float
    negative_iou: float
    min_positive_iou: float
    match_low_quality: bool
    ignore_ioa: float = -1.0

    def __post_init__(self) -> None:
        if not 0 <= self.negative_iou <= self.positive_iou <= 1 or self.positive_iou == 0:
            raise ValueError(
                "need 0 <= negative_iou <= positive_iou <= 1 and positive_iou > 0, "
                f"got {self.negative_iou} and {self.positive_iou}"
            )
        if not 0 <= self.min_positive_iou <= 1:
            raise ValueError(f"min_positive_iou must be in [0, 1], got {self.min_positive_iou}")

    @torch.no_grad()
    def assign(self, boxes: Tensor, targets: Instances, allowed: Tensor | None = None) -> Assignment:
        """Return what each box stands for.

        Shapes: boxes (R, 4) in the frame of ``targets``; allowed (R,) bool, boxes outside it are unused and
        rescue nobody (anchors that stick out of the picture).
        """
        if allowed is None:
            return self._assign(boxes, targets)
        part = self._assign(boxes[allowed], targets)
        index = part.target_index.new_full((len(boxes),), UNUSED)
        iou = part.iou.new_zeros(len(boxes))
        index[allowed], iou[allowed] = part.target_index, part.iou
        return Assignment(index, iou)

    def _assign(self, boxes: Tensor, targets: Instances) -> Assignment:
        iou = pairwise_iou(targets.objects().boxes.to(boxes.device), boxes)  # (M, R)
        if iou.shape[0] == 0:
            best = iou.new_zeros(len(boxes))
            index = best.long()
        else:
            best, index = iou.max(dim=0)  # (R,), (R,); equal IoUs go to the first object
        matched = torch.where(best >= self.positive_iou, index, UNUSED)
        matched = torch.where(best < self.negative_iou, NEGATIVE, matched)
        if self.match_low_quality and iou.numel():
            matched = self._rescue(matched, iou)
        return Assignment(self._spare_ignored(matched, boxes, targets), best)

    def _rescue(self, matched: Tensor, iou: Tensor) -> Tensor:
        """Give each object all boxes that overlap it exactly as much as its best box; later objects win."""
        best = iou.max(dim=1).values  # (M,)
        rescued = (best >= self.min_positive_iou) & (best > 0)  # an IoU of 0 would rescue with all boxes
        ties = (iou == best[:, None]) & rescued[:, None]  # (M, R)
        for target, tie in enumerate(ties):
            matched = torch.where(tie, target, matched)
        return matched

    def _spare_ignored(self, matched: Tensor, boxes: Tensor, targets: Instances) -> Tensor:
        """Take the background boxes that lie in ignored regions out of use."""
        regions = targets.ignored().to(boxes.device)
        if self.ignore_ioa <= 0 or len(regions) == 0:
            return matched
        hidden = (pairwise_ioa(boxes, regions) > self.ignore_ioa).any(dim=1)  # (R,)
        return torch.where(hidden & (matched == NEGATIVE), UNUSED, matched)
