"""DCNv3 by the kernels of ``cuda_src/dcnv3.cu``: which instance, which grid, which arguments.

The same calls serve every backend: "cpu", "cuda" and "emulator".
"""

from __future__ import annotations

from dataclasses import dataclass
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
    input, offset, logits = _aligned(input), _aligned(offset), _aligned(logits)
    output = input.new_empty(*offset.shape[:3], input.shape[3])
    _run(machine, "dcnv3_forward", input, offset, settings, (input, offset, logits, output))
    return output


def backward(
    machine: Machine, grad_output: Tensor, input: Tensor, offset: Tensor, logits: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of input, offset and logits."""
    tensors = [_aligned(tensor) for tensor in (grad_output, input, offset, logits)]
    grad_input = torch.zeros_like(tensors[1], dtype=wide(input.dtype))
    grad_logits = torch.empty_like(tensors[3], dtype=wide(input.dtype))
    grad_offset = torch.empty_like(tensors[2])
    tensors += [grad_input, grad_offset, grad_logits]
    _run(machine, "dcnv3_backward", input, offset, settings, tensors)
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


def _run(
    machine: Machine, kernel: str, input: Tensor, offset: Tensor, settings: Settings, tensors: Any
) -> None:
    n, height, width, all_channels = input.shape
    _, out_height, out_width, _ = offset.shape
    channels, pixels = all_channels // settings.groups, out_height * out_width
    if n == 0 or pixels == 0 or all_channels == 0:
        return
    if max(height * width, width * all_channels, pixels) >= 2**31 or n >= 2**16:
        raise ValueError(
            f"dcnv3: input {tuple(input.shape)} is too large: need N < 2**16, H * W and W * C < 2**31"
        )
    _, lanes = split(machine, input.dtype, channels)
    across = settings.groups * lanes
    if machine == "cpu":
        # The backward adds to a group of one picture: all of that is in one (y, z), see host/cpu.h.
        block = (1 if kernel == "dcnv3_backward" else across, CPU_PIXELS)
    else:
        columns = min(across, GPU_THREADS)
        block = (columns, max(1, GPU_THREADS // columns))
    grid = (-(-pixels // block[1]), -(-across // block[0]), n)
    sizes = {"height": height, "width": width, "out_height": out_height, "out_width": out_width}
    pairs = {
        "kernel": settings.kernel,
        "stride": settings.stride,
        "dilation": settings.dilation,
        "pad": settings.padding,
    }
    sides = {f"{name}_{side}": pair[i] for name, pair in pairs.items() for i, side in enumerate("hw")}
    split_up = {"groups": settings.groups, "group_channels": channels}
    values = {"offset_scale": settings.offset_scale, **sizes, **split_up, **sides}
    struct = source.as_argument(source.read(FILE), "Layout", values)
    args = [*(tensor.data_ptr() for tensor in tensors), struct]
    names = [instance(name, machine, input.dtype, settings, channels) for name in KERNELS]
    _load(machine, tuple(names))[names[KERNELS.index(kernel)]](grid, (*block, 1), args)


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
