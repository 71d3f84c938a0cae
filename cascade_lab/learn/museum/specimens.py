"""What the exhibits measure on: the course's model and pictures."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from cascade_lab.heads.box_head import BoxHead
from cascade_lab.layers.dcnv3 import DCNv3
from cascade_lab.learn.course import course_pictures, course_run
from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.runs import Run
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.viz.museum import Curve

PICTURES, MANY, MOST = 4, 12, 24
NEAR = 0.5  # IoU from which a proposal counts as one of an object
SURE = 0.3  # score from which a detection counts
TIGHT = 0.9  # IoU of a tight box


@cache
def model() -> Run:
    """Return the course's model. It is shared, so nobody changes it."""
    return course_run()


@cache
def readable_model() -> Run:
    """Return the course's model with DCNv3 as plain PyTorch, in which a mistake can be planted."""
    run = course_run()
    for layer in run.detector.modules():
        if isinstance(layer, DCNv3):
            layer.backend = "grid_sample"
    return run


@cache
def still_model() -> Run:
    """Return the course's model with stages that move no box, as at the beginning of a training."""
    run = course_run()
    for head in run.detector.cascade.box_heads:
        assert isinstance(head, BoxHead)
        torch.nn.init.zeros_(head.regressor.weight)
        torch.nn.init.zeros_(head.regressor.bias)
    return run


@cache
def pictures(count: int = PICTURES) -> tuple[tuple[Tensor, Instances], ...]:
    """Return pictures (3, H, W) uint8 with their ground truth."""
    return tuple(course_pictures(count))


def batch(count: int = PICTURES) -> ImageBatch:
    """Return the pictures as the network takes them."""
    return ImageBatch.collate([picture for picture, _ in pictures(count)])


def as_shown(picture: Tensor) -> np.ndarray:
    """Return a picture (3, H, W) as (H, W, 3)."""
    return picture.permute(1, 2, 0).numpy()


def iou_by_stage(run: Run) -> Curve:
    """Return the mean IoU of the boxes near an object, as proposals and after each stage."""
    trace = run.detector.predict(batch()).trace
    sums, count = np.zeros(len(trace.stages) + 1), 0
    for i, (_, truth) in enumerate(pictures()):
        boxes = [trace.stages[0].proposals[i], *(stage.boxes[i] for stage in trace.stages)]
        near = pairwise_iou(boxes[0], truth.boxes).max(dim=1).values >= NEAR  # (R,)
        best = torch.stack([pairwise_iou(b[near], truth.boxes).max(dim=1).values for b in boxes])
        sums, count = sums + best.sum(dim=1).numpy(), count + int(near.sum())
    mean = sums / max(count, 1)
    return Curve(
        x=np.arange(len(mean)),
        y=mean,
        x_label="0: proposals; 1, 2, 3: after that stage",
        y_label="mean IoU with the object",
        value=float(mean[-1]),
        words="mean IoU after the last stage",
    )


def found_by_iou(run: Run) -> Curve:
    """Return which share of the objects a sure detection of their class finds, by the IoU asked for."""
    best = []
    for found, (_, truth) in zip(run.detector.predict(batch(MOST)).instances, pictures(MOST), strict=True):
        assert found.labels is not None and found.scores is not None and truth.labels is not None
        found, labels = found[found.scores > SURE], found.labels[found.scores > SURE]
        ious = pairwise_iou(truth.boxes, found.boxes) * (truth.labels[:, None] == labels)  # (M, D)
        best.append(ious.amax(dim=1) if len(found) else torch.zeros(len(truth)))
    iou = torch.cat(best)
    asked = np.arange(0.5, 0.99, 0.025)
    shares = np.array([100 * float((iou >= least).float().mean()) for least in asked.tolist()])
    return Curve(
        x=asked,
        y=shares,
        x_label="IoU asked for",
        y_label="objects found, %",
        value=100 * float((iou >= TIGHT).float().mean()),
        words=f"found at {TIGHT}, %:",
    )
