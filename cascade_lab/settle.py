"""What a recipe leaves open, filled in before the first step: classes, pictures, minutes, learning rate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cascade_lab.datasets import Dataset
from cascade_lab.detector import Detector
from cascade_lab.engine import checkpoint, distributed
from cascade_lab.errors import InputError
from cascade_lab.fit import fit_to_pictures, statistics, steps_for_minutes
from cascade_lab.ops.dcnv3 import choose
from cascade_lab.recipes import Recipe, from_dict, to_dict


def settle(asked: Recipe, dataset: Dataset, run: Path, resume: bool) -> Recipe:
    """Return the recipe that will be trained, the same in all processes.

    A resumed run keeps what it settled on when it began; only the data may have moved. Otherwise the main
    process decides for all: it may time a few steps, and no two clocks agree.
    """
    if resume:
        began = from_dict(json.loads((run / "recipe.json").read_text(encoding="utf-8"))["recipe"])
        return replace(began, data=replace(began.data, root=asked.data.root))
    return distributed.from_main(lambda: fill_in(asked, dataset))


def fill_in(asked: Recipe, dataset: Dataset) -> Recipe:
    """Fill in what the recipe leaves to the pictures and the batch; print what was chosen and why."""
    settled = replace(asked, detector=replace(asked.detector, num_classes=len(dataset.classes)))
    if settled.fit_to_data:
        settled, why = fit_to_pictures(settled, statistics(dataset))
        print("fitted to the pictures:", *why, sep="\n  ", flush=True)
    if settled.schedule.minutes is not None:
        settled, why = steps_for_minutes(settled, dataset)
        print(f"  {why}", flush=True)
    return scale_lr(settled)


def scale_lr(recipe: Recipe) -> Recipe:
    """Scale the learning rate in proportion to the batch, and say so; its own batch leaves it as it is.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.1. A rule of thumb: it was found for
    SGD, and the published 3x recipes take four times the batch with twice the rate.
    """
    optim, batch = recipe.optim, recipe.data.images_per_batch
    if optim.lr_for_batch in (None, batch):
        return recipe
    lr = optim.lr * batch / optim.lr_for_batch
    print(
        f"optim.lr: {optim.lr:g} is for batches of {optim.lr_for_batch}, so {lr:g} for batches of {batch};"
        f" --optim.lr {optim.lr:g} would keep it",
        flush=True,
    )
    return replace(recipe, optim=replace(optim, lr=lr, lr_for_batch=batch))


def start_of(asked: Recipe, weights: Path | None) -> dict[str, Any]:
    """Return what a run starts from, as plain values: the recipe and, wherever it lies, the file of weights.

    Raises:
        InputError: there is no such file.
    """
    if weights is None:
        return {"asked": to_dict(asked), "weights": None}
    if not weights.is_file():
        raise InputError(f"option --weights: {weights} is not there; cascade-lab weights get fetches it")
    return {
        "asked": to_dict(asked),
        "weights": {"file": weights.name, "sha256": checkpoint.sha256(weights)},
    }


def facts_of(settled: Recipe, dataset: Dataset) -> dict[str, Any]:
    """Return what a run became, as plain values: a resumed run must have the same start and facts."""
    return {
        "recipe": to_dict(settled),
        "classes": list(dataset.classes),
        "category_ids": list(dataset.category_ids),
        "training_images": len(dataset),
    }


def in_one_line(settled: Recipe, dataset: Dataset, detector: Detector, steps: int) -> str:
    """Return what will be trained on what, by whom."""
    parameters = sum(parameter.numel() for parameter in detector.parameters())
    device = next(detector.parameters()).device.type
    return (
        f"{settled.name}: {parameters:,} parameters, {len(dataset)} pictures, {len(dataset.classes)} classes,"
        f" {steps} steps of {settled.data.images_per_batch}, {distributed.world_size()} x {device},"
        f" {torch.get_num_threads()} threads, DCNv3 by {choose(device, torch.float32)}, seed {settled.seed}"
    )


def make_room(asked: Recipe, arguments: Sequence[str]) -> Recipe:
    """Let an option take the place of what it contradicts: another length of the run, the scaling of lr."""
    given = {word.split("=")[0].replace("-", "_").replace("__", "--", 1) for word in arguments}
    for length in ("steps", "epochs", "minutes"):
        if f"--schedule.{length}" in given:
            free = dict.fromkeys(("steps", "epochs", "minutes")) | {length: 1}
            asked = replace(asked, schedule=replace(asked.schedule, **free))
            break
    if "--optim.lr" in given:
        asked = replace(asked, optim=replace(asked.optim, lr_for_batch=None))
    return asked
