"""Measuring contestants in one run, in turn, so that whatever else the machine does falls on all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple, Protocol

import torch

from cascade_lab.kernels import inventory

FLUSH_BYTES, FLUSHES = 2**30, 4
COPY_BYTES = 2**28
# Of one contestant in a row. Its first call pays for what another left behind: cold caches, and memory that
# went back to the system and comes again page by page.
SAMPLE_MS = 40.0


class Sample(NamedTuple):
    """Milliseconds of one call: of the processor, its threads added up, and on the wall. On a GPU both are
    the time between two events."""

    cpu: float
    wall: float


class Clock(Protocol):
    def time(self, call: Callable[[], object], calls: int) -> Sample: ...


@dataclass(frozen=True)
class HostClock:
    """Process time does not count what other programs did meanwhile; the wall clock does."""

    cpu: Callable[[], float] = time.process_time
    wall: Callable[[], float] = time.perf_counter

    def time(self, call: Callable[[], object], calls: int) -> Sample:
        wall, cpu = self.wall(), self.cpu()
        for _ in range(calls):
            call()
        return Sample(1e3 * (self.cpu() - cpu) / calls, 1e3 * (self.wall() - wall) / calls)


class CudaClock:
    """CUDA events round one call. Gigabytes are overwritten before it, which empties the GPU's cache and
    keeps the GPU busy until the call's kernels are all queued: so the time is theirs, not that of launching.
    """

    def __init__(self) -> None:
        size = min(FLUSH_BYTES, torch.cuda.mem_get_info()[0] // 8)
        self._flush = torch.empty(size, dtype=torch.uint8, device="cuda")

    def time(self, call: Callable[[], object], calls: int) -> Sample:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(FLUSHES):
            self._flush.zero_()
        start.record()
        call()  # once, whatever ``calls``: a second one would find its tensors in the cache
        end.record()
        end.synchronize()
        milliseconds = start.elapsed_time(end)
        return Sample(milliseconds, milliseconds)

    def copy_bandwidth(self) -> float:
        """Return the gigabytes a second that copying on the device reads and writes, median of ten."""
        source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        times = [self.time(lambda: target.copy_(source), 1).wall for _ in range(11)][1:]
        return 2 * COPY_BYTES / median(times) / 1e6


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long one case is measured: until ``seconds`` are over, within these numbers of rounds."""

    seconds: float
    fewest: int = 1
    most: int = 15


@dataclass(frozen=True)
class Times:
    """The samples of the contestants of one case, as many from each."""

    samples: dict[str, list[Sample]]

    @property
    def rounds(self) -> int:
        return len(next(iter(self.samples.values())))

    def cpu(self, name: str) -> float:
        return median(sample.cpu for sample in self.samples[name])

    def wall(self, name: str) -> float:
        return median(sample.wall for sample in self.samples[name])


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    clock: Clock,
    effort: Effort,
    now: Callable[[], float] = time.perf_counter,
    after_round: Callable[[], object] = lambda: None,
) -> Times:
    """Time all contestants once in each round, in the order given.

    The first round warms up and tells how many calls fill ``SAMPLE_MS``, a sample of all later rounds; it
    counts only where there is no time for another.
    """
    began = now()
    first = {name: clock.time(call, 1) for name, call in contestants.items()}
    after_round()
    calls = {name: max(1, math.ceil(SAMPLE_MS / max(sample.wall, 1e-3))) for name, sample in first.items()}
    counted: dict[str, list[Sample]] = {name: [] for name in contestants}
    rounds = 0
    while rounds < effort.most and (rounds + 1 < effort.fewest or now() - began < effort.seconds):
        for name, call in contestants.items():
            counted[name].append(clock.time(call, calls[name]))
        rounds += 1
        after_round()
    return Times(counted if rounds else {name: [sample] for name, sample in first.items()})


def compared(times: Times, other: str = "grid_sample") -> dict[str, Any]:
    """Return our milliseconds, those of ``other``, and their ratios, of each pass that was measured.

    The contestants must be called "our forward", "our both" and the same with the name of ``other``.
    """
    told: dict[str, Any] = {"against": other}
    for name, key in (("forward", "forward"), ("both", "forward_backward")):
        ours, theirs = f"our {name}", f"{other} {name}"
        if ours not in times.samples:
            continue
        told[f"{key}_ratio"] = times.cpu(theirs) / times.cpu(ours)
        told[f"{key}_wall_ratio"] = times.wall(theirs) / times.wall(ours)
        told[f"{key}_ms"] = times.cpu(ours)
        told[f"{other}_{key}_ms"] = times.cpu(theirs)
    return {**told, "rounds": times.rounds}


def backward_through(call: Callable[..., torch.Tensor], inputs: list[torch.Tensor], grad: torch.Tensor):
    """Run ``call(*inputs)`` and its backward, from fresh leaves of the same storage."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    return torch.autograd.grad(call(*leaves), leaves, grad)


def machine(device: str) -> dict[str, Any]:
    """Return what figures must be quoted with."""
    here = {
        "processor": inventory.processor(),
        "compiler": inventory.compiler()["version"],
        "torch": torch.__version__,
    }
    if device == "cuda":
        cupy = inventory.cupy()
        here |= {"gpus": inventory.gpus(), "driver": inventory.driver()}
        here |= {"cupy": cupy["version"], "nvrtc": cupy["nvrtc"]}
    return here


def short(value: Any) -> Any:
    """Return a float with four digits, everything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
