"""Other ways to compute DCNv3 with a 3 x 3 kernel, stride 1 and padding 1, to be measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import deform_conv2d

POINTS = 9


def usual_dcnv3(input: Tensor, offset: Tensor, logits: Tensor, groups: int, softmax: bool) -> Tensor:
    """Compute DCNv3 the way it is run where its CUDA extension is not: the baseline, kept in its usual form.

    Shapes as in ``ops/dcnv3_reference.py``. The picture is padded, positions become fractions of its size,
    every group becomes a picture of its own for ``grid_sample``, and nine reads are weighted and added.

    Source: the formulation of InternImage's pure PyTorch DCNv3 (Apache-2.0 there), written anew.
    """
    n, h, w, channels = input.shape
    modulation = logits.view(n, h, w, groups, POINTS)
    if softmax:
        modulation = modulation.softmax(-1)
    padded = functional.pad(input, (0, 0, 1, 1, 1, 1))  # (N, H + 2, W + 2, C)
    height, width = h + 2, w + 2
    like = {"dtype": input.dtype, "device": input.device}
    size = torch.tensor([width, height], **like)
    column, row = torch.arange(w, **like) + 1.5, torch.arange(h, **like) + 1.5  # centres, in padded pixels
    centres = torch.stack(torch.meshgrid(column, row, indexing="xy"), dim=-1)  # (H, W, 2) as x, y
    steps = torch.tensor([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)], **like)  # down a column first
    regular = (centres[:, :, None] + steps) / size  # (H, W, 9, 2)
    moved = offset.view(n, h, w, groups, POINTS, 2) / size
    positions = 2 * (regular[None, :, :, None] + moved) - 1  # (N, H, W, G, 9, 2) in [-1, 1]

    grid = positions.view(n, h * w, groups, POINTS, 2).transpose(1, 2).flatten(0, 1)  # (N * G, H * W, 9, 2)
    maps = padded.view(n, height * width, channels).transpose(1, 2)
    maps = maps.reshape(n * groups, channels // groups, height, width)
    read = functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    weights = (
        modulation.reshape(n, h * w, groups, POINTS).transpose(1, 2).reshape(n * groups, 1, h * w, POINTS)
    )
    summed = (read * weights).sum(-1).view(n, channels, h * w)
    return summed.transpose(1, 2).reshape(n, h, w, channels).contiguous()


def torchvision_dcnv3(inputs: Sequence[Tensor], groups: int, softmax: bool) -> Callable[[], Tensor]:
    """Return DCNv3 as torchvision's modulated deformable convolution, DCNv2, to be called: (N, C, H, W).

    The same function, with weights that are all 1 and one output channel for each input channel. Its own
    layout (channels first, y before x, points along rows) is prepared here and not timed.
    """
    input, offset, logits = inputs
    n, h, w, channels = input.shape
    picture = input.permute(0, 3, 1, 2).contiguous()
    by_row = offset.view(n, h, w, groups, 3, 3, 2).transpose(4, 5).flip(-1)  # (N, H, W, G, row, column, y x)
    moves = by_row.reshape(n, h, w, -1).permute(0, 3, 1, 2).contiguous()
    scores = logits.view(n, h, w, groups, 3, 3).transpose(4, 5).reshape(n, h, w, -1)
    scores = scores.permute(0, 3, 1, 2).contiguous()  # (N, G * 9, H, W)
    weight = torch.ones(channels, 1, 3, 3, dtype=input.dtype, device=input.device)

    def call() -> Tensor:
        mask = scores.view(n, groups, POINTS, h, w).softmax(2).view_as(scores) if softmax else scores
        return deform_conv2d(picture, moves, weight, padding=(1, 1), mask=mask)

    return call
