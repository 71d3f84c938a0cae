"""One picture for the sampling viewer: where its layers read, and how far its pixels see."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from cascade_lab.errors import InputError
from cascade_lab.receptive_field import ReceptiveField
from cascade_lab.sampling import Sampling, SamplingLayer
from cascade_lab.viz.palette import VERMILLION, YELLOW
from cascade_lab.widgets.canvas import float_bytes
from cascade_lab.widgets.stored_trace import encode_picture

HEAT_CELLS = 64  # along the longer side of the picture


@dataclass(frozen=True, kw_only=True)
class SamplingView:
    """A picture as a detector samples it, and receptive fields of the same picture, if any.

    Raises:
        InputError: a receptive field is of another size than the picture.
    """

    sampling: Sampling
    before: Sequence[ReceptiveField] = field(default=(), repr=False)
    after: Sequence[ReceptiveField] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for one in (*self.before, *self.after):
            if one.gradient.shape != self.size:
                raise InputError(
                    f"receptive field: {one.gradient.shape} is not the size of the picture {self.size}"
                )

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of the picture."""
        return self.sampling.picture.shape[0], self.sampling.picture.shape[1]


def payload(view: SamplingView) -> dict[str, Any]:
    """Return what JavaScript needs of one picture; arrays go over once, as bytes."""
    fields = [(one, False) for one in view.before] + [(one, True) for one in view.after]
    cell = heat_cell(view.size)
    return {
        "name": view.sampling.name,
        "size": list(view.size),
        "picture": encode_picture(torch.from_numpy(view.sampling.picture).permute(2, 0, 1)),
        "boxes": float_bytes(view.sampling.boxes),
        "layers": [_layer(layer) for layer in view.sampling.layers],
        "fields": [_field(one, trained) for one, trained in fields],
        "cell": cell,
        "heat": _heat([cell_sums(one.gradient, cell) for one, _ in fields]) if fields else b"",
    }


def heat_cell(size: tuple[int, int]) -> int:
    """Return the side of a cell of the heat map, in picture pixels."""
    return max(1, math.ceil(max(size) / HEAT_CELLS))


def cell_sums(gradient: np.ndarray, cell: int) -> np.ndarray:
    """Sum (H, W) over cells; those at the right and the bottom may stand out of the picture."""
    height, width = gradient.shape
    padded = np.pad(gradient, ((0, -height % cell), (0, -width % cell)))
    return padded.reshape(len(padded) // cell, cell, -1, cell).sum((1, 3))


def _layer(layer: SamplingLayer) -> dict[str, Any]:
    """Return one layer for JavaScript: how far points moved in 16 bits, finer than 1 / 1000 map pixel."""
    moved = layer.points - layer.regular()[:, :, None]  # (H, W, G, K, 2)
    step = max(float(np.abs(moved).max()), 1e-6) / 32767
    return {
        "level": layer.level,
        "block": layer.block,
        "stride": layer.stride,
        "kernel": layer.kernel,
        "scale": layer.offset_scale,
        "size": list(layer.size),
        "groups": layer.groups,
        "step": step,
        "moved": np.round(moved / step).astype("<i2").tobytes(),
        "modulation": np.round(layer.modulation * 65535).astype("<u2").tobytes(),
    }


def _field(one: ReceptiveField, trained: bool) -> dict[str, Any]:
    return {
        "level": one.level,
        "row": one.row,
        "column": one.column,
        "stride": one.stride,
        "trained": trained,
        "radius": one.radius(),
    }


def _heat(fields: Sequence[np.ndarray]) -> bytes:
    """Return the square roots of many fields (h, w) as one picture, a tile each, as many columns as rows.

    It is a palette from clear over dark red to yellow, so the browser only has to copy a tile.
    """
    (height, width), side = fields[0].shape, math.ceil(math.sqrt(len(fields)))
    tiles = np.zeros((math.ceil(len(fields) / side), height, side, width), np.uint8)
    for number, sums in enumerate(fields):
        tiles[number // side, :, number % side] = np.round(255 * np.sqrt(sums / sums.max()))
    image = Image.fromarray(tiles.reshape(-1, side * width)).convert("L")
    share = np.linspace(0, 1, 256)[:, None]
    low, high = (np.frombuffer(bytes.fromhex(color[1:]), np.uint8) for color in (VERMILLION, YELLOW))
    image.putpalette(np.round(low * (1 - share) + high * share).astype(np.uint8).tobytes())
    alpha = np.round(255 * np.minimum(1.3 * share, 1)).astype(np.uint8).tobytes()
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True, transparency=alpha)
    return content.getvalue()
