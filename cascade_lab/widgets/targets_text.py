"""What the targets viewer says in words and numbers, one function a tab; the browser says the same."""

from __future__ import annotations

import math

import numpy as np
import torch

from cascade_lab.layers.roi_pooler import level_of
from cascade_lab.ops.boxes import pairwise_iou, scale
from cascade_lab.widgets.targets_view import AnchorsView, SuppressionView, TargetsView


def describe_cell(view: TargetsView, level: int, cell: int) -> str:
    """Return where a cell stands, and a line for each of its anchors: size, best IoU and verdict."""
    anchors, index = view.anchors, cell_anchors(view.anchors, level, cell)
    row, column = divmod(cell, anchors.grids[level][1])
    stride = anchors.strides[level]
    lines = [
        f"Cell in row {row}, column {column} of level {anchors.level_name(level)}. "
        f"Its anchors are centred on x {column * stride}, y {row * stride}."
    ]
    for number in range(index.start, index.stop):
        x1, y1, x2, y2 = anchors.boxes[number].tolist()
        size = f"{x2 - x1:.1f} × {y2 - y1:.1f}"
        lines.append(f"{size}: best IoU {anchors.iou[number]:.2f}, {verdict(view, number)}")
    return "\n".join(lines)


def cell_anchors(anchors: AnchorsView, level: int, cell: int) -> slice:
    """Return where the anchors of one cell, counted along the rows of its level, stand."""
    first = anchors.starts()[level] + cell * anchors.shapes
    return slice(first, first + anchors.shapes)


def verdict(view: TargetsView, anchor: int) -> str:
    """Return what the assigner made of an anchor."""
    target = int(view.anchors.target_index[anchor])
    if target >= 0:
        rescued = ", rescued" if view.anchors.iou[anchor] < np.float32(view.anchors.positive_iou) else ""
        return f"positive for {view.target_name(target)}{rescued}"
    return "negative" if target == -1 else "neither"


def describe_sample(view: TargetsView, source: int, number: int) -> str:
    """Return what one sampled box is to its loss."""
    sample = view.samples[source]
    words = f"Box {number + 1} of {len(sample.boxes)}"
    if sample.is_target[number]:
        return f"{words}: positive, an object's own box that was put among the proposals."
    if number < sample.positives:
        rescued = ", rescued" if sample.iou[number] < np.float32(sample.positive_iou) else ""
        return f"{words}: positive{rescued}, IoU {sample.iou[number]:.2f} with its object."
    return f"{words}: negative, its best IoU is {sample.iou[number]:.2f}."


def sample_table(view: TargetsView) -> str:
    """Return how many boxes each loss could choose from and took, and how good those to choose from are."""
    lines = [
        f"{'':8s}  positive if |     to choose from     |  sampled  | share of proposals with IoU",
        f"{'':8s}             |  pos    neg   neither  | pos   neg | >= .5   >= .6   >= .7",
    ]
    for sample in view.samples:
        shares = (share(sample.entering_iou, least) for least in (0.5, 0.6, 0.7))
        positive, negative, unused = sample.available
        lines.append(
            f"{sample.name:8s}   IoU >= {sample.positive_iou:.1f} |"
            f"{positive:5d}{negative:7d}{unused:8d}    |"
            f"{sample.positives:4d}{len(sample.boxes) - sample.positives:6d} |"
            + "".join(f"{100 * value:4.0f} %  " for value in shares)
        )
    return "\n".join(lines)


def share(ious: np.ndarray, least: float) -> float:
    """Return the share of IoUs that are at least ``least``; 0 of none."""
    return float((ious >= np.float32(least)).mean()) if len(ious) else 0.0


def describe_level(view: TargetsView, box: int, zoom: float = 1.0) -> str:
    """Return the formula of the pyramid level with its numbers, for a picture enlarged ``zoom`` times."""
    reading, level = view.reading, level_at(view, box, zoom)
    corners = scale(torch.from_numpy(reading.boxes[[box]]), (zoom, zoom))
    x1, y1, x2, y2 = corners[0].tolist()
    side = math.sqrt((x2 - x1) * (y2 - y1))
    height = math.log2(side / reading.canonical_size + 1e-6)  # as level_of: text and level cannot differ
    return (
        f"Side of {reading.names[box]}: √({x2 - x1:.1f} × {y2 - y1:.1f}) = {side:.1f} pixels\n"
        f"log2({side:.1f} / {reading.canonical_size:g}) = {height:.2f}, rounded down {math.floor(height)}, "
        f"kept within 0 … {len(reading.strides) - 1}\n"
        f"Level of {reading.names[box]}: {view.anchors.level_name(level)}, "
        f"where a cell is {reading.strides[level]} pixels wide."
    )


def level_at(view: TargetsView, box: int, zoom: float) -> int:
    """Return the level that a box is read from if the picture is enlarged ``zoom`` times."""
    corners = scale(torch.from_numpy(view.reading.boxes[[box]]), (zoom, zoom))
    return int(level_of(corners, len(view.reading.strides), view.reading.canonical_size))


def describe_bin(view: TargetsView, box: int, number: int) -> str:
    """Return how many samples a bin takes, and their mean, which is what the head reads."""
    reading = view.reading
    row, column = divmod(number, reading.pooled.shape[2])
    down, across = (
        int(np.isfinite(samples[box, place]).sum())
        for samples, place in ((reading.rows, row), (reading.columns, column))
    )
    return (
        f"Bin in row {row}, column {column} of {reading.names[box]}, "
        f"on level {view.anchors.level_name(int(reading.levels[box]))}: "
        f"{down} × {across} samples, mean {reading.pooled[box, row, column]:.3f}."
    )


def describe_step(view: TargetsView, level: int, step: int) -> str:
    """Return which box stays in a step of NMS, and a line for each box that falls to it."""
    nms, kept = view.suppression[level], view.suppression[level].kept()
    if not kept:
        return f"There are no boxes on level {view.anchors.level_name(level)}."
    best = kept[step]
    fallen = np.flatnonzero(nms.by == best).tolist()
    lines = [
        f"Step {step + 1} of {len(kept)}: box {best + 1}, score {nms.scores[best]:.3f}, stays. "
        f"{len(fallen)} of {waiting(nms, step)} waiting boxes overlap it by more than {nms.threshold:g} "
        "and fall."
    ]
    ious = pairwise_iou(torch.from_numpy(nms.boxes[[best]]), torch.from_numpy(nms.boxes))[0]
    lines += [f"box {j + 1}, score {nms.scores[j]:.3f}: IoU {ious[j]:.2f}" for j in fallen]
    return "\n".join(lines)


def waiting(nms: SuppressionView, step: int) -> int:
    """Return how many boxes a step finds undecided, the one that it keeps not counted."""
    kept = nms.kept()
    return len(nms.by) - step - 1 - int(np.isin(nms.by, kept[:step]).sum())
