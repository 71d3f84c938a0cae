"""DCNv3 measured: our kernels, the usual formulation over ``grid_sample``, and torchvision's operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from cascade_lab.commands.bench_baselines import POINTS, torchvision_dcnv3, usual_dcnv3
from cascade_lab.commands.bench_timing import (
    Clock,
    CudaClock,
    Effort,
    HostClock,
    Times,
    backward_through,
    compared,
    interleave,
    machine,
    short,
)
from cascade_lab.kernels import inventory
from cascade_lab.ops.dcnv3 import Backend, dcnv3


class Shape(NamedTuple):
    """Pictures, height, width, channels, groups."""

    n: int
    h: int
    w: int
    c: int
    g: int

    @property
    def units(self) -> int:
        """Output pixels times groups: what the work is proportional to."""
        return self.n * self.h * self.w * self.g


# T1 to T4: the levels of InternImage-T at 512 x 512; L2: the second of InternImage-L at 800 x 1280; micro:
# the first of a small backbone with a batch of pictures of 160 x 160.
SHAPES = {
    "T1": Shape(1, 128, 128, 64, 4),
    "T2": Shape(1, 64, 64, 128, 8),
    "T3": Shape(1, 32, 32, 256, 16),
    "T4": Shape(1, 16, 16, 512, 32),
    "micro": Shape(8, 40, 40, 32, 2),
    "L2": Shape(1, 100, 160, 320, 20),
}
ON_GPU = {"L1": Shape(2, 200, 320, 160, 10)}  # large enough to fill a GPU
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OFFSET_PIXELS = 1.5  # standard deviation
# Together two to three minutes on one core; the quick ones half a minute, without the half types.
HEADLINE, OTHERS = Effort(seconds=4.0, fewest=4), Effort(seconds=0.7)
QUICK_HEADLINE, QUICK_OTHERS = Effort(seconds=1.5, fewest=2), Effort(seconds=0.3)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    shape: Shape
    dtype: torch.dtype
    threads: int
    softmax: bool

    @property
    def is_headline(self) -> bool:
        """Whether it is one of the cases that the figures are usually quoted for."""
        return self.softmax and self.threads == 1 and self.dtype == torch.float32


def cases(shapes: Mapping[str, Shape], dtypes: Sequence[torch.dtype], threads: Sequence[int]) -> list[Case]:
    """Return all cases, those first that are usually quoted."""
    listed = [
        Case(name=name, shape=shape, dtype=dtype, threads=count, softmax=softmax)
        for dtype in dtypes
        for count in threads
        for softmax in (True, False)
        for name, shape in shapes.items()
    ]
    return sorted(listed, key=lambda case: not case.is_headline)


def bench_dcnv3(
    asked: Sequence[Case],
    device: str,
    headline: Effort,
    others: Effort,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Measure all cases and return {"rows": [...], "machine": {...}}; every ratio is theirs over ours.

    ``headline`` is the effort for the cases that are usually quoted. On a CPU times are those of the
    processor, all threads added up, with the wall clock's ratios beside them; on a GPU they are between two
    CUDA events.
    """
    clock = clock or (CudaClock() if device == "cuda" else HostClock())
    here = machine(device)
    if isinstance(clock, CudaClock):
        here["copy_gb_per_s"] = round(clock.copy_bandwidth(), 1)
    before, rows = torch.get_num_threads(), []
    expected = [_expected_seconds(case, headline if case.is_headline else others) for case in asked]
    try:
        with tqdm(
            total=sum(expected), disable=None, smoothing=0, desc="bench dcnv3",
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left {postfix}",
        ) as bar:  # fmt: skip
            for case, seconds in zip(asked, expected, strict=True):
                dtype = str(case.dtype).removeprefix("torch.")
                bar.set_postfix_str(f"{case.name} {dtype}, {case.threads} threads")
                torch.set_num_threads(case.threads)
                times = measure(case, device, clock, headline if case.is_headline else others)
                rows.append(row(case, device, times, here.get("copy_gb_per_s")))
                bar.update(seconds)
    finally:
        torch.set_num_threads(before)
    return {"rows": rows, "machine": here}


