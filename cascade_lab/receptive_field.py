"""Which pixels of a picture one output pixel of the backbone answers to, measured by gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.errors import InputError
from cascade_lab.structures import ImageBatch

SHARE = 0.9  # of the gradient that the quoted radius holds


@dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """The effective receptive field of one pixel of a backbone's map.

    Attributes:
        level, row, column: the output pixel, 0-based; stride: picture pixels from one to the next.
        gradient: (H, W) float32, the size of the gradient at every pixel of the picture; adds up to 1.
    """

    level: int
    row: int
    column: int
    stride: int
    gradient: np.ndarray = field(repr=False)

    def radius(self, share: float = SHARE) -> float:
        """Return the radius, in picture pixels round the output pixel's centre, that holds ``share``."""
        y, x = np.indices(self.gradient.shape)
        distance = np.hypot(y - self.row * self.stride, x - self.column * self.stride).ravel()
        order = distance.argsort(kind="stable")
        held = self.gradient.ravel()[order].astype(np.float64).cumsum()
        first = min(int(np.searchsorted(held, share * held[-1])), len(order) - 1)
        return float(distance[order[first]])


def receptive_field(
    detector: Detector, picture: Tensor, level: int, pixel: tuple[int, int], *, directions: int = 8
) -> ReceptiveField:
    """Measure by gradients which pixels of ``picture`` one pixel of a level's map answers to.

    The map has many channels. Their plain sum cannot be used: a layer norm makes it the same for every
    picture, so its gradient is zero. We take random weights for the channels instead, several times, and
    return the root of the mean square of the gradients, over these directions, summed over the three colours.

    Args:
        picture: uint8 (3, H, W) RGB at the size that the network is to see.
        level: 0-based; pixel: (row, column) of its map.
        directions: how many random weightings; the same ones at every call.

    Raises:
        InputError: there is no such level or pixel, or the detector is in training mode.

    Source: Luo et al. 2016, "Understanding the effective receptive field"; InternImage, figure 7. Where we
    differ: they average over many pictures or take one channel.
    """
    return _Gradients(detector, picture, directions).of(level, pixel)


def receptive_fields(
    detector: Detector, picture: Tensor, *, per_side: int = 4, directions: int = 8
) -> list[ReceptiveField]:
    """Measure the fields of ``per_side**2`` output pixels of every level, or of all where it has fewer.

    They are evenly spread. Each takes one backward pass of ``directions`` pictures.
    Raises InputError as ``receptive_field`` does.
    """
    if per_side < 1:
        raise InputError(f"per_side: {per_side} must be 1 or more")
    gradients = _Gradients(detector, picture, directions)
    pixels = [
        (level, (row, column))
        for level, (height, width) in enumerate(gradients.sizes)
        for row in spread(height, per_side)
        for column in spread(width, per_side)
    ]
    return [gradients.of(*one) for one in tqdm(pixels, desc="receptive fields", unit="pixel", disable=None)]


def spread(length: int, count: int) -> list[int]:
    """Return at most ``count`` whole numbers of 0 ... length - 1, each in the middle of its share."""
    count = min(count, length)
    return [(2 * part + 1) * length // (2 * count) for part in range(count)]


def untrained(config: DetectorConfig, seed: int = 0) -> Detector:
    """Return a detector with fresh weights, as training begins; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Detector(config).eval()


class _Gradients:
    """The maps of one picture, computed once, ready to be asked for gradients."""

    def __init__(self, detector: Detector, picture: Tensor, directions: int) -> None:
        detector.require_eval()
        if picture.ndim != 3 or len(picture) != 3:
            raise InputError(f"picture: shape {tuple(picture.shape)}, expected (3, H, W)")
        if directions < 1:
            raise InputError(f"directions: {directions} must be 1 or more")
        device = next(detector.parameters()).device
        pixels = ImageBatch.collate([picture]).pixels.to(device)
        self.size = (picture.shape[1], picture.shape[2])
        self.strides = detector.backbone.config.strides
        with torch.enable_grad():
            # The same picture once a direction: one pass for all of them is faster than many small ones.
            self.pixels = pixels.repeat(directions, 1, 1, 1).requires_grad_()
            self.maps: Sequence[Tensor] = detector.backbone(self.pixels)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Return (H, W) of the maps, without what lies in the picture's padding."""
        return [(-(-self.size[0] // s), -(-self.size[1] // s)) for s in self.strides]

    def of(self, level: int, pixel: tuple[int, int]) -> ReceptiveField:
        if not 0 <= level < len(self.maps):
            raise InputError(f"level: {level} is not between 0 and {len(self.maps) - 1}")
        (row, column), (height, width) = pixel, self.sizes[level]
        if not (0 <= row < height and 0 <= column < width):
            raise InputError(f"pixel: {pixel} is not in the map of level {level}, {height} x {width}")
        answer = self.maps[level][:, :, row, column]  # (D, C)
        random = torch.Generator().manual_seed(0)
        weights = torch.randn(answer.shape, generator=random).to(answer)
        (gradient,) = torch.autograd.grad((answer * weights).sum(), self.pixels, retain_graph=True)
        size = gradient.square().mean(0).sum(0).sqrt()[: self.size[0], : self.size[1]]  # (H, W)
        return ReceptiveField(
            level=level,
            row=row,
            column=column,
            stride=self.strides[level],
            gradient=(size / size.sum()).cpu().numpy(),
        )
