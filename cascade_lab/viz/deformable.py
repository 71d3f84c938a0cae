"""Drawings of deformable sampling: a read between pixels, nine points on a grid, and points on a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from cascade_lab.viz.boxes import show_picture
from cascade_lab.viz.palette import BLUE, FAINT, GREY, INK, ORANGE, PAPER, SKY, VERMILLION

HALO = [withStroke(linewidth=2.5, foreground=PAPER)]


def draw_bilinear(values: Sequence[Sequence[float]], reads: Sequence[tuple[float, float]]) -> Figure:
    """Draw a small map once for every read at (x, y): the four pixels around it, and what each counts.

    Shapes: values (H, W); whole positions are pixel centres. Pixels outside of the map read as 0.
    """
    figure = Figure(figsize=(3.4 * len(reads), 4.1), dpi=100, layout="constrained")
    for axes, (x, y) in zip(figure.subplots(1, len(reads), squeeze=False)[0], reads, strict=True):
        _draw_cells(axes, np.asarray(values, float))
        terms, total = [], 0.0
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                share = (1 - abs(x - column)) * (1 - abs(y - row))
                inside = 0 <= row < len(values) and 0 <= column < len(values[0])
                value = values[row][column] if inside else 0
                corner = (column - 0.5, row - 0.5)
                axes.add_patch(Rectangle(corner, 1, 1, color=SKY, alpha=0.75 * share, linewidth=0, zorder=0))
                if share:
                    text = f"× {share:.2f}"
                    axes.text(column, row + 0.36, text, ha="center", fontsize=8, color=INK, path_effects=HALO)
                terms.append(f"{share:.2f}·{value:g}")
                total += share * value
        axes.scatter([x], [y], s=70, color=VERMILLION, edgecolors=PAPER, linewidths=1.5, zorder=5)
        axes.set_title(f"read at x = {x:g}, y = {y:g}", fontsize=10, color=INK)
        axes.set_xlabel(f"{' + '.join(terms[:2])}\n+ {' + '.join(terms[2:])} = {total:g}", color=INK)
    return figure


def draw_points(
    panels: Sequence[tuple[Tensor, Tensor]], titles: Sequence[str], size: tuple[int, int]
) -> Figure:
    """Draw nine numbered points a panel over an empty map of (H, W) cells, the regular 3 x 3 tinted.

    Shapes: each panel (x, y), both (9,), in cells; the output's own place is the middle of the map.
    """
    figure = Figure(figsize=(3.2 * len(panels), 3.6), dpi=100, layout="constrained")
    row, column = size[0] // 2, size[1] // 2
    for axes, (x, y), title in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, titles, strict=True
    ):
        _draw_cells(axes, np.full(size, np.nan))
        axes.add_patch(
            Rectangle((column - 1.5, row - 1.5), 3, 3, color=SKY, alpha=0.3, linewidth=0, zorder=0)
        )
        axes.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=BLUE, linewidth=2, linestyle="--"
            )
        )
        for k, (at_x, at_y) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
            axes.scatter([at_x], [at_y], s=150, color=VERMILLION, edgecolors=PAPER, linewidths=1.2, zorder=4)
            axes.text(
                at_x, at_y, str(k), ha="center", va="center", fontsize=8, weight="bold", color=PAPER, zorder=5
            )
        axes.set_title(title, fontsize=10, color=INK)
    return figure


def draw_sampling(
    pictures: Sequence[np.ndarray],
    centre: tuple[float, float],
    stride: int,
    points: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    titles: Sequence[str],
) -> Figure:
    """Draw nine points a panel on a picture, each a disc: the larger, the more it counts.

    Shapes:
        pictures: for each panel (H, W, 3) uint8.
        centre: (x, y) of the output's own place; stride: the side of its square cell of the map; in pixels.
        points: for each panel (9, 2), x and y in pixels of the picture; weights: (9,), adding up to 1.
    """
    figure = Figure(figsize=(3.2 * len(titles), 3.5), dpi=100, layout="constrained")
    left, top = centre[0] - stride / 2, centre[1] - stride / 2
    cells = [(left + i * stride, top + j * stride) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, picture, places, weight, title in zip(panels, pictures, points, weights, titles, strict=True):
        show_picture(axes, picture)
        for corner in cells:
            axes.add_patch(
                Rectangle(corner, stride, stride, fill=False, edgecolor=PAPER, linewidth=0.8, alpha=0.8)
            )
        axes.add_patch(Rectangle((left, top), stride, stride, fill=False, edgecolor=ORANGE, linewidth=2))
        axes.scatter(
            *places.T, s=700 * weight, facecolors=VERMILLION, edgecolors=PAPER,
            linewidths=1.2, zorder=4, clip_on=False, alpha=0.9,
        )  # fmt: skip
        beyond = np.any((places < 0) | (places > picture.shape[1::-1]), axis=1).sum()
        axes.set_title(f"{title}, {beyond} outside" if beyond else title, fontsize=10, color=INK)
    return figure


def _draw_cells(axes: Axes, values: np.ndarray) -> None:
    """Draw a map as cells with their numbers, pixel centres at whole positions; NaN is an empty cell."""
    height, width = values.shape
    for row, column in np.ndindex(height, width):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=GREY, linewidth=0.6))
        if not np.isnan(values[row, column]):
            text = f"{values[row, column]:g}"
            axes.text(column - 0.42, row - 0.26, text, va="center", fontsize=11, color=INK)
    axes.set(xlim=(-1.5, width + 0.5), ylim=(height + 0.5, -1.5), aspect="equal")
    axes.set_xticks(range(width))
    axes.set_yticks(range(height))
    axes.tick_params(labelsize=8, colors=FAINT, length=0)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_ticks_position("top")
