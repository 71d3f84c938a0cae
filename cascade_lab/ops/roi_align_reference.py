"""RoIAlign as its definition, in plain PyTorch: which cells of a map a bin reads, and how much of each.

Source: He et al. 2017, "Mask R-CNN", section 3; the half-pixel shift that later versions call ``aligned``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def roi_align_reference(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int = 0
) -> Tensor:
    """Read rois (R, 5) from maps (N, C, H, W): (R, C, S, S). The arguments are those of ``roi_align``.

    A bin is the mean over a grid of bilinear samples. Both the mean and the interpolation treat rows and
    columns alike and apart, so a roi is (weights of rows) @ features @ (weights of columns).
    """
    rows, columns = _bin_weights(features, rois, output_size, spatial_scale, sampling_ratio)
    pooled = [  # (S, H) @ (C, H, W) @ (W, S)
        row @ features[int(roi[0])] @ column.T for roi, row, column in zip(rois, rows, columns, strict=True)
    ]
    if not pooled:  # stay in the graph
        return features[:0, :, :1, :1].expand(0, -1, output_size, output_size)
    return torch.stack(pooled)


def _bin_weights(
    features: Tensor, rois: Tensor, bins: int, spatial_scale: float, sampling_ratio: int
) -> tuple[Tensor, Tensor]:
    """Return how much every row (R, bins, H) and every column (R, bins, W) of a map counts for each bin."""
    # Pixel i has its centre at i + 0.5, and the feature map starts counting at its first centre.
    x1, y1, x2, y2 = (rois[:, 1:] * spatial_scale - 0.5).unbind(1)
    h, w = features.shape[2:]
    return _axis_weights(y1, y2, bins, h, sampling_ratio), _axis_weights(x1, x2, bins, w, sampling_ratio)


def axis_samples(
    start: Tensor, end: Tensor, bins: int, length: int, sampling_ratio: int
) -> tuple[Tensor, Tensor]:
    """Return where the bins of the sides [start, end] (R,) read one axis of a map of ``length`` cells.

    Shapes: positions (R, bins, S), in cells, 0 being the middle of the first one; and which of them count
    (R, bins, S), since a short side takes fewer samples and far outside the map there is nothing to read.
    """
    size = (end - start) / bins  # (R,)
    samples = _samples(size, sampling_ratio)[:, None, None]
    size = size[:, None, None]
    number = torch.arange(int(samples.max()) if len(samples) else 0, device=start.device)
    bin_index = torch.arange(bins, device=start.device)[:, None]
    position = start[:, None, None] + bin_index * size + (number + 0.5) * size / samples
    # Half a cell beyond the border still counts. A side of no length has nothing to sample.
    counts = (number < samples) & (position >= -1) & (position <= length)
    return position, counts


def _axis_weights(start: Tensor, end: Tensor, bins: int, length: int, sampling_ratio: int) -> Tensor:
    """Return how much each cell counts for each bin of the sides [start, end] (R,): (R, bins, length)."""
    position, counts = axis_samples(start, end, bins, length, sampling_ratio)
    samples = _samples((end - start) / bins, sampling_ratio)[:, None, None]
    position = position.clamp(0, length - 1).nan_to_num()
    before = position.floor()
    after_share = (position - before) * counts / samples.clamp(min=1)
    before_share = counts / samples.clamp(min=1) - after_share
    weights = start.new_zeros(len(start), bins, length)
    weights.scatter_add_(2, before.long(), before_share)
    return weights.scatter_add_(2, (before + 1).clamp(max=length - 1).long(), after_share)


def _samples(bin_size: Tensor, sampling_ratio: int) -> Tensor:
    """Return how many samples (R,) a bin takes along one axis; 0 only for a side of no length."""
    return torch.full_like(bin_size, sampling_ratio) if sampling_ratio > 0 else bin_size.ceil().clamp(min=0)
