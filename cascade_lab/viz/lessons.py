"""Small drawings for the course: two boxes and what they share, and arrays as grids of visible cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from cascade_lab.ops.boxes import area, pairwise_iou
from cascade_lab.viz.palette import BLUE, FAINT, GREY, INK, PAPER, VERMILLION

Box = Sequence[float]
MOST_GRID_LINES = 64  # a finer grid would hide the cells


def draw_overlaps(pairs: Sequence[tuple[Box, Box]]) -> Figure:
    """Draw pairs of boxes side by side: a with a solid line, b with a dashed one, the shared part hatched.

    Shapes: each pair (a, b) xyxy in any unit, all in one frame. The areas and the IoU stand below.
    """
    figure = Figure(figsize=(3.1 * len(pairs), 3.6), dpi=100, layout="constrained")
    every = torch.tensor([[list(a), list(b)] for a, b in pairs], dtype=torch.float32)  # (P, 2, 4)
    low, high = every.view(-1, 2).amin(0), every.view(-1, 2).amax(0)
    margin = 0.08 * (high - low).max()
    (left, top), (right, bottom) = (low - margin).tolist(), (high + margin).tolist()
    for axes, (a, b) in zip(_row(figure, len(pairs)), every, strict=True):
        x1, y1 = torch.maximum(a[:2], b[:2]).tolist()
        x2, y2 = torch.minimum(a[2:], b[2:]).tolist()
        width, height = max(0.0, x2 - x1), max(0.0, y2 - y1)
        if width * height > 0:
            shared = Rectangle((x1, y1), width, height, fill=False, hatch="////", edgecolor=GREY, linewidth=0)
            axes.add_patch(shared)
        _outline(axes, a.tolist(), VERMILLION, "solid", "a")
        _outline(axes, b.tolist(), BLUE, (0, (5, 2)), "b")
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        union = area(a).item() + area(b).item() - width * height
        axes.set_xlabel(
            f"area a {area(a).item():g}, area b {area(b).item():g}\n"
            f"shared {width * height:g}, union {union:g}\n"
            f"IoU {pairwise_iou(a[None], b[None]).item():.2f}",
            color=INK,
        )
        axes.tick_params(labelsize=8, colors=FAINT)
        axes.xaxis.set_ticks_position("top")
        axes.locator_params(nbins=6, integer=True)
    return figure


def draw_grids(grids: Sequence[Tensor | np.ndarray], titles: Sequence[str]) -> Figure:
    """Draw arrays side by side with every cell visible: 0 white, 1 blue, and shades between.

    Shapes: each grid (H, W) in [0, 1] or bool, or a picture (H, W, 3) uint8, which is shown as it is.
    """
    figure = Figure(figsize=(3.1 * len(grids), 3.4), dpi=100, layout="constrained")
    shades = LinearSegmentedColormap.from_list("shades", [PAPER, BLUE])
    for axes, grid, title in zip(_row(figure, len(grids)), grids, titles, strict=True):
        values = np.asarray(grid)
        height, width = values.shape[:2]
        extent = (0, width, height, 0)
        if values.ndim == 3:
            axes.imshow(values, extent=extent)
        else:
            axes.imshow(values, cmap=shades, vmin=0, vmax=1, extent=extent, interpolation="nearest")
            if max(height, width) <= MOST_GRID_LINES:
                axes.hlines(range(height + 1), 0, width, colors=GREY, linewidths=0.3)
                axes.vlines(range(width + 1), 0, height, colors=GREY, linewidths=0.3)
        axes.set_title(title, fontsize=10, color=INK)
        axes.tick_params(labelsize=8, colors=FAINT)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))  # there is no half cell
    return figure


def _row(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _outline(axes: Axes, box: Box, colour: str, style: Any, name: str) -> None:
    x1, y1, x2, y2 = box
    axes.add_patch(
        Rectangle(
            (x1, y1), x2 - x1, y2 - y1, facecolor=(*to_rgb(colour), 0.12), edgecolor=colour,
            linestyle=style, linewidth=2,
        )
    )  # fmt: skip
    # a at its left upper corner, b at its right lower one: equal boxes keep two readable letters.
    at = (x1, y1) if name == "a" else (x2, y2)
    axes.annotate(
        name, at, xytext=(4, -4) if name == "a" else (-4, 4), textcoords="offset points", color=colour,
        ha="left" if name == "a" else "right", va="top" if name == "a" else "bottom", weight="bold",
        path_effects=[withStroke(linewidth=3, foreground=PAPER)],
    )  # fmt: skip
