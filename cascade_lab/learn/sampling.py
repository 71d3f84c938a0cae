"""What chapter 02 asks besides where a layer reads: how strong its map is, and which points have gone far."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.sampling import SamplingLayer, walk
from cascade_lab.structures import ImageBatch


def far(layer: SamplingLayer) -> np.ndarray:
    """Return which points lie outside of the 3 x 3 pixels that a convolution reads, (H, W, G, K) bool.

    A read between pixels touches those around it: from 1.5 pixels on, most of it comes from outside.
    """
    rows, columns = np.indices(layer.size)
    own = np.stack([columns, rows], axis=-1)[:, :, None, None]  # (H, W, 1, 1, 2), x and y
    return np.abs(layer.points - own).max(axis=-1) > 1.5


@torch.no_grad()
def strengths(detector: Detector, picture: Tensor, *, level: int, block: int = 0) -> list[np.ndarray]:
    """Return for each group of a layer how strong the features are that it reads, dark to bright.

    Shapes: picture (3, H, W) uint8; each group (H, W, 3) uint8, one square for every pixel of the map, where
    ``SamplingLayer`` has its centre, to the nearest pixel.

    Raises:
        InputError: there is no such level or block.
    """
    backbone = detector.backbone
    pixels = ImageBatch.collate([picture]).pixels.to(next(detector.parameters()).device)
    for at_level, index, found, x in walk(backbone, pixels):
        if (at_level, index) == (level, block):
            read = found.dcn.input_proj(x if found.post_norm else found.norm1(x))  # (1, H / s, W / s, C)
            norms = read[0].unflatten(-1, (found.dcn.groups, -1)).norm(dim=-1).float().cpu()  # (.., .., G)
            break
    else:
        depths = backbone.config.depths
        raise InputError(f"level {level}, block {block}: levels 0 to {len(depths) - 1} have {depths} blocks")
    stride = backbone.config.strides[level]
    row, column = (
        ((torch.arange(length) + stride // 2) // stride).clamp(max=cells - 1)
        for length, cells in zip(picture.shape[1:], norms.shape[:2], strict=True)
    )
    norms = (norms - norms.amin((0, 1))) / (norms.amax((0, 1)) - norms.amin((0, 1))).clamp(min=1e-6)
    squares = (255 * norms[row][:, column]).round().byte().numpy()  # (H, W, G)
    return [np.repeat(squares[:, :, [group]], 3, axis=-1) for group in range(squares.shape[2])]
