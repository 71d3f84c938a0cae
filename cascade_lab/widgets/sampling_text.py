"""What the sampling viewer says in words and numbers: the points of one pixel, and how far they reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cascade_lab.errors import InputError
from cascade_lab.receptive_field import SHARE, ReceptiveField
from cascade_lab.sampling import Sampling, SamplingLayer


def choose_layer(sampling: Sampling, level: int, block: int) -> SamplingLayer:
    """Return kept layer number ``block`` of a level. Raises InputError where there is none."""
    layers = sampling.of_level(level)
    if not layers:
        raise InputError(f"level: {level} was not kept; there are {list(sampling.levels)}, counted from 0")
    if not 0 <= block < len(layers):
        raise InputError(f"block: {block} is not one of the {len(layers)} kept of level {level}, from 0")
    return layers[block]


def nearest_pixel(layer: SamplingLayer, x: float, y: float) -> tuple[int, int]:
    """Return (row, column) of the output pixel whose centre is nearest to picture pixel (x, y)."""
    (height, width), stride = layer.size, layer.stride
    row, column = int(np.floor(y / stride + 0.5)), int(np.floor(x / stride + 0.5))
    return min(max(row, 0), height - 1), min(max(column, 0), width - 1)


def reach(layer: SamplingLayer, group: int, pixel: tuple[int, int]) -> tuple[float, float]:
    """Return how far the farthest point is, in picture pixels: as it lies, and as it lay at zero offsets."""
    row, column = pixel
    centre = np.array([column, row])
    found = (
        np.hypot(*(points - centre).T).max() * layer.stride
        for points in (layer.points[row, column, group], layer.regular()[row, column])
    )
    now, before = found
    return float(now), float(before)


def describe_pixel(sampling: Sampling, level: int, block: int, group: int, pixel: tuple[int, int]) -> str:
    """Return what the panel tells: a headline, a line a point, and how far they reach.

    Args:
        level, block, group, pixel: counted from 0; block is the number among the kept ones of the level.

    In the words, levels and blocks are counted from 0 as well, as the code names them; groups and points,
    which are told as "3 of 4", from 1.
    """
    layer = choose_layer(sampling, level, block)
    row, column = _checked(layer, group, pixel)
    points, modulation = layer.points[row, column, group], layer.modulation[row, column, group]
    moved = points - layer.regular()[row, column]
    lines = [
        f"Level {level} (stride {layer.stride}), block {layer.block}, group {group + 1} of "
        f"{layer.groups}, output pixel in row {row}, column {column}."
    ]
    for k, (gx, gy) in enumerate(grid(layer.kernel)):
        x, y = points[k] * layer.stride + 0.5
        lines.append(
            f"{k + 1}: starts at ({gx}, {gy}), moved by ({moved[k, 0]:+.2f}, {moved[k, 1]:+.2f}), "
            f"reads the picture at ({x:.1f}, {y:.1f}), modulation {modulation[k]:.2f}"
        )
    now, before = reach(layer, group, pixel)
    lost = int(layer.outside()[row, column, group].sum())
    lines.append(
        f"The farthest of the {len(points)} points is {now:.1f} picture pixels away; at zero offsets it "
        f"would be {before:.1f}. "
        + (
            f"{lost} of them {'reads' if lost == 1 else 'read'} zero outside the map."
            if lost
            else "All of them lie on the map."
        )
    )
    return "\n".join(lines)


def radius_table(before: Sequence[ReceptiveField], after: Sequence[ReceptiveField]) -> str:
    """Return a text table, one line a level: the median radius that holds 90 % of the gradient."""
    lines = [
        f"radius that holds {SHARE:.0%} of the gradient, in picture pixels",
        "                    pixels   before   after",
    ]
    for level in sorted({one.level for one in after}):
        stride = next(one.stride for one in after if one.level == level)
        radii = [[one.radius() for one in fields if one.level == level] for fields in (before, after)]
        medians = "{:8.1f} {:7.1f}".format(*map(np.median, radii))
        lines.append(f"level {level} (stride {stride:2d}) {len(radii[1]):7d} {medians}")
    return "\n".join(lines)


def grid(kernel: int) -> list[tuple[int, int]]:
    """Return the regular grid (x, y) of a kernel in the order of the points: down a column first."""
    half = kernel // 2
    return [(column - half, row - half) for column in range(kernel) for row in range(kernel)]


def _checked(layer: SamplingLayer, group: int, pixel: tuple[int, int]) -> tuple[int, int]:
    (row, column), (height, width) = pixel, layer.size
    if not 0 <= group < layer.groups:
        raise InputError(f"group: {group} is not one of the {layer.groups}, counted from 0")
    if not (0 <= row < height and 0 <= column < width):
        raise InputError(f"pixel: {pixel} is not in the map of {height} x {width}")
    return row, column
