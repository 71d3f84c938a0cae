"""What a recipe does not say itself: what follows from its fields, and what was published about it."""

from __future__ import annotations

import math
from typing import Any

import torch

from cascade_lab.detector import Detector
from cascade_lab.recipes import Recipe, recipe
from cascade_lab.recipes.published import COCO, COCO_PICTURES
from cascade_lab.recipes.zoo import FIGURES, checkpoint_address, classifier_of, log_address


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
    }


def published(asked: Recipe) -> dict[str, Any]:
    """Return the weights that fit the backbone, and what was published about exactly this recipe.

    Nothing about a recipe of which one field is another; None for what was not published.
    """
    start = classifier_of(asked.detector.backbone)
    found: dict[str, Any] = {"classification_weights": start.address} if start else {}
    if asked.name in FIGURES and asked == recipe(asked.name):
        found["box_AP"] = FIGURES[asked.name].box_ap
        found["mask_AP"] = FIGURES[asked.name].mask_ap
        found["checkpoint"] = checkpoint_address(asked.name)
        found["log"] = log_address(asked.name)
    return found


def _parameters(detector: Detector) -> dict[str, int]:
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in detector.named_children()}
    return {"parameters": sum(parts.values())} | {f"parameters_of_{name}": n for name, n in parts.items()}


def _anchor_sides(asked: Recipe) -> list[float]:
    strides = asked.detector.backbone.strides
    return [
        stride * scale for stride in (*strides, 2 * strides[-1]) for scale in asked.detector.rpn.anchor_scales
    ]


def _lengths(asked: Recipe) -> dict[str, Any]:
    """Return what is known of the run in steps: for COCO, or where the recipe itself says steps.

    Where pictures are grouped by shape, an epoch may be a step longer: it depends on how many are wide.
    """
    schedule, batch = asked.schedule, asked.data.images_per_batch
    per_epoch = math.ceil(COCO_PICTURES / batch)
    found: dict[str, Any] = {}
    if all(
        getattr(asked.data, name) == getattr(COCO, name) for name in ("root", "train_split", "keep_empty")
    ):
        found["steps_per_epoch"] = per_epoch
    if schedule.steps is None and not (found and schedule.epochs):
        return found
    pictures = per_epoch * batch if asked.data.group_by_aspect else COCO_PICTURES  # grouped: whole batches
    total = schedule.total_steps(pictures, batch)
    found["total_steps"] = total
    if schedule.decay == "step":
        found["lr_drops_at_steps"] = [round(at * total) for at in schedule.decay_at]
    return found
