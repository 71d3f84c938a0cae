"""How well does a head correct a box that is already so and so good? (Cascade R-CNN, figure 1 c.)"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cascade_lab.laboratory.interval import ratio_intervals
from cascade_lab.laboratory.observation import Observation
from cascade_lab.ops.boxes import clip, paired_iou, pairwise_iou

EDGES = tuple(0.5 + 0.05 * step for step in range(11))  # bins of the input IoU
CANDIDATES = 600  # drawn for every object, of which few stay
MEANING = """\
Read: where a head stops helping (its curve meets the diagonal), and which head is best for which input. Do
not read: that these are the paper's curves. Those are of detectors that were trained apart; here heads 2
and 3 learned from boxes that the heads before them had moved. The intervals of the figure are over
pictures, and say nothing of another training."""


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """Mean output IoU of every head by input IoU, on objects whose boxes were jittered.

    Shapes, for B bins of the input IoU, H heads and N pictures:
        edges: (B + 1,). thresholds: H, the IoU that each head was trained at.
        count: (N, B) boxes; before: (N, B) sum of their IoU; after: (H, N, B) sum of it after the head.
    """

    edges: np.ndarray
    thresholds: tuple[float, ...]
    count: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def inputs(self) -> np.ndarray:
        """Return the mean input IoU of every bin (B,); NaN where a bin is empty."""
        return _ratio(self.before.sum(0), self.count.sum(0))

    @property
    def outputs(self) -> np.ndarray:
        """Return the mean output IoU (H, B)."""
        return _ratio(self.after.sum(1), self.count.sum(0))

    def intervals(self, draws: int = 400, seed: int = 0) -> np.ndarray:
        """Return the 95 % interval of every mean output over resampled pictures, (2, H, B)."""
        return np.stack([ratio_intervals(sums, self.count, draws, seed) for sums in self.after], axis=1)

    def crossings(self) -> tuple[float, ...]:
        """Return for each head the input IoU from which on it makes boxes worse; 1 where it never does."""
        return tuple(crossing(self.inputs, row) for row in self.outputs)

    def difference(self, head: int, other: int, draws: int = 400, seed: int = 0) -> np.ndarray:
        """Return by how much ``head`` leaves better boxes than ``other``, bin by bin: (3, B).

        The rows are the difference of the mean IoU and its 95 % interval over resampled pictures.
        """
        gap = self.after[head] - self.after[other]
        value = _ratio(gap.sum(0), self.count.sum(0))
        return np.stack([value, *ratio_intervals(gap, self.count, draws, seed)])

    def text(self) -> str:
        names = "".join(f"{f'head {k + 1}':>10}" for k in range(len(self.thresholds)))
        lines = ["mean IoU after each head, by the IoU before", f"{'before':>8}{names}{'boxes':>9}"]
        for b, value in enumerate(self.inputs):
            row = "".join(f"{self.outputs[k, b]:10.3f}" for k in range(len(self.thresholds)))
            lines.append(f"{value:8.3f}{row}{int(self.count[:, b].sum()):9d}")
        meets = ", ".join(
            f"head {k + 1} (u = {u:g}) at {where:.2f}" if where < 1 else f"head {k + 1} (u = {u:g}) nowhere"
            for k, (u, where) in enumerate(zip(self.thresholds, self.crossings(), strict=True))
        )
        lines += [f"turns from help to harm: {meets}", "in the paper: u = 0.5 above 0.85"]
        return "\n".join([*lines, MEANING])


def localisation(
    observations: Sequence[Observation],
    per_bin: int = 4,
    seed: int = 0,
    edges: Sequence[float] = EDGES,
) -> Localisation:
    """Jitter every object, put the boxes to every head of the cascade, and compare before with after.

    Every object gives up to ``per_bin`` boxes to every bin. With class-aware deltas a box moves as its true
    class says, as positives do in training: the question is how the regressor moves it, not the classifier.
    """
    draw = torch.Generator().manual_seed(seed)
    bins = len(edges) - 1
    heads = observations[0].detector.cascade.config.stages
    count, before, after = [], [], [[] for _ in heads]
    for seen in observations:
        boxes, labels, matched = [], [], []
        for target, size in zip(seen.targets, seen.images.sizes, strict=True):
            objects = target.objects()
            assert objects.labels is not None
            box, row = jitter(objects.boxes.cpu(), size, draw, per_bin, edges)
            boxes.append(box.to(objects.boxes))
            row = row.to(objects.labels.device)
            labels.append(objects.labels[row])
            matched.append(objects.boxes[row])
        entering = [paired_iou(b, m) for b, m in zip(boxes, matched, strict=True)]
        places = [_bin_of(iou, edges) for iou in entering]
        count += [torch.bincount(place, minlength=bins) for place in places]
        before += [_sums(iou, place, bins) for iou, place in zip(entering, places, strict=True)]
        for k in range(len(heads)):
            moved = seen.ask(k, boxes, torch.cat(labels)).boxes
            leaving = [paired_iou(b, m) for b, m in zip(moved, matched, strict=True)]
            after[k] += [_sums(iou, place, bins) for iou, place in zip(leaving, places, strict=True)]
    return Localisation(
        edges=np.array(edges),
        thresholds=tuple(stage.iou for stage in heads),
        count=torch.stack(count).cpu().numpy(),
        before=torch.stack(before).cpu().numpy(),
        after=np.stack([torch.stack(head).cpu().numpy() for head in after]),
    )


def jitter(
    boxes: Tensor, size: tuple[int, int], draw: torch.Generator, per_bin: int, edges: Sequence[float] = EDGES
) -> tuple[Tensor, Tensor]:
    """Return boxes around each of ``boxes`` (M, 4), as many in every bin of IoU: (R, 4), and their rows (R,).

    A jitter moves the centre and changes the size by a random share of the box's own sides, and is clipped to
    the picture of ``size`` (H, W). A bin that the draws hardly reach gets fewer than ``per_bin``.
    """
    strength = torch.rand(len(boxes), CANDIDATES, 1, generator=draw) ** 2  # small moves, high IoUs, are rare
    moves = strength * (2 * torch.rand(len(boxes), CANDIDATES, 4, generator=draw) - 1)
    centre, sides = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2, boxes[:, None, 2:] - boxes[:, None, :2]
    centre, sides = centre + 0.5 * moves[..., :2] * sides, sides * moves[..., 2:].mul(math.log(2)).exp()
    made = clip(torch.cat([centre - sides / 2, centre + sides / 2], dim=-1), size)  # (M, CANDIDATES, 4)
    kept, rows = [], []
    for row, (box, candidates) in enumerate(zip(boxes, made, strict=True)):
        place = _bin_of(pairwise_iou(candidates, box[None])[:, 0], edges)
        chosen = [(place == b).nonzero()[:per_bin, 0] for b in range(len(edges) - 1)]
        kept.append(candidates[torch.cat(chosen)])
        rows.append(torch.full((len(kept[-1]),), row))
    if not kept:
        return boxes.new_zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    return torch.cat(kept), torch.cat(rows)


def crossing(inputs: np.ndarray, outputs: np.ndarray) -> float:
    """Return the last input at which the output falls below it, on straight lines between the points.

    1 where the last point still lies above the diagonal, and the first input where all lie below.
    """
    known = ~np.isnan(outputs)
    x, gain = inputs[known], (outputs - inputs)[known]
    if not len(gain) or gain[-1] >= 0:
        return 1.0
    helping = np.flatnonzero(gain >= 0)
    if not len(helping):
        return float(x[0])
    a = helping[-1]
    return float(x[a] + (x[a + 1] - x[a]) * gain[a] / (gain[a] - gain[a + 1]))


def _bin_of(iou: Tensor, edges: Sequence[float]) -> Tensor:
    """Return the bin (R,) of each IoU; -1 below the first edge, and the last bin holds its upper edge."""
    bounds = torch.tensor(edges, dtype=torch.float64, device=iou.device)
    return (torch.bucketize(iou.double(), bounds, right=True) - 1).clamp(max=len(edges) - 2)


def _sums(values: Tensor, place: Tensor, bins: int) -> Tensor:
    return torch.bincount(place, weights=values.double(), minlength=bins)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)
