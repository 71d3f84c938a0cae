"""DCNv3 as the layers call it: one function, and the choice of who computes it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cascade_lab.ops.dcnv3_reference import dcnv3_reference, sampling_points

Backend = Literal["auto", "reference", "grid_sample"]


def dcnv3(
    input: Tensor,
    offset: Tensor,
    modulation: Tensor,
    *,
    groups: int,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    padding: int = 1,
    offset_scale: float = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    """Compute DCNv3; shapes and meaning as in ``dcnv3_reference``.

    ``"auto"`` takes the reference for float64 and ``"grid_sample"`` otherwise. Both are plain PyTorch;
    grid_sample takes about a third of the time, differs by rounding (about 1e-5), and at exactly whole
    positions its derivative may be the left-hand slope.

    Half types are computed in float32 and returned as they came.
    """
    if backend == "auto":
        backend = "reference" if input.dtype == torch.float64 else "grid_sample"
    run = {"grid_sample": dcnv3_grid_sample, "reference": dcnv3_reference}[backend]
    at_least_float32 = torch.promote_types(input.dtype, torch.float32)
    return run(
        input.to(at_least_float32),
        offset.to(at_least_float32),
        modulation.to(at_least_float32),
        groups=groups,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        offset_scale=offset_scale,
    ).to(input.dtype)


def dcnv3_grid_sample(
    input: Tensor,
    offset: Tensor,
    modulation: Tensor,
    *,
    groups: int,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    padding: int = 1,
    offset_scale: float = 1.0,
) -> Tensor:
    """Compute DCNv3 with ``torch.nn.functional.grid_sample``, the usual way on a CPU.

    Shapes and errors as in ``dcnv3_reference``.
    """
    n, h, w, channels = input.shape
    x, y = sampling_points((h, w), offset, groups, kernel, stride, dilation, padding, offset_scale)
    _, ho, wo, _, points = x.shape

    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=-1)  # (N, H', W', G, K, 2)
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(n * groups, ho * wo, points, 2)
    maps = input.view(n, h, w, groups, channels // groups).permute(0, 3, 4, 1, 2)
    maps = maps.reshape(n * groups, channels // groups, h, w)
    read = functional.grid_sample(maps, grid, align_corners=False)  # (N * G, C', H' * W', K)

    modulation = modulation.view(n, ho * wo, groups, points).permute(0, 2, 1, 3)
    summed = (read * modulation.reshape(n * groups, 1, ho * wo, points)).sum(-1)
    return summed.view(n, channels, ho, wo).permute(0, 2, 3, 1)  # (N, H', W', G * C')
