"""A whole InternImage-T measured: our DCNv3 kernels against the usual way over ``grid_sample``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cascade_lab.backbones.internimage import InternImage, InternImageConfig
from cascade_lab.commands.bench_baselines import usual_dcnv3
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
from cascade_lab.layers.dcnv3 import DCNv3
from cascade_lab.ops.dcnv3 import Backend

# InternImage-T as published (InternImage, table 1): pre-norm with layer scale.
INTERNIMAGE_T = InternImageConfig(
    channels=64, depths=(4, 4, 18, 4), groups=(4, 8, 16, 32), layer_scale=1.0, offset_scale=1.0
)
SIDE = 512
EFFORT, QUICK = Effort(seconds=40.0, fewest=4, most=7), Effort(seconds=8.0, fewest=2, most=3)
OFFSET_STD = (
    0.1  # of the weights that make offsets: fresh ones are zero, and nothing would be read between pixels
)


def bench_backbone(
    device: str = "cpu",
    clock: Clock | None = None,
    effort: Effort = EFFORT,
    config: InternImageConfig = INTERNIMAGE_T,
    side: int = SIDE,
) -> dict[str, Any]:
    """Measure one picture of ``side`` x ``side`` pixels on one thread, in turn, in training mode.

    Return {"rows": [...], "machine": {...}}; ratios are grid_sample's time over ours.
    """
    clock = clock or (CudaClock() if device == "cuda" else HostClock())
    ours = "cuda" if device == "cuda" else "cpu"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pixels = picture(side, device)
        theirs, mine = as_usual(build(config, ours, device)), build(config, ours, device)
        contestants = {
            "grid_sample forward": forward(theirs, pixels),
            "our forward": forward(mine, pixels),
            "grid_sample both": both(theirs, pixels),
            "our both": both(mine, pixels),
        }
        with tqdm(total=effort.most + 1, disable=None, desc="bench backbone", unit="round") as bar:
            times = interleave(contestants, clock, effort, after_round=bar.update)
    finally:
        torch.set_num_threads(before)
    row = {
        "name": "InternImage-T" if config == INTERNIMAGE_T else "custom",
        "shape": [1, 3, side, side],
        "dtype": "float32",
        "threads": 1,
        "backend": ours,
        **compared(times),
    }
    return {"rows": [{key: short(value) for key, value in row.items()}], "machine": machine(device)}


def build(config: InternImageConfig, backend: Backend, device: str) -> InternImage:
    """Return the backbone with the same weights for every backend, and offsets of about a pixel."""
    torch.manual_seed(0)
    model = InternImage(replace(config, backend=backend)).to(device).train()
    for name, parameter in model.named_parameters():
        if name.endswith(("dcn.offset.weight", "dcn.modulation.weight")):
            torch.nn.init.normal_(parameter, std=OFFSET_STD)
    return model


def as_usual(model: InternImage) -> InternImage:
    """Let a backbone compute DCNv3 as it is usually done on a CPU."""
    for module in model.modules():
        if isinstance(module, DCNv3):
            module.sample = partial(usual_dcnv3, groups=module.groups, softmax=True)
    return model


def picture(side: int, device: str) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)


def forward(model: InternImage, pixels: Tensor) -> Callable[[], object]:
    return torch.no_grad()(lambda: model(pixels))


def both(model: InternImage, pixels: Tensor) -> Callable[[], object]:
    parameters = list(model.parameters())

    def call() -> object:
        total = torch.stack([level.square().mean() for level in model(pixels)]).sum()
        return torch.autograd.grad(total, parameters)

    return call
