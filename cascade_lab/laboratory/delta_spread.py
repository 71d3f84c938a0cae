"""How far do the positives of each stage still have to move? (Cascade R-CNN, figure 2.)"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cascade_lab.laboratory import paper
from cascade_lab.laboratory.observation import Observation
from cascade_lab.ops.box_coder import encode_deltas

NAMES = ("dx", "dy", "dw", "dh")
UNIT = (1.0, 1.0, 1.0, 1.0)
MEANING = """\
Read: whether the deviations fall from stage to stage about as 1 : 1/2 : 1/3, the ratio that all code bases
build into delta_std. Do not read: the last digit. The paper's are of training samples of COCO."""


@dataclass(frozen=True, kw_only=True)
class DeltaSpread:
    """Mean and deviation of the deltas that the positives of each stage need, before they are normalised.

    Shapes, for S stages: mean, deviation and delta_std (S, 4) for dx, dy, dw, dh; count (S,) positives. Mean
    and deviation are NaN for a stage without positives.
    """

    mean: np.ndarray
    deviation: np.ndarray
    delta_std: np.ndarray
    count: np.ndarray

    def text(self) -> str:
        heads = "".join(f"{name:>8}" for name in NAMES)
        lines = [f"{'':<22}{heads}   |{heads}  (paper)"]
        for k, row in enumerate(self.deviation):
            there = paper.DELTA_DEVIATION[k] if k < len(paper.DELTA_DEVIATION) else ()
            lines.append(f"stage {k + 1}, {self.count[k]} positives")
            lines.append(f"{'  deviation':<22}{_row(row)}   |{_row(there)}".rstrip())
            lines.append(f"{'  delta_std':<22}{_row(self.delta_std[k])}   |")
            lines.append(f"{'  mean':<22}{_row(self.mean[k])}   |")
        return "\n".join([*lines, MEANING])


def delta_spread(observations: Iterable[Observation]) -> DeltaSpread:
    """Match the boxes that enter each stage as that stage does, and encode the way to their objects.

    Ground truths among the boxes are left out: they need no move, and would make every spread too small.
    """
    found: list[list[Tensor]] = []
    stds: list[tuple[float, ...]] = []
    for seen in observations:
        cascade = seen.detector.cascade
        stds = [stage.delta_std for stage in cascade.config.stages]
        found = found or [[] for _ in stds]
        for k, stage in enumerate(seen.trace.stages):
            for i, target in enumerate(seen.targets):
                boxes = stage.proposals[i][~stage.is_target[i]]
                index = cascade.config.assigner(k).assign(boxes, target).target_index
                matched = target.objects().boxes[index[index >= 0]]
                found[k].append(encode_deltas(boxes[index >= 0], matched, UNIT))
    deltas = [torch.cat(stage).double().cpu().numpy() for stage in found]
    return DeltaSpread(
        mean=np.array([d.mean(0) if len(d) else np.full(4, np.nan) for d in deltas]),
        deviation=np.array([d.std(0) if len(d) else np.full(4, np.nan) for d in deltas]),
        delta_std=np.array(stds),
        count=np.array([len(d) for d in deltas]),
    )


def _row(values: Iterable[float]) -> str:
    return "".join(f"{value:8.3f}" for value in values)
