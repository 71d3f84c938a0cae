"""Mask pasting by the kernel of ``cuda_src/mask_paste.cu``."""

from __future__ import annotations

import torch
from torch import Tensor

from cascade_lab.kernels import cpu_backend, cupy_backend, emulator, source
from cascade_lab.kernels.machines import Machine

FILE, KERNEL = "mask_paste.cu", "paste_masks"
GPU_BLOCK = (32, 8)  # threads over columns and rows
CPU_BLOCK = (1, 8)


def paste(machine: Machine, scores: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Return (D, H, W) bool for scores (D, S, S) and boxes (D, 4), both float32 and contiguous."""
    height, width = size
    picture = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=scores.device)
    if picture.numel() == 0:
        return picture
    kernel = _load(machine)
    block = CPU_BLOCK if machine == "cpu" else GPU_BLOCK
    values = {"threshold": threshold, "size": scores.shape[-1], "height": height, "width": width}
    canvas = source.as_argument(source.read(FILE), "Canvas", values)
    grid = (1, -(-height // block[1]), len(boxes))
    kernel(grid, (*block, 1), [scores.data_ptr(), boxes.data_ptr(), picture.data_ptr(), canvas])
    return picture


def _load(machine: Machine):
    if machine == "cpu":
        return cpu_backend.load(FILE, ((KERNEL, "y"),))[KERNEL]
    return (emulator if machine == "emulator" else cupy_backend).load(FILE, (KERNEL,))[KERNEL]
