"""Feature pyramid: give every level the meaning of the coarse maps and the detail of the fine ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from cascade_lab.layers.init import initialise


class FPN(nn.Module):
    """Merge backbone maps top-down and add one coarser level by subsampling.

    Shapes: L maps (N, C_i, H_i, W_i), fine to coarse, to L + 1 maps (N, ``channels``, H_i, W_i).
    The top-down path interpolates to the size of the finer map, so odd sizes fit.
    Source: Lin et al. 2017, "Feature Pyramid Networks", section 3 and figure 3.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        initialise([*self.lateral, *self.output], nn.init.xavier_uniform_)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        merged = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]  # (N, C, H_i, W_i)
        for fine in range(len(merged) - 2, -1, -1):
            up = functional.interpolate(merged[fine + 1], size=merged[fine].shape[-2:], mode="nearest")
            merged[fine] = merged[fine] + up
        pyramid = [output(m) for output, m in zip(self.output, merged, strict=True)]
        pyramid.append(pyramid[-1][:, :, ::2, ::2])  # half the size, for the RPN's largest anchors
        return tuple(pyramid)
