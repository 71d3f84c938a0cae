"""A sampling without any model: points that anyone can work out, on a picture of plain colours."""

from __future__ import annotations

import numpy as np

from cascade_lab.receptive_field import ReceptiveField
from cascade_lab.sampling import Sampling, SamplingLayer
from cascade_lab.widgets.sampling_view import SamplingView

SIZE = (64, 96)
GROUPS = (2, 3)
STRIDES = (4, 8)


def made_up_layer(
    level: int, block: int, *, scale: float = 1.0, size: tuple[int, int] = SIZE
) -> SamplingLayer:
    """Return a layer whose offsets and modulation are random, by a seed of its own."""
    random = np.random.default_rng([level, block])
    height, width = (length // STRIDES[level] for length in size)
    groups = GROUPS[level]
    rows, columns = np.indices((height, width))
    grid = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)])  # (K, 2)
    centre = np.stack([columns, rows], axis=-1)[:, :, None, None]  # (H, W, 1, 1, 2)
    points = centre + scale * (grid + random.normal(0, 0.8, (height, width, groups, 9, 2)))
    powers = np.exp(random.normal(0, 1, (height, width, groups, 9)))
    return SamplingLayer(
        level=level,
        block=block,
        stride=STRIDES[level],
        kernel=3,
        offset_scale=scale,
        points=points.astype(np.float32),
        modulation=(powers / powers.sum(-1, keepdims=True)).astype(np.float32),
    )


def made_up_sampling(boxes: int = 2, size: tuple[int, int] = SIZE, name: str = "made up") -> Sampling:
    """Return two blocks of level 0 and one of level 1, whose block is number 3 of the network."""
    height, width = size
    y, x = np.indices(size)
    picture = np.stack([x * 255 // width, y * 255 // height, np.full(size, 90)], axis=-1).astype(np.uint8)
    random = np.random.default_rng(7)
    corner = random.uniform(0, (width - 20, height - 20), (boxes, 2))
    layers = (made_up_layer(0, 0, size=size), made_up_layer(0, 1, size=size))
    return Sampling(
        name=name,
        picture=picture,
        boxes=np.hstack([corner, corner + random.uniform(5, 20, (boxes, 2))]).astype(np.float32),
        layers=(*layers, made_up_layer(1, 3, scale=2.0, size=size)),
    )


def made_up_fields(width: float) -> list[ReceptiveField]:
    """Return round fields of a few pixels of both levels, as wide as the bell curve ``width``."""
    y, x = np.indices(SIZE)
    found = []
    for level, stride in enumerate(STRIDES):
        for row, column in ((2, 2), (2, 6), (6, 4)):
            square = (y - row * stride) ** 2 + (x - column * stride) ** 2
            bell = np.exp(-square / (2 * (width * (level + 1)) ** 2)).astype(np.float32)
            found.append(
                ReceptiveField(level=level, row=row, column=column, stride=stride, gradient=bell / bell.sum())
            )
    return found


def made_up_view() -> SamplingView:
    """Return the made-up sampling with fields that are twice as wide after training as before."""
    return SamplingView(sampling=made_up_sampling(), before=made_up_fields(2), after=made_up_fields(4))
