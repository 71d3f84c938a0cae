"""The heads' 3x3 convolutions of small maps: by Winograd's algorithm where that is faster."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cascade_lab.kernels import machines
from cascade_lab.ops.winograd import tiles, winograd_conv3x3

FEWEST_CHANNELS = 128  # below, the transforms cost more than the products they save
FEWEST_CELLS = 64 * 7 * 7  # below, transforming the filter costs more
LARGEST_SIDE = 28  # above, the matrices of a side are mostly zeros


def conv3x3(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``conv2d`` with a padding of 1, up to rounding, of (R, C, H, W) to (R, O, H, W).

    Winograd's form returns position before map in memory, (H, W, R, O), which the next one reads without a
    copy. It is taken for float32 on a CPU only: in half types its rounding is several times that of the sum.
    """
    if not pays(maps, weight):
        return functional.conv2d(maps, weight, bias, padding=1)
    out = winograd_conv3x3(maps.permute(2, 3, 0, 1), weight)
    return (out if bias is None else out.add_(bias)).permute(2, 3, 0, 1)


def pays(maps: Tensor, weight: Tensor) -> bool:
    """Say whether Winograd's form is the faster one for these maps."""
    r, _, h, w = maps.shape
    return (
        maps.device.type == "cpu"
        and maps.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not machines.are_switched_off()
        and min(weight.shape[:2]) >= FEWEST_CHANNELS
        and r * h * w >= FEWEST_CELLS
        and max(h, w) <= LARGEST_SIDE
        and bool(tiles(h) and tiles(w))
    )
