"""RoIAlign by the kernels of ``cuda_src/roi_align.cu``: which instance, which grid, which arguments.

The same calls serve every backend: "cpu", "cuda" and "emulator".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cascade_lab.kernels import cpu_backend, cupy_backend, emulator, source
from cascade_lab.kernels.machines import ELEMENT, GPU_THREADS, Machine, wide

FILE = "roi_align.cu"
KERNELS = ("roi_align_forward", "roi_align_backward")
CPU_VECTORS = {4: 64, 8: 64, 2: 16}  # channels at most that a thread holds, by bytes of an element
TILED = 60 * 60  # from so many numbers on, torch transposes a matrix in tiles


def forward(
    machine: Machine,
    pyramid: Sequence[Tensor],
    scales: Sequence[float],
    rois: Tensor,
    levels: Tensor,
    size: int,
    sampling_ratio: int,
) -> Tensor:
    """Return (R, C, size, size), channels last in memory; the other shapes as in ``ops/roi_align.py``."""
    maps = [channels_last(level) for level in pyramid]
    output = new_maps(maps[0], (len(rois), maps[0].shape[1], size, size))
    _run(machine, KERNELS[0], maps, scales, rois, levels, output, sampling_ratio)
    return output


def backward(
    machine: Machine,
    grad_output: Tensor,
    shapes: Sequence[Sequence[int]],
    scales: Sequence[float],
    rois: Tensor,
    levels: Tensor,
    sampling_ratio: int,
) -> list[Tensor]:
    """Return the gradient of every level, of these shapes (N, C, H, W), channels last in memory."""
    grad_output = channels_last(grad_output)
    grads = [new_maps(grad_output, shape, wide(grad_output.dtype)).zero_() for shape in shapes]
    _run(machine, KERNELS[1], grads, scales, rois, levels, grad_output, sampling_ratio)
    return [grad.to(grad_output.dtype) for grad in grads]


def new_maps(like: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """Return an empty (N, C, H, W) tensor, channels last in memory."""
    n, c, h, w = shape
    return like.new_empty(n, h, w, c, dtype=dtype or like.dtype).permute(0, 3, 1, 2)


def channels_last(maps: Tensor) -> Tensor:
    """Return (N, C, H, W) with the channels side by side in memory; not copied if they are already."""
    if maps.is_contiguous(memory_format=torch.channels_last) and maps.data_ptr() % 16 == 0:
        return maps
    made = new_maps(maps, maps.shape)
    channels = maps.shape[1]
    if maps.is_cuda or maps[:1].numel() < TILED:
        return made.copy_(maps)
    # A matrix is several times faster than a map, which torch would copy number by number.
    for target, picture in zip(made, maps, strict=True):
        target.permute(1, 2, 0).view(-1, channels).copy_(picture.reshape(channels, -1).T)
    return made


def instances(machine: Machine, dtype: torch.dtype, channels: int, threads: int) -> tuple[str, str]:
    """Return the names of both kernels with their template arguments."""
    vector = channels_of_a_thread(machine, dtype, channels, threads)
    forward, backward = (f"{kernel}<{ELEMENT[dtype]}, {vector}>" for kernel in KERNELS)
    return forward, backward


def channels_of_a_thread(machine: Machine, dtype: torch.dtype, channels: int, threads: int) -> int:
    """Return how many channels a thread holds at once, a power of two that divides their number.

    On a GPU as many as it reads in 16 bytes. On a CPU as many as are fast, but no more than leave some for
    every one of its ``threads``; the sums are the same whatever the number.
    """
    if machine != "cpu":
        return int(np.gcd(channels, 16 // dtype.itemsize))
    vector = int(np.gcd(channels, CPU_VECTORS[dtype.itemsize]))
    while vector > 16 and channels // vector < threads:
        vector //= 2
    return vector


def _run(
    machine: Machine,
    kernel: str,
    maps: Sequence[Tensor],
    scales: Sequence[float],
    rois: Tensor,
    levels: Tensor,
    pooled: Tensor,
    sampling_ratio: int,
) -> None:
    """Launch a kernel between maps and pooled bins, all channels last."""
    count, channels, size, _ = pooled.shape
    if pooled.numel() == 0:
        return
    if machine != "cuda":  # on a GPU it would have to wait for the numbers
        _check(rois[:, 0], levels, maps)
    rois = rois.to(wide(pooled.dtype)).contiguous()
    levels = levels.contiguous()
    threads = torch.get_num_threads()
    vector = channels_of_a_thread(machine, pooled.dtype, channels, threads)
    turns = channels // vector
    if machine == "cpu":
        # The backward adds to some channels of all maps: those are in one y, see host/cpu.h.
        block, across = (1, size), min(threads, turns) if kernel == KERNELS[1] else 1
    else:
        columns = min(turns, GPU_THREADS)
        block, across = (columns, GPU_THREADS // columns), -(-turns // columns)
    grid = (-(-count * size // block[1]), across, 1)
    numbers = {"rois": count, "bins": size, "channels": channels, "sampling_ratio": sampling_ratio}
    args = [
        rois.data_ptr(),
        levels.data_ptr(),
        pooled.data_ptr(),
        _pyramid(maps, scales),
        source.as_argument(source.read(FILE), "Grid", numbers),
    ]
    names = instances(machine, pooled.dtype, channels, threads)
    _load(machine, names)[names[KERNELS.index(kernel)]](grid, (*block, 1), args)


def _pyramid(maps: Sequence[Tensor], scales: Sequence[float]) -> np.ndarray:
    """Return the struct of that name. Raises ValueError for more levels than it has, and for empty ones."""
    text = source.read(FILE)
    levels: dict[str, Any] = dict.fromkeys(source.structure(text, "Pyramid").names or (), (0, 0.0, 0, 0))
    if len(maps) > len(levels):
        raise ValueError(f"RoIAlign reads from {len(levels)} levels at most, got {len(maps)}")
    if any(level.numel() == 0 for level in maps):
        raise ValueError(f"a level is empty: {[tuple(level.shape) for level in maps]}")
    for name, level, scale in zip(list(levels)[: len(maps)], maps, scales, strict=True):
        levels[name] = (level.data_ptr(), scale, *level.shape[2:])
    return source.as_argument(text, "Pyramid", levels)


def _check(pictures: Tensor, levels: Tensor, pyramid: Sequence[Tensor]) -> None:
    """Raise ValueError for rois of a picture or a level that is not there; nothing else keeps them inside."""
    for name, numbers, count in (("levels", levels, len(pyramid)), ("pictures", pictures, len(pyramid[0]))):
        least, most = numbers.aminmax()
        if not (least >= 0 and most < count):
            raise ValueError(f"rois are of {name} {least.item()} to {most.item()}, but there are {count}")


def _load(machine: Machine, names: tuple[str, str]) -> Any:
    """Return both kernels, compiled together."""
    if machine == "cpu":
        return cpu_backend.load(FILE, ((names[0], "x"), (names[1], "y")))
    return (emulator if machine == "emulator" else cupy_backend).load(FILE, names)
