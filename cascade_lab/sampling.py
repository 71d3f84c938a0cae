"""Where every DCNv3 layer of a detector reads one picture, and how much each point counts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cascade_lab.backbones.internimage import Block, InternImage, Level
from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.ops.dcnv3 import modulate
from cascade_lab.ops.dcnv3_reference import sampling_points
from cascade_lab.structures import ImageBatch


@dataclass(frozen=True, kw_only=True)
class SamplingLayer:
    """One DCNv3 layer: its points for every pixel of its map, in every group.

    Pixel j of a map of stride s is centred on picture pixel s * j, since every strided convolution is centred
    on every second pixel of the map before it. A point at p therefore lies at s * p, see ``on_picture``.

    Attributes:
        level, block: 0-based, as in the backbone.
        stride: picture pixels from one pixel of the map to the next.
        kernel: 3 for a grid of 3 x 3. offset_scale: stretches the grid and the offsets alike.

    Shapes, for a map of (H, W) pixels, G groups and K = kernel**2 points, which run down a column first:
        points: (H, W, G, K, 2) float32, x and y in pixels of the map; whole numbers are pixel centres.
        modulation: (H, W, G, K) float32, adds up to 1 over the K points.
    """

    level: int
    block: int
    stride: int
    kernel: int
    offset_scale: float
    points: np.ndarray = field(repr=False)
    modulation: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        h, w, groups, points = self.modulation.shape
        if self.points.shape != (h, w, groups, points, 2) or points != self.kernel**2:
            raise InputError(
                f"level {self.level}, block {self.block}: points has shape {self.points.shape}, expected "
                f"{(h, w, groups, self.kernel**2, 2)}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of the map."""
        return self.modulation.shape[0], self.modulation.shape[1]

    @property
    def groups(self) -> int:
        return self.modulation.shape[2]

    def regular(self) -> np.ndarray:
        """Return the points of zero offsets, (H, W, K, 2), in pixels of the map: where the layer started."""
        (h, w), k = self.size, self.kernel
        zero = torch.zeros(1, h, w, 2 * k * k)
        x, y = sampling_points((h, w), zero, 1, k, padding=k // 2, offset_scale=self.offset_scale)
        return torch.stack([x, y], dim=-1)[0, :, :, 0].numpy()

    def outside(self) -> np.ndarray:
        """Return (H, W, G, K) bool: the points that lie a whole pixel or more outside, and read zero."""
        limit = np.array(self.size[::-1])  # x, y
        return np.any((self.points <= -1) | (self.points >= limit), axis=-1)

    def on_picture(self) -> np.ndarray:
        """Return ``points`` in pixels of the picture, where pixel (0, 0) has its centre at (0.5, 0.5)."""
        return self.points * self.stride + 0.5


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """One picture as a detector samples it.

    Shapes:
        picture: (H, W, 3) uint8, RGB, as the network saw it but for its padding at the right and the bottom.
        boxes: (B, 4) float32 xyxy in its pixels, such as the ground truth; drawn for orientation only.
    """

    name: str = ""
    picture: np.ndarray = field(repr=False)
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32), repr=False)
    layers: tuple[SamplingLayer, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if self.picture.ndim != 3 or self.picture.shape[2] != 3 or self.picture.dtype != np.uint8:
            raise InputError(f"picture: {self.picture.dtype} {self.picture.shape}, expected uint8 (H, W, 3)")
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise InputError(f"boxes: shape {self.boxes.shape}, expected (B, 4)")
        if not self.layers:
            raise InputError("layers: none; keep at least one block")

    @property
    def levels(self) -> tuple[int, ...]:
        """Return the levels of which a layer was kept, in order."""
        return tuple(sorted({layer.level for layer in self.layers}))

    def of_level(self, level: int) -> tuple[SamplingLayer, ...]:
        """Return the kept layers of one level, in the order of their blocks."""
        return tuple(layer for layer in self.layers if layer.level == level)


@torch.no_grad()
def sample_picture(
    detector: Detector,
    picture: Tensor,
    *,
    boxes: Tensor | None = None,
    name: str = "",
    keep: Collection[tuple[int, int]] | None = None,
) -> Sampling:
    """Run the backbone on one picture and collect the points of its DCNv3 layers.

    Args:
        picture: uint8 (3, H, W) RGB at the size that the network is to see; it is padded, not resized.
        boxes: (B, 4) xyxy in its pixels, to be drawn.
        keep: (level, block) pairs, 0-based; None keeps all. Large pictures and models need it: a layer takes
            12 bytes a point, and XL at 800 x 1280 has 7 million points in a single block of level 0.

    Raises:
        InputError: the detector is in training mode, the picture is no (3, H, W), or ``keep`` names a block
            that is not there.
    """
    detector.require_eval()
    backbone = detector.backbone
    depths = backbone.config.depths
    every = {(level, block) for level in range(len(depths)) for block in range(depths[level])}
    if unknown := sorted(set(keep or ()) - every):
        raise InputError(
            f"keep: there is no (level, block) {unknown[0]}; levels have {depths} blocks, from 0"
        )
    if picture.ndim != 3 or len(picture) != 3:
        raise InputError(f"picture: shape {tuple(picture.shape)}, expected (3, H, W)")
    pixels = ImageBatch.collate([picture]).pixels.to(next(detector.parameters()).device)
    layers = [
        _layer(block, x, level, index, backbone.config.strides[level])
        for level, index, block, x in walk(backbone, pixels)
        if keep is None or (level, index) in keep
    ]
    return Sampling(
        name=name,
        picture=picture.permute(1, 2, 0).contiguous().cpu().numpy(),
        boxes=np.zeros((0, 4), np.float32) if boxes is None else boxes.cpu().numpy().astype(np.float32),
        layers=tuple(layers),
    )


def walk(backbone: InternImage, pixels: Tensor) -> Iterator[tuple[int, int, Block, Tensor]]:
    """Run a backbone on (N, 3, H, W) and yield every block with its level, its number and its input."""
    x = backbone.stem(pixels)  # (N, H / 4, W / 4, C)
    for level, blocks in enumerate(backbone.levels):
        assert isinstance(blocks, Level)
        for index, block in enumerate(blocks.blocks):
            assert isinstance(block, Block)
            yield level, index, block, x
            x = blocks.step(x, index)
        _, x = blocks.leave(x)


def _layer(block: Block, x: Tensor, level: int, index: int, stride: int) -> SamplingLayer:
    """Return the points of one block for its input (1, H, W, C)."""
    dcn = block.dcn
    offset, logits = block.look(x)
    size = (x.shape[1], x.shape[2])
    points = sampling_points(
        size, offset, dcn.groups, dcn.kernel, padding=dcn.kernel // 2, offset_scale=dcn.offset_scale
    )
    modulation = modulate(logits, dcn.groups, "softmax").unflatten(-1, (dcn.groups, -1))  # (1, H, W, G, K)
    return SamplingLayer(
        level=level,
        block=index,
        stride=stride,
        kernel=dcn.kernel,
        offset_scale=dcn.offset_scale,
        points=torch.stack(points, dim=-1)[0].float().cpu().numpy(),
        modulation=modulation[0].float().cpu().numpy(),
    )
