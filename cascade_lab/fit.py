"""Fit a recipe to pictures: what the training annotations say about scale, crop, anchors and steps.

Small detectors learn objects of some thirty pixels best: large enough for a shape, small enough for the
backbone's field of view and for a laptop. So pictures are scaled until the typical object has that side,
anchors start at the small objects, and a crop holds a few of the large ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from statistics import median

import torch

from cascade_lab.datasets import Dataset
from cascade_lab.datasets.loader import training_batches
from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.recipes import Recipe
from cascade_lab.targets.sampler import random_choice

OBJECT_SIDE = 32.0  # pixels that the typical object should have at the network
LONG_SIDE = (256, 512)  # pixels between which the long side of a typical picture must come to lie
CROP_SIDE = (192, 256)
SCALE_JITTER = (0.7, 1.4)
TIMED_STEPS = 6
RESERVE = 0.93  # share of the allowed minutes that is planned; the rest is checkpoints and chance


@dataclass(frozen=True)
class Statistics:
    """What a training split looks like; sides are square roots of box areas, in original pixels."""

    pictures: int
    long_side: float  # median over pictures
    short_side: float
    small: float  # 10th percentile of object sides
    typical: float  # median
    large: float  # 90th percentile
    crowded: int  # most objects in one picture
    per_megapixel: float  # objects per million original pixels
    has_masks: bool


def statistics(dataset: Dataset) -> Statistics:
    """Measure a training split. Raises InputError where there is not a single object."""
    sides, counts, pixels, has_masks = [], [], 0, False
    for index, (h, w) in enumerate(dataset.sizes):
        objects = dataset.targets(index).objects()
        boxes = objects.boxes
        sides.append(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt())
        counts.append(len(objects))
        pixels += h * w
        has_masks = has_masks or objects.masks is not None
    side = torch.cat(sides)
    if len(side) == 0:
        raise InputError(f"{dataset.annotation_path}: annotations: no object to learn from; annotate some")
    small, typical, large = side.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    return Statistics(
        pictures=len(dataset),
        long_side=median(max(size) for size in dataset.sizes),
        short_side=median(min(size) for size in dataset.sizes),
        small=small,
        typical=typical,
        large=large,
        crowded=max(counts),
        per_megapixel=len(side) / pixels * 1e6,
        has_masks=has_masks,
    )


def fit_to_pictures(recipe: Recipe, seen: Statistics) -> tuple[Recipe, list[str]]:
    """Return the recipe with scale, crop, anchors and counts set, and a line for each choice."""
    wish = OBJECT_SIDE / seen.typical
    low, high = LONG_SIDE[0] / seen.long_side, LONG_SIDE[1] / seen.long_side
    factor = round(min(max(wish, low), high), 3)
    small, large = seen.small * factor, seen.large * factor
    crop = _multiple_of_32(4 * large, *CROP_SIDE)
    anchor_scale = round(min(max(0.85 * small / 4, 2.0), 8.0), 2)
    per_crop = seen.per_megapixel / factor**2 * crop**2 / 1e6
    rois = 128 if per_crop > 8 else 64
    proposals = min(max(3 * seen.crowded, 150), 400)
    objects = f"{seen.small:.0f}, {seen.typical:.0f}, {seen.large:.0f} px (10, 50, 90 %)"
    why = [
        f"{seen.pictures} pictures of about {seen.long_side:.0f} x {seen.short_side:.0f}, objects {objects},"
        f" at most {seen.crowded} in a picture",
        f"scale {factor:g}: the typical object gets {seen.typical * factor:.0f} px (wish {OBJECT_SIDE:.0f}),"
        f" the picture {seen.long_side * factor:.0f} px (allowed {LONG_SIDE[0]} to {LONG_SIDE[1]})",
        f"training scale {factor * SCALE_JITTER[0]:.2f} to {factor * SCALE_JITTER[1]:.2f}, crops of {crop}"
        f" px: four of the large objects ({large:.0f} px) side by side",
        f"anchors {4 * anchor_scale:.0f} to {64 * anchor_scale:.0f} px: from just below the small objects"
        f" ({small:.0f} px) up",
        f"{rois} boxes per crop for the heads (about {per_crop:.0f} objects in a crop), {proposals} proposals"
        f" per picture at test time",
    ]
    augment = replace(
        recipe.data.augment,
        test_scale=factor,
        scale=(round(factor * SCALE_JITTER[0], 3), round(factor * SCALE_JITTER[1], 3)),
        crop=crop,
        tight_boxes=seen.has_masks,
    )
    detector, cascade, rpn = recipe.detector, recipe.detector.cascade, recipe.detector.rpn
    rpn = replace(
        rpn,
        anchor_scales=(anchor_scale,),
        inference=replace(rpn.inference, before_nms=2 * proposals, after_nms=proposals),
    )
    cascade = replace(cascade, sampler=replace(cascade.sampler, num=rois))
    if not seen.has_masks:
        why.append("no masks in the annotations: no mask heads")
        cascade = replace(cascade, mask_stages=())
    return (
        replace(
            recipe,
            data=replace(recipe.data, augment=augment),
            detector=replace(detector, rpn=rpn, cascade=cascade),
        ),
        why,
    )


def steps_for_minutes(
    recipe: Recipe, dataset: Dataset, clock: Callable[[], float] = time.perf_counter
) -> tuple[Recipe, str]:
    """Turn the allowed minutes into steps by timing a few on a throw-away detector."""
    minutes = recipe.schedule.minutes
    if minutes is None:
        raise ValueError("this recipe does not say how many minutes it may take")
    torch.manual_seed(recipe.seed)
    detector = Detector(recipe.detector).train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.0)
    seconds = []
    for batch in islice(training_batches(dataset, recipe.data, recipe.seed, 0, TIMED_STEPS), TIMED_STEPS):
        start = clock()
        output = detector(batch.images, batch.targets, random_choice(batch.seeds))
        optimizer.zero_grad()
        output.total.backward()
        optimizer.step()
        seconds.append(clock() - start)
    each = median(seconds[1:])  # the first one warms up
    steps = max(int(minutes * 60 * RESERVE / each), 1)
    schedule = replace(recipe.schedule, minutes=None, steps=steps)
    return replace(recipe, schedule=schedule), f"{steps} steps: {minutes:g} minutes at {each:.2f} s a step"


def _multiple_of_32(value: float, low: int, high: int) -> int:
    return int(min(max(round(value / 32) * 32, low), high))
