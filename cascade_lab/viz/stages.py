"""What each cascade stage did to a box: strips that follow detections back to their proposals, and IoUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.ops.masks import paste_masks
from cascade_lab.structures import Instances
from cascade_lab.trace import StageTrace, Trace
from cascade_lab.viz.boxes import add_box, add_note, add_tag, overlay_masks, show_picture
from cascade_lab.viz.palette import FAINT, INK, PALE, PROPOSAL, TRUTH, LineLook, class_colour, stage_look

PANEL, GAP, TITLE = 3.1, 0.07, 0.56  # inches: width of a panel, space between panels, height of the titles


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Some detections of one picture, followed from proposal through every stage.

    Shapes, for D detections and S stages:
        boxes: (S + 1, D, 4) xyxy, the proposals first.
        scores: (S, D), the score that each stage gives to the label of the detection.
        labels, final_scores: (D,); masks: (D, H, W) bool or None.
        objects: (D, 4) the object of that class that the last box overlaps best, all 0 where it overlaps
            none; None where no ground truth is given.
        truth: (S + 1, D) IoU of every box with that object, or None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    final_scores: np.ndarray
    masks: np.ndarray | None
    truth: np.ndarray | None
    objects: np.ndarray | None


def follow(trace: Trace, index: int, top: int, targets: Instances | None = None, score: float = 0.0) -> Steps:
    """Look up the ``top`` best detections of picture ``index`` in every stage.

    ``trace`` and ``targets`` must be in the same frame. Raises ValueError for a trace of training.
    """
    found = trace.detections
    if found is None:
        raise ValueError("this trace holds no detections; it must come from predict")
    best = found.scores[index].argsort(descending=True)[:top]
    best = best[found.scores[index][best] >= score]
    rows, labels = found.rows[index][best], found.labels[index][best]
    boxes = torch.stack(
        [trace.stages[0].proposals[index][rows], *(s.boxes[index][rows] for s in trace.stages)]
    )
    said = [stage.logits[index][rows].softmax(-1) for stage in trace.stages]
    scores = torch.stack([p.gather(1, labels[:, None])[:, 0] for p in said])
    masks = None
    if found.mask_logits:
        votes = torch.stack([logits[index][best].sigmoid() for logits in found.mask_logits.values()])
        masks = _numpy(paste_masks(votes.mean(0), found.boxes[index][best], trace.sizes[index]))
    truth = objects = None
    if targets is not None:
        matched = _best_object(boxes[-1], labels, targets)[1]
        truth = _numpy(torch.stack([pairwise_iou(step, matched).diagonal() for step in boxes]))
        objects = _numpy(matched)
    return Steps(
        boxes=_numpy(boxes),
        scores=_numpy(scores),
        labels=_numpy(labels),
        final_scores=_numpy(found.scores[index][best]),
        masks=masks,
        truth=truth,
        objects=objects,
    )


def stage_strip(
    picture: np.ndarray,
    trace: Trace,
    classes: Sequence[str],
    index: int = 0,
    targets: Instances | None = None,
    top: int = 6,
    closeups: int = 2,
    score: float = 0.0,
) -> Figure:
    """Draw a picture once for the proposals, once a stage and once with masks; below, the best ones enlarged.

    Every panel shows the same detections under the same numbers. Enlarged, the box of the step before stays
    as a dotted outline; ground truth, where it is given, is a dashed white one, with the IoU beside it.

    Shapes:
        picture: (H, W, 3) uint8, RGB, in the frame of ``trace``; for a file, ``trace.to_original()``.
        targets: objects of that picture in the same frame, or None.
    """
    steps = follow(trace, index, top, targets, score)
    thresholds = [stage.iou_threshold for stage in trace.stages]
    masked = picture
    if steps.masks is not None:
        masked = overlay_masks(picture, steps.masks, [class_colour(int(c)) for c in steps.labels])
    closeups = min(closeups, len(steps.labels))
    figure, rows = _grid(picture.shape[:2], len(thresholds) + 2, closeups)
    for column, (title, subtitle) in enumerate(_titles(steps, thresholds)):
        last = column == len(thresholds) + 1
        shown = masked if last else picture
        show_picture(rows[0][column], shown)
        for d in reversed(range(len(steps.labels))):  # the best on top
            _draw_box(rows[0][column], steps, column, d)
        for d, axes in enumerate(row[column] for row in rows[1:]):
            show_picture(axes, shown)
            _zoom(axes, _seen(steps, d), picture.shape[:2])
            _draw_context(axes, steps, column, d)
            _draw_box(axes, steps, column, d)
            add_note(axes, _closeup_note(steps, column, d, classes), 12)
        rows[0][column].set_title(subtitle, fontsize=11, color=FAINT, loc="left", pad=4)
        rows[0][column].annotate(
            title, (0, 1), xytext=(0, 21), xycoords="axes fraction", textcoords="offset points",
            fontsize=14, fontweight="bold", color=INK,
        )  # fmt: skip
    return figure


def stage_input_ious(stages: Sequence[StageTrace], targets: Sequence[Instances]) -> list[np.ndarray]:
    """Return, for every stage, the IoU of each box that enters it with the best object, whatever its class.

    Ground truths that were added to the proposals are left out: they would all count as 1.
    ``targets`` holds one Instances a picture, in the frame of the trace.
    """
    collected = []
    for stage in stages:
        per_image = [
            _numpy(_best_object(boxes[~is_target], None, wanted)[0])
            for boxes, is_target, wanted in zip(stage.proposals, stage.is_target, targets, strict=True)
        ]
        collected.append(np.concatenate(per_image) if per_image else np.zeros(0))
    return collected


def _best_object(boxes: Tensor, labels: Tensor | None, targets: Instances) -> tuple[Tensor, Tensor]:
    """Return for each box the best IoU (R,) and that object (R, 4), of its class where labels are given."""
    objects = targets.objects()
    if not len(objects) or not len(boxes):
        return boxes.new_zeros(len(boxes)), boxes.new_zeros(len(boxes), 4)
    iou = pairwise_iou(boxes, objects.boxes.to(boxes))
    if labels is not None and objects.labels is not None:
        iou = iou * (labels[:, None] == objects.labels.to(labels))
    best, which = iou.max(1)
    return best, objects.boxes.to(boxes)[which] * (best > 0)[:, None]


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def _grid(size: tuple[int, int], columns: int, closeups: int) -> tuple[Figure, list[list[Axes]]]:
    """Lay out one row of whole pictures and ``closeups`` rows of square panels, measured in inches."""
    heights = [PANEL * size[0] / size[1], *[PANEL] * closeups]
    width = columns * (PANEL + GAP) + GAP
    height = TITLE + sum(heights) + GAP * len(heights)
    figure = Figure(figsize=(width, height), dpi=100)
    rows, top = [], height - TITLE
    for h in heights:
        lefts = [GAP + column * (PANEL + GAP) for column in range(columns)]
        rows.append(
            [figure.add_axes((x / width, (top - h) / height, PANEL / width, h / height)) for x in lefts]
        )
        top -= h + GAP
    return figure, rows


def _titles(steps: Steps, thresholds: Sequence[float]) -> list[tuple[str, str]]:
    def mean(step: int) -> str:
        known = steps.truth is not None and len(steps.labels)
        return f"mean IoU {steps.truth[step].mean():.2f}" if known else ""  # type: ignore[index]

    stages = [
        (f"stage {k + 1}", " · ".join(filter(None, (f"trained at IoU {threshold:g}", mean(k + 1)))))
        for k, threshold in enumerate(thresholds)
    ]
    voters = f"mean of {len(thresholds)} stages" if len(thresholds) > 1 else "read from the one stage"
    return [("proposals", mean(0) or "what the RPN found"), *stages, ("detections", f"score: {voters}")]


def _draw_box(axes: Axes, steps: Steps, column: int, d: int) -> None:
    last = len(steps.scores)  # the column of the last stage; the one after it shows the detections
    box = steps.boxes[min(column, last), d].tolist()
    look = _look(column, last, int(steps.labels[d]))
    add_box(axes, box, look)
    add_tag(axes, box, str(d + 1), look.colour, 10)


def _draw_context(axes: Axes, steps: Steps, column: int, d: int) -> None:
    """Draw what a box has to be compared with: the object, and where it was a step before."""
    if 0 < column <= len(steps.scores):
        add_box(axes, steps.boxes[column - 1, d].tolist(), PROPOSAL, alpha=0.85)
    if steps.objects is not None and steps.objects[d].any():
        add_box(axes, steps.objects[d].tolist(), TRUTH)


def _look(column: int, last: int, label: int) -> LineLook:
    if column == 0:
        return LineLook(colour=PALE, style=PROPOSAL.style)
    return stage_look(column - 1) if column <= last else LineLook(colour=class_colour(label), style="solid")


def _closeup_note(steps: Steps, column: int, d: int, classes: Sequence[str]) -> str:
    last = len(steps.scores)
    if column > last:
        return f"{classes[int(steps.labels[d])]} {100 * steps.final_scores[d]:.0f}"
    words = [f"score {100 * steps.scores[column - 1, d]:.0f}"] if column else []
    words += [f"IoU {steps.truth[column, d]:.2f}"] if steps.truth is not None else []
    return " · ".join(words)


def _seen(steps: Steps, d: int) -> np.ndarray:
    """Return all that a close-up has to show: (S + 1, 4), or one more with the object."""
    if steps.objects is None or not steps.objects[d].any():
        return steps.boxes[:, d]
    return np.concatenate([steps.boxes[:, d], steps.objects[d : d + 1]])


def _zoom(axes: Axes, boxes: np.ndarray, size: tuple[int, int]) -> None:
    """Look at a square around all that one detection went through, a quarter wider than it."""
    (x1, y1), (x2, y2) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    side = min(1.25 * max(x2 - x1, y2 - y1, 8.0), *size) if max(x2 - x1, y2 - y1) <= min(size) else max(size)
    height, width = size
    left = np.clip((x1 + x2 - side) / 2, 0, max(0, width - side))
    top = np.clip((y1 + y2 - side) / 2, 0, max(0, height - side))
    axes.set(xlim=(left, left + side), ylim=(top + side, top))
