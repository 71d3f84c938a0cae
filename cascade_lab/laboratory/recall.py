"""Which objects have a good box at all, and after which stage? (The question behind AP at high IoU.)"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cascade_lab.laboratory.observation import Observation
from cascade_lab.ops.boxes import pairwise_iou

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
MEANING = """\
Read: which recall the stages raise, and that no stage brings an object that no box has touched. Do not read:
an AP. Recall asks for one good box among all; it neither asks how sure the detector is nor counts the wrong
ones."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """The IoU of every object with its best box, whatever the classes: S stage inputs and the last output.

    Shapes: ``best`` (S + 1, M), values in [0, 1].
    """

    best: np.ndarray

    def at(self, levels: Sequence[float] = LEVELS) -> np.ndarray:
        """Return the percentage of the objects with a box of at least these IoUs, (S + 1, levels).

        All are NaN without an object.
        """
        if self.best.shape[1] == 0:
            return np.full((len(self.best), len(levels)), np.nan)
        return np.stack([100 * (self.best >= level).mean(1) for level in levels], axis=1)

    def text(self) -> str:
        steps = ["proposals", *(f"after stage {k + 1}" for k in range(len(self.best) - 1))]
        lines = [f"percent of {self.best.shape[1]} objects with a box that overlaps them by so much"]
        lines.append(f"{'':<16}" + "".join(f"{f'>= {level:g}':>8}" for level in LEVELS))
        for name, row in zip(steps, self.at(), strict=True):
            lines.append(f"{name:<16}" + "".join(f"{value:8.1f}" for value in row))
        return "\n".join([*lines, MEANING])


def recall(observations: Iterable[Observation]) -> Recall:
    """Find the best box of every object at every step. Ground truths among the boxes are left out."""
    columns: list[Tensor] = []
    for seen in observations:
        stages = seen.trace.stages
        for i, target in enumerate(seen.targets):
            objects = target.objects().boxes
            kept = [~stage.is_target[i] for stage in stages]
            steps = [stage.proposals[i][keep] for stage, keep in zip(stages, kept, strict=True)]
            steps.append(stages[-1].boxes[i][kept[-1]])
            columns.append(torch.stack([_best(objects, boxes) for boxes in steps]))  # (S + 1, M)
    return Recall(best=torch.cat(columns, dim=1).cpu().numpy())


def _best(objects: Tensor, boxes: Tensor) -> Tensor:
    return pairwise_iou(objects, boxes).amax(1) if len(boxes) else objects.new_zeros(len(objects))
