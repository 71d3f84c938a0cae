"""DCNv3 by the kernels of ``cuda_src/dcnv3.cu``: which instance, which grid, which arguments.

The same calls serve every backend: "cpu", "cuda" and "emulator".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cascade_lab.kernels import cpu_backend, cupy_backend, emulator, source
from cascade_lab.kernels.machines import ELEMENT, GPU_THREADS, Machine, wide

FILE = "dcnv3.cu"
KERNELS = ("dcnv3_forward", "dcnv3_backward")
Rule = Literal["none", "softmax", "sigmoid"]
CPU_PIXELS = 64  # of a block: as many as have their inputs, offsets and outputs in the first cache together


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What does not depend on the pictures; pairs are (vertical, horizontal)."""

    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    offset_scale: float
    rule: Rule


def forward(machine: Machine, input: Tensor, offset: Tensor, logits: Tensor, settings: Settings) -> Tensor:
    """Return the output (N, H', W', C); shapes as in ``ops/dcnv3.py``, all of one type and contiguous."""
    output = input.new_empty(*offset.shape[:3], input.shape[3])
    launch = _Launch(machine, "dcnv3_forward", input.dtype, input.shape, offset.shape, settings)
    launch.run(_aligned(input), _aligned(offset), _aligned(logits), output)
    return output


def backward(
    machine: Machine, grad_output: Tensor, input: Tensor, offset: Tensor, logits: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of input, offset and logits."""
    launch = _Launch(machine, "dcnv3_backward", input.dtype, input.shape, offset.shape, settings)
    if launch.by_group:
        n, height, width, channels = input.shape
        by_pixel = input.view(n, height * width, settings.groups, channels // settings.groups)
        input = by_pixel.transpose(1, 2).contiguous()
    grad_input = torch.zeros_like(input, dtype=wide(input.dtype))
    grad_logits = torch.empty_like(logits, dtype=wide(input.dtype))
    grad_offset = torch.empty_like(offset)
    read = [_aligned(tensor) for tensor in (grad_output, input, offset, logits)]
    launch.run(*read, grad_input, grad_offset, grad_logits)
    if launch.by_group:
        grad_input = grad_input.transpose(1, 2).reshape(launch.shape)
    return grad_input.to(input.dtype), grad_offset, grad_logits.to(input.dtype)


def instance(kernel: str, machine: Machine, dtype: torch.dtype, settings: Settings, channels: int) -> str:
    """Return the name of the kernel with its template arguments, for groups of ``channels`` channels."""
    vector, lanes = split(machine, dtype, channels)
    side = 3 if settings.kernel == (3, 3) else 0
    width = channels if vector * lanes == channels else 0  # what one pass covers may be known when compiling
    rule = settings.rule.upper()
    return f"{kernel}<{ELEMENT[dtype]}, {side}, {vector}, {lanes}, {width}, {rule}>"


def split(machine: Machine, dtype: torch.dtype, channels: int) -> tuple[int, int]:
    """Return how many channels a thread holds, and how many threads share a group.

    On a CPU a thread takes the whole group, in pieces of a power of two. On a GPU it takes what it can read
    in 16 bytes; the threads of a group are a power of two, for the shuffles, and at most a warp.
    """
    if machine == "cpu":
        return _power_of_two(channels, 64), 1
    vector = _power_of_two(channels, 16 // dtype.itemsize)
    lanes = 1
    while 2 * lanes <= min(32, channels // vector):
        lanes *= 2
    return vector, lanes


def grid_and_block(
    machine: Machine, kernel: str, across: int, pixels: int, pictures: int
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return how many blocks a launch has, and how many threads a block has, each along x, y and z.

    Args:
        across: groups times the threads that share a group: along x in a block, along y in the grid.
        pixels: of one output map: along y in a block, along x in the grid, which may be longest there.
    """
    columns, rows = min(across, GPU_THREADS), max(1, GPU_THREADS // across)
    if machine == "cpu":
        # The backward adds to a group of one picture: all of that is in one (y, z), see host/cpu.h.
        columns, rows = 1 if kernel == "dcnv3_backward" else across, CPU_PIXELS
    return (-(-pixels // rows), -(-across // columns), pictures), (columns, rows, 1)


@dataclass(frozen=True)
class _Launch:
    """One kernel on tensors of one type and size: all that does not change from call to call."""

    machine: Machine
    kernel: str
    dtype: torch.dtype
    shape: torch.Size  # of the input, (N, H, W, C)
    out_shape: torch.Size  # of the offsets, (N, H', W', ...)
    settings: Settings

    @property
    def by_group(self) -> bool:
        """Whether the input must come as (N, groups, H * W, C / groups).

        The backward on a CPU goes through a picture group by group, and side by side the pixels of one group
        would all fall into the same few sets of the first cache. To move them together costs less.
        """
        return self.machine == "cpu" and self.kernel == "dcnv3_backward"

    def run(self, *tensors: Tensor) -> None:
        if 0 not in (self.shape.numel(), *self.out_shape[:3]):
            names, grid, block, layout = _plan(self)
            kernel = _load(self.machine, names)[names[KERNELS.index(self.kernel)]]
            kernel(grid, block, [*(tensor.data_ptr() for tensor in tensors), layout])


@lru_cache(maxsize=256)  # several sizes of pictures times several levels
def _plan(launch: _Launch) -> tuple[tuple[str, ...], Sequence[int], Sequence[int], np.ndarray]:
    """Return the names of both kernels, grid and block of the one that is meant, and its Layout."""
    settings, (n, height, width, all_channels) = launch.settings, launch.shape
    _, out_height, out_width, _ = launch.out_shape
    channels, pixels = all_channels // settings.groups, out_height * out_width
    if max(height * width, width * all_channels, pixels) >= 2**31 or n >= 2**16:
        raise ValueError(
            f"dcnv3: input {tuple(launch.shape)} is too large: need N < 2**16, H * W and W * C < 2**31"
        )
    across = settings.groups * split(launch.machine, launch.dtype, channels)[1]
    grid, block = grid_and_block(launch.machine, launch.kernel, across, pixels, n)
    pairs = {
        "kernel": settings.kernel,
        "stride": settings.stride,
        "dilation": settings.dilation,
        "pad": settings.padding,
    }
    layout = {
        "offset_scale": settings.offset_scale,
        "group_step": height * width * channels if launch.by_group else channels,
        "pixel_step": channels if launch.by_group else all_channels,
        "height": height,
        "width": width,
        "out_height": out_height,
        "out_width": out_width,
        "groups": settings.groups,
        "group_channels": channels,
        **{f"{name}_{side}": pair[i] for name, pair in pairs.items() for i, side in enumerate("hw")},
    }
    names = tuple(instance(name, launch.machine, launch.dtype, settings, channels) for name in KERNELS)
    return names, grid, block, source.as_argument(source.read(FILE), "Layout", layout)


def _load(machine: Machine, names: tuple[str, ...]) -> Any:
    """Return both kernels, compiled together."""
    if machine == "cpu":
        return cpu_backend.load(FILE, ((names[0], "x"), (names[1], "y")))
    return (emulator if machine == "emulator" else cupy_backend).load(FILE, names)


def _aligned(tensor: Tensor) -> Tensor:
    """Return the tensor where 16 bytes can be read at once; a view may begin anywhere."""
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def _power_of_two(number: int, most: int) -> int:
    """Return the largest power of two that divides ``number`` and is at most ``most``."""
    return int(np.gcd(number, most))
