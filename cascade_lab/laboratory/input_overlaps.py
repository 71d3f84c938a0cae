"""How good are the boxes that enter each stage? (Cascade R-CNN, figure 4.)"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cascade_lab.laboratory import paper
from cascade_lab.laboratory.observation import Observation
from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.structures import Instances

MEANING = """\
Read: that the share of good boxes grows from stage to stage, so that a stricter stage still finds positives.
Do not read: that the shares themselves agree. The paper's are of sampled training boxes, these of all boxes
in the pictures that were given, and they depend on how many boxes the RPN proposes."""


@dataclass(frozen=True, kw_only=True)
class InputOverlaps:
    """IoU of every box with its best object, whatever its class: S stage inputs and the last output.

    Shapes: ``ious`` S + 1 times (R,), values in [0, 1]; ``thresholds`` S, the IoU of a positive.
    """

    ious: tuple[np.ndarray, ...]
    thresholds: tuple[float, ...]

    def shares(self, levels: Sequence[float] = paper.SHARE_ABOVE) -> np.ndarray:
        """Return the percentage of the boxes with at least these IoUs, (S + 1, levels); NaN without boxes."""
        return np.array(
            [
                [100 * np.mean(values >= level) if len(values) else np.nan for level in levels]
                for values in self.ious
            ]
        )

    def text(self) -> str:
        levels = paper.SHARE_ABOVE
        heads = "".join(f"{f'>= {level:g}':>8}" for level in levels)
        lines = ["percent of the boxes that overlap an object by so much"]
        lines += [f"{'':<16}{heads}   |{heads}  (paper)"]
        for k, row in enumerate(self.shares()):
            name = f"into stage {k + 1}" if k < len(self.thresholds) else "last output"
            here = "".join(f"{share:8.1f}" for share in row)
            there = ""
            if k < min(len(self.thresholds), len(paper.INPUT_SHARES)):
                there = "".join(f"{share:8.1f}" for share in paper.INPUT_SHARES[k])
            lines.append(f"{name:<16}{here}   |{there}".rstrip())
        return "\n".join([*lines, MEANING])


def input_overlaps(observations: Iterable[Observation]) -> InputOverlaps:
    """Measure the boxes that enter each stage, and those that leave the last.

    Ground truths among the boxes, of which training adds some, are left out: each would count as 1. Ignored
    regions are no objects here.
    """
    steps: list[list[Tensor]] = []
    thresholds: tuple[float, ...] = ()
    for seen in observations:
        stages = seen.trace.stages
        thresholds = tuple(stage.iou_threshold for stage in stages)
        steps = steps or [[] for _ in range(len(stages) + 1)]
        for i, target in enumerate(seen.targets):
            for step, stage in zip(steps, stages, strict=False):
                step.append(best_iou(stage.proposals[i][~stage.is_target[i]], target))
            steps[-1].append(best_iou(stages[-1].boxes[i][~stages[-1].is_target[i]], target))
    return InputOverlaps(ious=tuple(torch.cat(step).cpu().numpy() for step in steps), thresholds=thresholds)


def best_iou(boxes: Tensor, target: Instances) -> Tensor:
    """Return the IoU (R,) of each box with the object it overlaps best; 0 where there is no object."""
    objects = target.objects().boxes
    if not len(objects):
        return boxes.new_zeros(len(boxes))
    return pairwise_iou(boxes, objects).amax(dim=1)
