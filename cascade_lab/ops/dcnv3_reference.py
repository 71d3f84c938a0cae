"""DCNv3 as its equation: every output is a weighted sum of nine bilinear reads that may lie anywhere.

    y_g(p0) = sum_k  m_gk * x_g(p0 + p_k + offset_gk)                    (InternImage, eq. 2)

``p_k`` is the regular kernel grid, ``m_gk`` the modulation of group g at point k, and ``x_g`` is read
between pixels by bilinear interpolation. The projections w_g of the equation live in ``layers/dcnv3.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

Pair = int | tuple[int, int]


def dcnv3_reference(
    input: Tensor,
    offset: Tensor,
    modulation: Tensor,
    *,
    groups: int,
    kernel: Pair = 3,
    stride: Pair = 1,
    dilation: Pair = 1,
    padding: Pair = 1,
    offset_scale: float = 1.0,
) -> Tensor:
    """Sample ``input`` at ``kernel**2`` moved points per pixel and group, and add them up.

    Shapes:
        input: (N, H, W, G * C'), channels last.
        offset: (N, H', W', G * K * 2) in input pixels; per group, then point, then (x, y).
            Points run down a column first: point = column * kernel height + row.
        modulation: (N, H', W', G * K), any values (the module applies the softmax).
        returns: (N, H', W', G * C').

    Pixels outside the picture read as zero. ``offset_scale`` stretches the regular grid as well as the
    learned offset. At an exactly whole position the slope to the right is the derivative, and a point
    that lies a whole pixel or more outside has no gradient.

    Source: the published CUDA kernel, in closed form. The official PyTorch fallback differs in the
    derivative at whole positions and by up to 6e-6 in the values, since it computes positions in
    normalised float32 coordinates.
    """
    n, h, w, channels = input.shape
    x, y = sampling_points((h, w), offset, groups, kernel, stride, dilation, padding, offset_scale)
    _, ho, wo, _, points = x.shape

    x0, y0 = x.detach().floor(), y.detach().floor()
    fx, fy = x - x0, y - y0  # a floor has slope zero, so this is the right-hand derivative
    near = torch.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], dim=-1)
    inside = (x > -1) & (x < w) & (y > -1) & (y < h)
    weights = near * (modulation.view(n, ho, wo, groups, points) * inside).unsqueeze(-1)

    # One frame of zeros round the picture answers all reads beyond its border.
    table = functional.pad(input, (0, 0, 1, 2, 1, 2))  # (N, H + 3, W + 3, G * C')
    wide, row = w + 3, (w + 3) * groups
    x0, y0 = x0.clamp(-1, w).long() + 1, y0.clamp(-1, h).long() + 1
    image = torch.arange(n, device=input.device).view(n, 1, 1, 1, 1)
    group = torch.arange(groups, device=input.device).view(1, 1, 1, groups, 1)
    corner = ((image * (h + 3) + y0) * wide + x0) * groups + group
    corners = corner.unsqueeze(-1) + torch.tensor([0, groups, row, row + groups], device=input.device)

    values = table.reshape(-1, channels // groups).index_select(0, corners.flatten())
    values = values.view(n * ho * wo * groups, points * 4, channels // groups)
    summed = weights.reshape(n * ho * wo * groups, 1, points * 4) @ values
    return summed.view(n, ho, wo, channels)


def sampling_points(
    size: tuple[int, int],
    offset: Tensor,
    groups: int,
    kernel: Pair = 3,
    stride: Pair = 1,
    dilation: Pair = 1,
    padding: Pair = 1,
    offset_scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return where DCNv3 reads: x and y, each (N, H', W', G, K), in pixels of the input (H, W).

    Whole numbers are pixel centres. Raises ValueError where ``offset`` does not fit the settings.
    """
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = (as_pair(v) for v in (kernel, stride, dilation, padding))
    n, ho, wo, _ = offset.shape
    expected = output_size(size, kernel, stride, dilation, padding)
    if (ho, wo) != expected or offset.shape[3] != groups * kh * kw * 2:
        raise ValueError(
            f"offset must be (N, {expected[0]}, {expected[1]}, {groups * kh * kw * 2}), "
            f"got {tuple(offset.shape)}"
        )
    offset = offset.view(n, ho, wo, groups, kh * kw, 2)
    half_x, half_y = dw * (kw - 1) // 2, dh * (kh - 1) // 2
    like = {"dtype": offset.dtype, "device": offset.device}
    grid_x = (torch.arange(kw, **like) * dw - half_x).repeat_interleave(kh)  # (K,): column outermost
    grid_y = (torch.arange(kh, **like) * dh - half_y).repeat(kw)
    centre_x = (torch.arange(wo, **like) * sw + (half_x - pw)).view(1, 1, wo, 1, 1)
    centre_y = (torch.arange(ho, **like) * sh + (half_y - ph)).view(1, ho, 1, 1, 1)
    x = centre_x + (grid_x + offset[..., 0]) * offset_scale
    y = centre_y + (grid_y + offset[..., 1]) * offset_scale
    return x, y


def output_size(
    size: tuple[int, int], kernel: Pair, stride: Pair, dilation: Pair, padding: Pair
) -> tuple[int, int]:
    """Return (H', W') of a convolution with these settings."""
    settings = zip(size, as_pair(kernel), as_pair(stride), as_pair(dilation), as_pair(padding), strict=True)
    h, w = ((length + 2 * p - (d * (k - 1) + 1)) // s + 1 for length, k, s, d, p in settings)
    return h, w


def as_pair(value: Pair) -> tuple[int, int]:
    """Return (vertical, horizontal)."""
    return (value, value) if isinstance(value, int) else value
