"""Where one DCNv3 layer of a backbone reads, for one picture: what chapter 02 draws on the picture itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from cascade_lab.backbones.internimage import Block, InternImage, Level
from cascade_lab.errors import InputError
from cascade_lab.kernels.machines import switched_off
from cascade_lab.ops.dcnv3_reference import sampling_points
from cascade_lab.structures import ImageBatch


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Points and weights of one layer for every pixel of its map.

    Shapes:
        map: (H, W, G, C / G) what is read.
        x, y: (H, W, G, 9) in pixels of the layer's own map, whole numbers at pixel centres.
        modulation: (H, W, G, 9), adds up to 1 over the points.
        stride: pixels of the picture to one of the map.
    """

    map: Tensor
    x: Tensor
    y: Tensor
    modulation: Tensor
    stride: int

    def on_picture(self, row: int, column: int) -> tuple[Tensor, Tensor]:
        """Return where one output reads in pixels of the picture: x and y, (G, 9), box coordinates."""
        return (self.x[row, column] + 0.5) * self.stride, (self.y[row, column] + 0.5) * self.stride

    def strength(self, group: int) -> np.ndarray:
        """Return how strong the features of a group are, dark to bright, at the size of the picture.

        Shapes: (H * stride, W * stride, 3) uint8; every pixel of the map is a square.
        """
        strength = self.map[:, :, group].norm(dim=-1)
        strength = (strength - strength.min()) / (strength.max() - strength.min()).clamp(min=1e-6)
        squares = (255 * strength).round().byte().numpy().repeat(self.stride, 0).repeat(self.stride, 1)
        return np.stack([squares] * 3, axis=-1)

    def far(self) -> Tensor:
        """Return which points are outside of the 3 x 3 pixels that a convolution reads, (H, W, G, 9) bool.

        A read between pixels touches those around it: from 1.5 pixels on, most of it comes from outside.
        """
        height, width = self.x.shape[:2]
        across = (self.x - torch.arange(width).view(1, width, 1, 1)).abs()
        down = (self.y - torch.arange(height).view(height, 1, 1, 1)).abs()
        return torch.maximum(across, down) > 1.5


@torch.no_grad()
def sampling_of(backbone: InternImage, picture: Tensor, *, level: int, block: int = 0) -> Sampling:
    """Run a backbone on a picture (3, H, W) uint8 up to one layer, and return where that layer reads.

    Raises:
        InputError: the backbone has no such level or block.
    """
    depths = backbone.config.depths
    if not (0 <= level < len(depths) and 0 <= block < depths[level]):
        raise InputError(f"level {level}, block {block}: there are levels 0 to 3 with {depths} blocks")
    levels = cast(list[Level], list(backbone.levels))
    *earlier, chosen = cast(list[Block], list(levels[level].blocks)[: block + 1])
    with switched_off():  # for one small picture it is not worth while to compile kernels
        x = backbone.stem(ImageBatch.collate([picture]).pixels)  # (1, H / 4, W / 4, C)
        for before in levels[:level]:
            _, x = before(x)
        for before in earlier:
            x = before(x)
    offset, logits, _ = chosen.dcn.look(x if chosen.post_norm else chosen.norm1(x))
    groups, size = chosen.dcn.groups, (x.shape[1], x.shape[2])
    px, py = sampling_points(size, offset, groups, offset_scale=chosen.dcn.offset_scale)
    modulation = logits.view(*px.shape).softmax(-1)
    read = chosen.dcn.input_proj(x if chosen.post_norm else chosen.norm1(x))[0].unflatten(-1, (groups, -1))
    return Sampling(
        map=read, x=px[0], y=py[0], modulation=modulation[0], stride=backbone.config.strides[level]
    )
