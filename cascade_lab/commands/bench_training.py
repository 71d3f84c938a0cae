"""A training step of ``make demo`` measured: with our kernels, and in plain PyTorch and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from cascade_lab.commands.bench_timing import Clock, Effort, HostClock, compared, interleave, machine, short
from cascade_lab.datasets.catalog import load_dataset
from cascade_lab.datasets.loader import Batch, training_batches
from cascade_lab.detector import Detector
from cascade_lab.engine.optim import build_optimizer
from cascade_lab.kernels import machines
from cascade_lab.recipes import Recipe, nano
from cascade_lab.targets.sampler import random_choice

EFFORT, QUICK = Effort(seconds=60.0, fewest=8, most=40), Effort(seconds=12.0, fewest=3, most=8)


def bench_training(
    root: str, effort: Effort = EFFORT, clock: Clock | None = None, recipe: Recipe | None = None
) -> dict[str, Any]:
    """Measure one thread, in turn; return {"rows": [...], "machine": {...}}.

    A round is the same batch for both: forward alone, and forward, backward and optimizer. Every round is
    another batch. Raises InputError where there are no pictures in ``root``.
    """
    recipe = recipe or nano()
    data = replace(recipe.data, root=root)
    dataset = load_dataset(data, data.train_split, training=True)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        batches = list(training_batches(dataset, data, recipe.seed, 0, effort.most + 1))
        contestants = {}
        for label in ("grid_sample", "our"):
            torch.manual_seed(recipe.seed)
            found = steps(Detector(recipe.detector).train(), recipe, batches)
            contestants |= {f"{label} {what}": _plain(call) if label == "grid_sample" else call
                            for what, call in found.items()}  # fmt: skip
        with tqdm(total=effort.most + 1, disable=None, desc="bench training", unit="round") as bar:
            times = interleave(contestants, clock or HostClock(), effort, after_round=bar.update)
    finally:
        torch.set_num_threads(before)
    row = {
        "name": f"step of {recipe.name}",
        "shape": list(batches[0].images.pixels.shape),
        "dtype": "float32",
        "threads": 1,
        "backend": "cpu",
        **compared(times),
    }
    return {"rows": [{key: short(value) for key, value in row.items()}], "machine": machine("cpu")}


def steps(detector: Detector, recipe: Recipe, batches: list[Batch]) -> dict[str, Callable[[], object]]:
    """Return a forward pass and a whole step, each of the next batch whenever it is called."""
    optimizer = build_optimizer(detector, recipe.optim)
    at = {"forward": 0, "both": 0}

    def loss(name: str) -> torch.Tensor:
        batch = batches[at[name] % len(batches)]
        at[name] += 1
        return detector(batch.images, batch.targets, random_choice(batch.seeds)).total

    def step() -> None:
        optimizer.zero_grad()
        loss("both").backward()
        optimizer.step()

    return {"forward": torch.no_grad()(lambda: loss("forward")), "both": step}


def _plain(call: Callable[[], object]) -> Callable[[], object]:
    def without() -> object:
        with machines.switched_off():
            return call()

    return without
