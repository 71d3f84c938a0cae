"""RoIAlign: read a box of any size from a feature map into a fixed grid, without rounding anything.

Source: He et al. 2017, "Mask R-CNN", section 3; the half-pixel shift that later versions call ``aligned``.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from cascade_lab.ops.boxes import at_least_float32

# Up to this many features a map is small enough for two dense products to beat torchvision's backward.
SMALL_MAP = 64 * 64


def roi_align(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int = 0
) -> Tensor:
    """Return (R, C, S, S): each bin is the mean of bilinear samples spread evenly over it.

    Shapes:
        features: (N, C, H, W).
        rois: (R, 5): picture index, then x1, y1, x2, y2 in pixels of the network input.
        spatial_scale: features over pixels, 1 / stride.
        sampling_ratio: samples per bin and axis; 0 takes as many as the bin is features long.

    Pixel centres lie at half coordinates (the ``aligned`` form). Coordinates are at least float32.
    """
    wide = at_least_float32(features)
    rois = rois.to(wide.dtype)
    small = wide.shape[2] * wide.shape[3] <= SMALL_MAP
    if wide.requires_grad and wide.device.type == "cpu" and small:
        return roi_align_by_matmul(wide, rois, output_size, spatial_scale, sampling_ratio).to(features.dtype)
    return torchvision.ops.roi_align(
        wide, rois, output_size, spatial_scale, sampling_ratio or -1, aligned=True
    ).to(features.dtype)


def roi_align_by_matmul(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int = 0
) -> Tensor:
    """Do the same as ``roi_align_reference``, for all rois of a picture in two matrix products.

    On small maps this trains faster on a CPU than torchvision, whose backward pass runs on one thread.
    """
    _, channels, h, w = features.shape
    rows, columns = _bin_weights(features, rois, output_size, spatial_scale, sampling_ratio)
    order, pooled = [], []
    for image, feature in enumerate(features):
        here = (rois[:, 0] == image).nonzero().squeeze(1)
        if len(here) == 0:
            continue
        lines = feature.permute(1, 2, 0).reshape(h, w * channels)
        down = rows[here].reshape(-1, h) @ lines  # (r * S, W * C)
        down = down.view(len(here), output_size, w, channels)
        pooled.append((columns[here, None] @ down).permute(0, 3, 1, 2))  # (r, C, S, S)
        order.append(here)
    if not pooled:  # stay in the graph
        return features[:0, :, :1, :1].expand(0, channels, output_size, output_size)
    return torch.cat(pooled)[torch.cat(order).argsort()]


def roi_align_reference(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int = 0
) -> Tensor:
    """Do the same as ``roi_align``, in the words of the definition.

    A bin is the mean over a grid of bilinear samples. Both the mean and the interpolation treat rows and
    columns alike and apart, so a roi is (weights of rows) @ features @ (weights of columns).
    """
    rows, columns = _bin_weights(features, rois, output_size, spatial_scale, sampling_ratio)
    pooled = [
        row @ features[int(roi[0])] @ column.T for roi, row, column in zip(rois, rows, columns, strict=True)
    ]
    return (
        torch.stack(pooled) if pooled else features.new_zeros(0, features.shape[1], output_size, output_size)
    )


def _bin_weights(
    features: Tensor, rois: Tensor, bins: int, spatial_scale: float, sampling_ratio: int
) -> tuple[Tensor, Tensor]:
    """Return how much every row (R, bins, H) and every column (R, bins, W) of a map counts for each bin."""
    # Pixel i has its centre at i + 0.5, and the feature map starts counting at its first centre.
    x1, y1, x2, y2 = (rois[:, 1:] * spatial_scale - 0.5).unbind(1)
    h, w = features.shape[2:]
    return _axis_weights(y1, y2, bins, h, sampling_ratio), _axis_weights(x1, x2, bins, w, sampling_ratio)


def _axis_weights(start: Tensor, end: Tensor, bins: int, length: int, sampling_ratio: int) -> Tensor:
    """Return how much each cell counts for each bin of the sides [start, end] (R,): (R, bins, length)."""
    size = (end - start) / bins  # (R,)
    samples = torch.full_like(size, sampling_ratio) if sampling_ratio else size.ceil().clamp(min=0)
    size, samples = size[:, None, None], samples[:, None, None]
    number = torch.arange(int(samples.max()) if len(samples) else 0, device=start.device)
    bin_index = torch.arange(bins, device=start.device)[:, None]
    position = start[:, None, None] + bin_index * size + (number + 0.5) * size / samples  # (R, bins, samples)
    # Half a cell beyond the border still counts. A side of no length has nothing to sample.
    counts = (number < samples) & (position >= -1) & (position <= length)
    position = position.clamp(0, length - 1).nan_to_num()
    before = position.floor()
    after_share = (position - before) * counts / samples.clamp(min=1)
    before_share = counts / samples.clamp(min=1) - after_share
    weights = start.new_zeros(len(start), bins, length)
    weights.scatter_add_(2, before.long(), before_share)
    return weights.scatter_add_(2, (before + 1).clamp(max=length - 1).long(), after_share)
