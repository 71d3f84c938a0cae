"""The still pictures of the sampling viewer: points of a pixel, offsets of a group, receptive fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from cascade_lab.errors import InputError
from cascade_lab.receptive_field import SHARE, ReceptiveField
from cascade_lab.sampling import Sampling, SamplingLayer
from cascade_lab.viz.boxes import add_box, show_picture
from cascade_lab.viz.palette import FAINT, INK, ORANGE, PAPER, SKY, VERMILLION, YELLOW, LineLook
from cascade_lab.widgets.sampling_text import choose_layer, grid

MARGIN = 1 / 6  # of the longer side, so that points beyond the border can be seen
HEAT = LinearSegmentedColormap.from_list("heat", ["black", VERMILLION, YELLOW])
RIM = [withStroke(linewidth=2.5, foreground="black", alpha=0.6)]


def draw_sampling(
    sampling: Sampling, level: int, pixel: tuple[int, int], *, block: int = 0, group: int = 0
) -> Figure:
    """Draw the points of one output pixel on the picture, their modulation as bars, and the whole field.

    Args:
        level, block, group, pixel: (row, column), all counted from 0; see ``describe_pixel``.
    """
    layer = choose_layer(sampling, level, block)
    row, column = pixel
    figure = Figure(figsize=(13, 5), dpi=100, layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 0.42, 1))
    modulation = layer.modulation[row, column, group]
    centre = np.array([column, row]) * layer.stride + 0.5
    start = layer.regular()[row, column] * layer.stride + 0.5
    points = layer.on_picture()[row, column, group]

    _canvas(left, sampling)
    for (x1, y1), (x2, y2) in zip(start, points, strict=True):
        left.plot([x1, x2], [y1, y2], color=PAPER, linewidth=0.9, path_effects=RIM)
    left.plot(*start.T, "s", markersize=5, markerfacecolor="none", markeredgecolor=PAPER, path_effects=RIM)
    area = 900 * modulation
    left.scatter(*points.T, s=area, c=ORANGE, alpha=0.85, edgecolors="black", linewidths=0.8, zorder=3)
    for k, place in enumerate(points):
        left.annotate(str(k + 1), place, ha="center", va="center", fontsize=8, weight="bold", zorder=4)
    left.plot(*centre, "+", color=SKY, markersize=11, markeredgewidth=2, path_effects=RIM, zorder=5)
    left.set_title(
        f"level {level} (stride {layer.stride}), block {layer.block}, group {group + 1} of {layer.groups}, "
        f"pixel {pixel}",
        fontsize=10, color=INK,
    )  # fmt: skip

    names = [f"{k + 1} {place}" for k, place in enumerate(grid(layer.kernel))]
    bars = middle.barh(names, modulation, color=ORANGE, edgecolor="black", linewidth=0.5)
    middle.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    middle.set(xlim=(0, max(0.35, 1.25 * modulation.max())))
    middle.invert_yaxis()
    middle.set_title("point (x, y) of the grid: modulation", fontsize=10, color=INK)
    middle.tick_params(labelsize=8, colors=FAINT)

    _canvas(right, sampling)
    _arrows(right, layer, group)
    right.set_title("from every output pixel to the mean of its points", fontsize=10, color=INK)
    return figure


def draw_receptive_fields(
    picture: np.ndarray, before: Sequence[ReceptiveField], after: Sequence[ReceptiveField]
) -> Figure:
    """Draw fields before training above the same pixels' fields after it, with the radius that holds 90 %.

    Shapes: picture (H, W, 3) uint8. Raises InputError where the two lists are not of the same pixels.
    """
    places = [[(one.level, one.row, one.column) for one in fields] for fields in (before, after)]
    if not before or places[0] != places[1]:
        raise InputError(f"before and after: of the pixels {places[0]} and {places[1]}, which must be equal")
    figure = Figure(figsize=(3.1 * len(before), 6.6), dpi=100, layout="constrained")
    axes = figure.subplots(2, len(before), squeeze=False)
    for row, (when, fields) in zip(axes, (("before", before), ("after", after)), strict=True):
        for one, field in zip(row, fields, strict=True):
            _heat(one, picture, field)
            radius = field.radius()
            one.set_title(
                f"level {field.level} (stride {field.stride}), {when} training\n"
                f"{SHARE:.0%} within {radius:.1f} pixels",
                fontsize=10, color=INK,
            )  # fmt: skip
    return figure


def _canvas(axes: Axes, sampling: Sampling) -> None:
    """Show the picture with its boxes and a margin round it."""
    height, width = sampling.picture.shape[:2]
    margin = MARGIN * max(height, width)
    show_picture(axes, sampling.picture)
    for box in sampling.boxes.tolist():
        add_box(axes, box, LineLook(colour=PAPER, style="solid", width=1.0))
    axes.set(xlim=(-margin, width + margin), ylim=(height + margin, -margin))


def _arrows(axes: Axes, layer: SamplingLayer, group: int) -> None:
    """Draw from every output pixel to the mean of its points, weighted by their modulation, true to scale."""
    weights = layer.modulation[:, :, group, :, None]  # (H, W, K, 1)
    mean = (layer.on_picture()[:, :, group] * weights).sum(2)  # (H, W, 2)
    rows, columns = np.indices(layer.size)
    centre = np.stack([columns, rows], axis=-1) * layer.stride + 0.5
    moved = mean - centre
    axes.quiver(
        *centre.reshape(-1, 2).T, *moved.reshape(-1, 2).T, color=YELLOW, edgecolor="black", linewidth=0.4,
        angles="xy", scale_units="xy", scale=1, width=0.006,
    )  # fmt: skip


def _heat(axes: Axes, picture: np.ndarray, field: ReceptiveField) -> None:
    """Show a darkened picture under the square root of the gradient, and the circle."""
    height, width = picture.shape[:2]
    show_picture(axes, (0.4 * picture).astype(np.uint8))
    share = np.sqrt(field.gradient / field.gradient.max())
    axes.imshow(share, cmap=HEAT, vmin=0, vmax=1, alpha=share, extent=(0, width, height, 0))
    centre = (field.column * field.stride + 0.5, field.row * field.stride + 0.5)
    circle = Circle(centre, field.radius(), fill=False, edgecolor=PAPER, linewidth=1.5, path_effects=RIM)
    axes.add_patch(circle)
    axes.plot(*centre, "+", color=SKY, markersize=9, markeredgewidth=2, path_effects=RIM)