def measure(case: Case, device: str, clock: Clock, effort: Effort) -> Times:
    """Time everybody on one case, in turn."""
    inputs, grad = tensors(case, device)
    backend: Backend = "cuda" if device == "cuda" else "cpu"

    def usual(input: Tensor, offset: Tensor, logits: Tensor) -> Tensor:
        return usual_dcnv3(input, offset, logits, case.shape.g, case.softmax)

    def ours(input: Tensor, offset: Tensor, logits: Tensor) -> Tensor:
        rule = "softmax" if case.softmax else "none"
        return dcnv3(input, offset, logits, groups=case.shape.g, rule=rule, backend=backend)

    backward_through(ours, inputs, grad)  # compiles
    contestants: dict[str, Callable[[], object]] = {
        "grid_sample forward": torch.no_grad()(lambda: usual(*inputs)),
        "our forward": torch.no_grad()(lambda: ours(*inputs)),
    }
    if case.dtype == torch.float32:  # it knows no bfloat16 on a CPU
        theirs = torchvision_dcnv3(inputs, case.shape.g, case.softmax)
        contestants["torchvision forward"] = torch.no_grad()(theirs)
    contestants["grid_sample both"] = lambda: backward_through(usual, inputs, grad)
    contestants["our both"] = lambda: backward_through(ours, inputs, grad)
    return interleave(contestants, clock, effort)


def tensors(case: Case, device: str) -> tuple[list[Tensor], Tensor]:
    """Return input, offset and logits (without softmax: modulation that adds up to 1), and a gradient."""
    n, h, w, c, g = case.shape
    random = torch.Generator().manual_seed(0)
    input = torch.randn(n, h, w, c, generator=random)
    offset = OFFSET_PIXELS * torch.randn(n, h, w, g * POINTS * 2, generator=random)
    logits = torch.randn(n, h, w, g * POINTS, generator=random)
    if not case.softmax:
        logits = logits.view(n, h, w, g, POINTS).softmax(-1).flatten(-2)
    grad = torch.randn(n, h, w, c, generator=random)
    made = [tensor.to(device, case.dtype) for tensor in (input, offset, logits, grad)]
    return made[:3], made[3]


def row(case: Case, device: str, times: Times, copy_gb_per_s: float | None) -> dict[str, Any]:
    """Return what is told of a case: milliseconds, and how many times longer than ours the others take."""
    theirs = times.cpu("torchvision forward") if "torchvision forward" in times.samples else None
    told = {
        "name": case.name,
        "shape": list(case.shape),
        "dtype": str(case.dtype).removeprefix("torch."),
        "threads": case.threads,
        "backend": device,
        "softmax": case.softmax,
        **compared(times),
        "forward_ratio_to_torchvision": theirs and theirs / times.cpu("our forward"),
        "torchvision_forward_ms": theirs,
    }
    if copy_gb_per_s is not None:
        for name, moved in zip(("forward", "forward_backward"), moved_bytes(case), strict=True):
            told[f"{name}_share_of_copy"] = moved / told[f"{name}_ms"] / 1e6 / copy_gb_per_s
    return {key: short(value) for key, value in told.items()}


def moved_bytes(case: Case) -> tuple[int, int]:
    """Return the bytes that must go to and from memory at least, for the forward and for both passes.

    The gradient of the input is kept in float32 while it is added up: written as zeros, then read and
    written. Half types are rounded from it at the end.
    """
    n, h, w, c, g = case.shape
    pixels, each = n * h * w, case.dtype.itemsize
    values, points = pixels * c * each, pixels * g * POINTS * 3 * each  # of one map; of offset and modulation
    forward = 2 * values + points
    sums = 3 * pixels * c * 4 + (pixels * c * 4 + values if each < 4 else 0)
    return forward, forward + 2 * values + 2 * points + sums


def all_threads() -> list[int]:
    """Return the numbers of threads to measure with: one, and all cores that may be used."""
    return sorted({1, inventory.cores()})


def _expected_seconds(case: Case, effort: Effort) -> float:
    """Return roughly what a case takes, for the progress bar; a round is some 12 microseconds a unit."""
    return max(effort.seconds, effort.fewest * case.shape.units * 12e-6)
