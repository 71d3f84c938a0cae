"""What follows from the fields of a recipe, for people to read: counted or computed, never stored."""

from __future__ import annotations

import math
from typing import Any

import torch

from cascade_lab.detector import Detector
from cascade_lab.recipes import Recipe, recipe
from cascade_lab.recipes.published import COCO
from cascade_lab.recipes.zoo import FIGURES, checkpoint_address, classifier_of, log_address

COCO_PICTURES = 117_266  # of train2017, those with an object to train on


def derived(asked: Recipe) -> dict[str, Any]:
    """Return names and plain JSON values, in the order in which the recipe's fields stand.

    Parameters are counted on a detector without memory. Steps an epoch are known for COCO only: of other
    data sets nothing is known before they are read.
    """
    with torch.device("meta"):
        detector = Detector(asked.detector)
    return {
        **_parameters(detector),
        "layers_of_lr_decay": detector.num_layers,
        "lr_of_stem": asked.optim.lr * asked.optim.layer_decay ** (detector.num_layers + 1),
        "anchor_sides": _anchor_sides(asked),
        **_lengths(asked),
        **_published(asked),
    }


def _parameters(detector: Detector) -> dict[str, int]:
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in detector.named_children()}
    return {"parameters": sum(parts.values())} | {f"parameters_of_{name}": n for name, n in parts.items()}


def _anchor_sides(asked: Recipe) -> list[float]:
    strides = asked.detector.backbone.strides
    return [
        stride * scale for stride in (*strides, 2 * strides[-1]) for scale in asked.detector.rpn.anchor_scales
    ]


def _lengths(asked: Recipe) -> dict[str, Any]:
    """Return what is known of the run in steps: for COCO, or where the recipe itself says steps."""
    schedule, batch = asked.schedule, asked.data.images_per_batch
    coco = (asked.data.root, asked.data.train_split) == (
        COCO.root,
        COCO.train_split,
    ) and not asked.fit_to_data
    found: dict[str, Any] = {}
    if coco and not asked.data.keep_empty:
        found["steps_per_epoch"] = math.ceil(COCO_PICTURES / batch)
    if schedule.steps is None and not (found and schedule.epochs):
        return found
    total = schedule.total_steps(COCO_PICTURES, batch)
    found["total_steps"] = total
    if schedule.decay == "step":
        found["lr_drops_at_steps"] = [round(at * total) for at in schedule.decay_at]
    return found


def _published(asked: Recipe) -> dict[str, Any]:
    """Return the weights to start from, and what was published about exactly this recipe."""
    found: dict[str, Any] = {}
    start = classifier_of(asked.detector.backbone)
    if start:
        found["classification_weights"] = start.address
    if asked.name in FIGURES and asked == recipe(asked.name):
        figures = FIGURES[asked.name]
        found["published_box_AP"] = figures.box_ap
        found["published_mask_AP"] = figures.mask_ap
        found["checkpoint"] = checkpoint_address(asked.name)
        found["log"] = log_address(asked.name)
    return found
