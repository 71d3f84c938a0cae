"""RoIAlign over a pyramid measured: our kernels, all levels at once; torchvision's, level by level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from cascade_lab.layers.roi_pooler import level_of
from cascade_lab.ops.roi_align import Backend, pyramid_roi_align

STRIDES = (4, 8, 16, 32)
EFFORT, QUICK = Effort(seconds=12.0, fewest=3), Effort(seconds=4.0, fewest=2)


class Shape(NamedTuple):
    """Pictures, their side, channels, rois, bins of a side."""

    n: int
    side: int
    c: int
    rois: int
    bins: int


# full: the box heads of the published models on one picture; nano: box and mask heads of `make demo`.
SHAPES = {
    "full": Shape(1, 512, 256, 512, 7),
    "nano boxes": Shape(4, 128, 32, 256, 7),
    "nano masks": Shape(4, 128, 32, 64, 14),
}


def bench_roi_align(
    device: str, threads: Sequence[int], effort: Effort = EFFORT, clock: Clock | None = None,
    shapes: dict[str, Shape] = SHAPES,
) -> dict[str, Any]:  # fmt: skip
    """Measure all shapes; return {"rows": [...], "machine": {...}}, with torchvision's time over ours."""
    clock = clock or (CudaClock() if device == "cuda" else HostClock())
    asked = [(count, name) for count in threads for name in shapes]
    before, rows = torch.get_num_threads(), []
    try:
        for count, name in tqdm(asked, disable=None, desc="bench roi_align", unit="case"):
            torch.set_num_threads(count)
            maps, rois, grad = tensors(shapes[name], device)
            contestants = {
                f"{label} {what}": call
                for label, backend in (("torchvision", "torchvision"), ("our", device))
                for what, call in calls(maps, rois, grad, backend).items()  # type: ignore[arg-type]
            }
            told = compared(interleave(contestants, clock, effort), "torchvision")
            row = {"name": name, "shape": list(shapes[name]), "dtype": "float32", "threads": count,
                   "backend": device, **told}  # fmt: skip
            rows.append({key: short(value) for key, value in row.items()})
    finally:
        torch.set_num_threads(before)
    return {"rows": rows, "machine": machine(device)}


def tensors(shape: Shape, device: str) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return a pyramid, rois (R, 5) with sides from 16 pixels to half the picture, and a gradient."""
    random = torch.Generator().manual_seed(0)
    n, side, c, rois, bins = shape
    maps = [torch.randn(n, c, side // s, side // s, generator=random) for s in STRIDES]
    extent = 16 * (side / 32) ** torch.rand(rois, 2, generator=random)
    corner = torch.rand(rois, 2, generator=random) * (side - extent)
    picture = (torch.arange(rois) % n)[:, None]
    boxes = torch.cat([picture, corner, corner + extent], dim=1)
    grad = torch.randn(rois, c, bins, bins, generator=random)
    return [level.to(device).requires_grad_() for level in maps], boxes.to(device), grad.to(device)


def calls(
    maps: list[Tensor], rois: Tensor, grad: Tensor, backend: Backend
) -> dict[str, Callable[[], object]]:
    levels = level_of(rois[:, 1:], len(maps))
    scales = [1.0 / stride for stride in STRIDES]

    def forward() -> Tensor:
        return pyramid_roi_align(maps, rois, levels, grad.shape[-1], scales, backend=backend)

    return {
        "forward": torch.no_grad()(forward),
        "both": lambda: torch.autograd.grad(forward(), maps, grad),
    }
