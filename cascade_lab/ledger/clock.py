"""Processor time of a forward pass, part by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from cascade_lab.detector import Detector
from cascade_lab.ledger import parts
from cascade_lab.ops import dcnv3, roi_align


def seconds_by_part(
    detector: Detector,
    pixels: Tensor,
    proposals: int,
    detections: int,
    after_part: Callable[[str], object] = lambda name: None,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Measure one inference on one CPU thread: seconds of the processor, by part. Weights may be fresh.

    ``after_part`` is told of each part that is done. Process time does not count what other programs did.
    """
    spent: dict[str, float] = {}

    @contextmanager
    def part(name: str) -> Iterator[None]:
        began = clock()
        yield
        spent[name] = spent.get(name, 0.0) + clock() - began
        after_part(name)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for choose in (dcnv3.choose, roi_align.choose):  # compiles the kernels, if that is still to be done
            choose(pixels.device.type, pixels.dtype)
        parts.infer(detector, pixels, proposals, detections, part)
    finally:
        torch.set_num_threads(before)
    return spent


def multiply_accumulates_per_second(side: int = 768) -> float:
    """Measure what one thread does in a matrix product: nothing in a detector is faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        square = torch.ones(side, side)
        torch.mm(square, square)  # warms up
        began = time.process_time()
        for _ in range(4):
            torch.mm(square, square)
        return 4 * side**3 / (time.process_time() - began)
    finally:
        torch.set_num_threads(before)
