"""Pasting masks measured: our kernel, all masks at once; ``grid_sample``, mask by mask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from cascade_lab.commands.bench_timing import (
    Clock,
    CudaClock,
    Effort,
    HostClock,
    compared,
    interleave,
    machine,
    short,
)
from cascade_lab.ops.masks import paste_masks, paste_masks_reference

SIDE = 28  # of a mask as the head answers it
EFFORT, QUICK = Effort(seconds=8.0, fewest=3), Effort(seconds=2.0, fewest=2)


class Shape(NamedTuple):
    """Masks, and the height and width of their picture."""

    masks: int
    h: int
    w: int


# full: one picture of COCO as the published models see it; nano: one of `make demo`.
SHAPES = {"full": Shape(100, 800, 1280), "nano": Shape(30, 128, 128)}


def bench_mask_paste(
    device: str,
    effort: Effort = EFFORT,
    clock: Clock | None = None,
    shapes: dict[str, Shape] = SHAPES,
) -> dict[str, Any]:
    """Measure all shapes on one thread, the loop over ours; return {"rows": [...], "machine": {...}}."""
    clock = clock or (CudaClock() if device == "cuda" else HostClock())
    before, rows = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for name, shape in tqdm(shapes.items(), disable=None, desc="bench mask_paste", unit="case"):
            told = compared(interleave(calls(shape, device), clock, effort), "mask by mask")
            row = {"name": name, "shape": list(shape), "dtype": "float32", "threads": 1, "backend": device}
            rows.append({key: short(value) for key, value in (row | told).items()})
    finally:
        torch.set_num_threads(before)
    return {"rows": rows, "machine": machine(device)}


def calls(shape: Shape, device: str) -> dict[str, Callable[[], Tensor]]:
    """Return both ways to paste the same masks, to be called: (D, H, W) bool."""
    random = torch.Generator().manual_seed(0)
    count, h, w = shape
    scores = torch.rand(count, SIDE, SIDE, generator=random)
    # Sides from a sixteenth to half of the picture's, as objects are: more small ones than large ones.
    extent = torch.tensor([w, h]) / 16 * 8 ** torch.rand(count, 2, generator=random)
    corner = torch.rand(count, 2, generator=random) * (torch.tensor([w, h]) - extent)
    boxes = torch.cat([corner, corner + extent], dim=1)
    inputs = (scores.to(device), boxes.to(device), (h, w))
    return {
        "mask by mask forward": partial(paste_masks_reference, *inputs),
        "our forward": partial(paste_masks, *inputs),
    }
