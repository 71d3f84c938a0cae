"""What one stage of the cascade should have answered for the boxes that enter it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascade_lab.ops.boxes import area
from cascade_lab.structures import Instances
from cascade_lab.targets.assigner import NEGATIVE, UNUSED, Assigner, Assignment
from cascade_lab.targets.mask_targets import mask_targets
from cascade_lab.targets.sampler import Choose, Sampler


@dataclass(frozen=True)
class StageTargets:
    """The sampled boxes of a stage, positives first, and their answers; lists are per picture.

    Shapes:
        boxes: (R, 4); is_target: (R,) bool; iou: (R,) with the matched object; target_index: (P,).
        sampled: indices of positives and negatives into [targets; proposals].
        labels: (sum R,) int64, background = K. matched: (sum P, 4), the objects of the positives.
    """

    boxes: list[Tensor]
    is_target: list[Tensor]
    iou: list[Tensor]
    target_index: list[Tensor]
    sampled: list[tuple[Tensor, Tensor]]
    labels: Tensor
    matched: Tensor

    def positive_rows(self) -> Tensor:
        """Return the rows (sum P,) of the positives among all sampled boxes."""
        rows, start = [], 0
        for boxes, index in zip(self.boxes, self.target_index, strict=True):
            rows.append(torch.arange(start, start + len(index), device=boxes.device))
            start += len(boxes)
        return torch.cat(rows)

    def for_masks(self, targets: Sequence[Instances], size: int) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the positives whose objects have masks: boxes, labels (P,) and masks (P, size, size)."""
        boxes, labels, masks = [], [], []
        for box, index, target in zip(self.boxes, self.target_index, targets, strict=True):
            target, box = target.objects(), box[: len(index)]
            if target.masks is None or target.labels is None or len(index) == 0:
                boxes.append(box[:0])
                continue
            if target.has_mask is not None:
                known = target.has_mask[index]
                box, index = box[known], index[known]
            boxes.append(box)
            labels.append(target.labels[index])
            masks.append(mask_targets(target, box, index, size))
        if not masks:
            none = boxes[0]
            return boxes, none.new_zeros(0, dtype=torch.int64), none.new_zeros(0, size, size)
        return boxes, torch.cat(labels), torch.cat(masks)


@torch.no_grad()
def stage_targets(
    proposals: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    targets: Sequence[Instances],
    assigner: Assigner,
    sampler: Sampler | None,
    choose: Choose,
    num_classes: int,
) -> StageTargets:
    """Put the true boxes before the proposals, match all with the objects, and sample.

    ``sampler=None`` keeps every box that is positive or negative. A picture without any box offers itself as
    one background box. Where ignored regions hide all boxes, none is left.

    Raises ValueError for targets without labels, or with labels beyond [0, K).
    """
    columns = []
    for i, (boxes, size, target) in enumerate(zip(proposals, sizes, targets, strict=True)):
        objects = target.objects()
        own_labels = _labels_of(objects, num_classes, i)
        candidates = torch.cat([objects.boxes.to(boxes), boxes])  # (M + R, 4)
        if len(candidates) == 0:
            candidates = boxes.new_tensor([[0.0, 0.0, size[1], size[0]]])
        assignment = _assign_with_targets(assigner, candidates, target)
        if sampler is None:
            positive = (assignment.target_index >= 0).nonzero().squeeze(1)
            negative = (assignment.target_index == NEGATIVE).nonzero().squeeze(1)
        else:
            positive, negative = sampler.sample(assignment, choose, i)
        rows = torch.cat([positive, negative])
        index = assignment.target_index[positive]
        labels = torch.full((len(rows),), num_classes, device=boxes.device)
        labels[: len(positive)] = own_labels[index]
        columns.append(
            (
                candidates[rows],
                rows < len(objects),
                assignment.iou[rows],
                index,
                (positive, negative),
                labels,
                objects.boxes[index].to(boxes),
            )
        )
    boxes, is_target, iou, index, sampled, labels, matched = (list(c) for c in zip(*columns, strict=True))
    return StageTargets(boxes, is_target, iou, index, sampled, torch.cat(labels), torch.cat(matched))


def _labels_of(objects: Instances, num_classes: int, i: int) -> Tensor:
    """Return the labels (M,) of the objects of picture i."""
    if objects.labels is None:
        raise ValueError(f"the targets of picture {i} have no labels")
    beyond = objects.labels[(objects.labels < 0) | (objects.labels >= num_classes)]
    if len(beyond):
        raise ValueError(f"picture {i} has labels {beyond.tolist()}; classes are 0 to {num_classes - 1}")
    return objects.labels


def _assign_with_targets(assigner: Assigner, candidates: Tensor, target: Instances) -> Assignment:
    """Match the proposals with the objects, and each object, which stands before them, with itself.

    No deltas lead onto an object without area, so such a one is unused.
    """
    own = torch.arange(len(target.objects()), device=candidates.device)
    proposals = assigner.assign(candidates[len(own) :], target)
    own_index = torch.where(area(candidates[: len(own)]) > 0, own, UNUSED)
    index = torch.cat([own_index, proposals.target_index])
    return Assignment(index, torch.cat([torch.ones_like(own, dtype=candidates.dtype), proposals.iou]))
