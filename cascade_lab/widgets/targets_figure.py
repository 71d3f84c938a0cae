"""The still pictures of the targets viewer, one for each tab, and the looks of its boxes, for JavaScript."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from cascade_lab.viz.boxes import add_box, add_tag, show_picture
from cascade_lab.viz.palette import (
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PALE,
    PAPER,
    SKY,
    VERMILLION,
    YELLOW,
    LineLook,
    stage_look,
)
from cascade_lab.widgets.canvas import stroke_values
from cascade_lab.widgets.targets_text import cell_anchors, describe_bin, describe_step, level_at
from cascade_lab.widgets.targets_view import TargetsView

OBJECT = LineLook(colour=PAPER, style="solid", width=1.4)
POSITIVE = LineLook(colour=GREEN, style="solid", width=2.2)
RESCUED = LineLook(colour=YELLOW, style=(0, (5, 1.8)), width=2.2)
NEGATIVE = LineLook(colour=VERMILLION, style=(0, (2.4, 1.2)), width=1.6)
UNUSED = LineLook(colour=PALE, style=(0, (1, 1.2)), width=1.8)
KEPT = LineLook(colour=GREEN, style="solid", width=2.2)
FALLEN = LineLook(colour=VERMILLION, style=(0, (3, 1.4)), width=1.8)
WAITING = LineLook(colour=PALE, style=(0, (1, 1.4)), width=1.2)
NOW = LineLook(colour=SKY, style="solid", width=2.8)
BIN = LineLook(colour=ORANGE, style="solid", width=2.4)
ROUNDED = LineLook(colour=VERMILLION, style=(0, (4, 2)), width=2.0)
_LOOKS = {
    "object": OBJECT, "positive": POSITIVE, "rescued": RESCUED, "negative": NEGATIVE, "unused": UNUSED,
    "kept": KEPT, "fallen": FALLEN, "waiting": WAITING, "now": NOW, "bin": BIN,
}  # fmt: skip
PANEL = 4.2  # inches
_MAP = LinearSegmentedColormap.from_list("map", ["#1b1b1b", "#f2f2f2"])


def looks() -> dict[str, dict[str, object]]:
    """Return how JavaScript draws every kind of box, and the box of every level; see ``stroke_values``."""
    levels = {f"level {k}": stage_look(k) for k in range(5)}
    return {name: stroke_values(look) for name, look in (_LOOKS | levels).items()}


def anchor_look(view: TargetsView, anchor: int) -> LineLook:
    """Return how an anchor is drawn: by what the assigner made of it."""
    target = int(view.anchors.target_index[anchor])
    if target < 0:
        return NEGATIVE if target == -1 else UNUSED
    return RESCUED if view.anchors.iou[anchor] < np.float32(view.anchors.positive_iou) else POSITIVE


def draw_anchors(view: TargetsView, level: int, cell: int) -> Figure:
    """Draw the anchors of one cell, and beside them all positive anchors of the level."""
    figure, (left, right) = _figure(view, 2)
    stride, (rows, columns) = view.anchors.strides[level], view.anchors.grids[level]
    y, x = stride * np.stack(np.divmod(np.arange(rows * columns), columns))
    left.plot(x, y, ".", color=PAPER, markersize=2.5, alpha=0.7)
    left.plot(x[cell], y[cell], "+", color=SKY, markersize=10, markeredgewidth=2)
    here = cell_anchors(view.anchors, level, cell)
    for anchor in range(here.start, here.stop):
        add_box(left, view.anchors.boxes[anchor].tolist(), anchor_look(view, anchor))
    left.set_title(f"level {view.anchors.level_name(level)}: the anchors of one cell", fontsize=10)
    everywhere = view.anchors.level_boxes(level)
    index = np.arange(everywhere.start, everywhere.stop)
    positive = index[view.anchors.target_index[everywhere] >= 0]
    for anchor in positive:
        add_box(right, view.anchors.boxes[anchor].tolist(), anchor_look(view, anchor))
    right.set_title(f"the {len(positive)} positive anchors of the level", fontsize=10)
    _legend(figure, {"object": OBJECT, "positive": POSITIVE, "rescued": RESCUED, "negative": NEGATIVE,
                     "neither": UNUSED})  # fmt: skip
    return figure


def draw_samples(view: TargetsView) -> Figure:
    """Draw the positives and negatives that the RPN and every stage learn from."""
    figure, panels = _figure(view, len(view.samples), width=3.4)
    for axes, sample in zip(panels, view.samples, strict=True):
        for box in sample.boxes[sample.positives :].tolist():
            add_box(axes, box, NEGATIVE, alpha=0.35)
        for box in sample.boxes[: sample.positives].tolist():
            add_box(axes, box, POSITIVE)
        axes.set_title(
            f"{sample.name}, positive from IoU {sample.positive_iou:g}\n{sample.positives} positive, "
            f"{len(sample.boxes) - sample.positives} negative",
            fontsize=10,
        )
    _legend(figure, {"object": OBJECT, "positive": POSITIVE, "negative": NEGATIVE})
    return figure


def draw_levels(view: TargetsView, box: int, zooms: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)) -> Figure:
    """Draw a box over the cells that it reads, for the picture at several sizes."""
    figure, panels = _figure(view, len(zooms), width=3.4)
    for axes, zoom in zip(panels, zooms, strict=True):
        level = level_at(view, box, zoom)
        cell = view.reading.strides[level] / zoom
        height, width = view.picture.shape[:2]
        axes.vlines(np.arange(0, width + 1e-6, cell), 0, height, colors=PAPER, linewidths=0.5, alpha=0.6)
        axes.hlines(np.arange(0, height + 1e-6, cell), 0, width, colors=PAPER, linewidths=0.5, alpha=0.6)
        add_box(axes, view.reading.boxes[box].tolist(), stage_look(level))
        axes.set_title(
            f"picture × {zoom:g}, {zoom * width:g} pixels wide:\nlevel {view.anchors.level_name(level)}",
            fontsize=10,
        )
    return figure


def draw_bins(view: TargetsView, box: int, bin: int = 0, *, rounded: bool = False) -> Figure:
    """Draw the bins of a box on the feature map of its level, with every sample point.

    ``rounded`` adds the box as it would be with corners rounded to whole cells.
    """
    reading, level = view.reading, int(view.reading.levels[box])
    stride, values = reading.strides[level], reading.maps[level]
    figure = Figure(figsize=(PANEL + 1.2, PANEL + 0.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    height, width = values.shape
    axes.imshow(values, cmap=_MAP, extent=(0, width, height, 0), interpolation="nearest")
    x1, y1, x2, y2 = (reading.boxes[box] / stride).tolist()
    bins = reading.pooled.shape[2]
    for part in np.linspace(0, 1, bins + 1):
        axes.vlines(x1 + part * (x2 - x1), y1, y2, colors=SKY, linewidths=0.8)
        axes.hlines(y1 + part * (y2 - y1), x1, x2, colors=SKY, linewidths=0.8)
    row, column = divmod(bin, bins)
    for r in range(bins):
        for c in range(bins):
            y, x = np.meshgrid(reading.rows[box, r], reading.columns[box, c], indexing="ij")
            chosen = (r, c) == (row, column)
            axes.plot(
                x.ravel() + 0.5, y.ravel() + 0.5, "o" if chosen else ".", color=ORANGE if chosen else YELLOW,
                markersize=6 if chosen else 4, markeredgecolor=INK, markeredgewidth=0.4,
            )  # fmt: skip
    w, h = (x2 - x1) / bins, (y2 - y1) / bins
    _frame(axes, (x1 + column * w, y1 + row * h, x1 + (column + 1) * w, y1 + (row + 1) * h), BIN)
    if rounded:
        _frame(axes, (round(x1), round(y1), round(x2), round(y2)), ROUNDED)
    axes.set(xlim=(max(0, x1 - 2), min(width, x2 + 2)), ylim=(min(height, y2 + 2), max(0, y1 - 2)))
    axes.set_xlabel(f"cells of level {view.anchors.level_name(level)}", fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=FAINT)
    axes.set_title(describe_bin(view, box, bin).replace(": ", ":\n", 1), fontsize=10)
    return figure


def draw_suppression(view: TargetsView, level: int, step: int = 0) -> Figure:
    """Draw one step of NMS: the box that stays, those that fall to it, and those that wait."""
    nms, kept = view.suppression[level], view.suppression[level].kept()
    figure, (axes,) = _figure(view, 1, width=PANEL + 0.6)
    if kept:
        best = kept[step]
        for box in range(len(nms.by)):
            decided = box in kept[:step] or nms.by[box] in kept[:step]
            if not decided and box != best and nms.by[box] != best:
                add_box(axes, nms.boxes[box].tolist(), WAITING, alpha=0.6)
        for box in kept[:step]:
            add_box(axes, nms.boxes[box].tolist(), KEPT, alpha=0.8)
        for box in np.flatnonzero(nms.by == best).tolist():
            add_box(axes, nms.boxes[box].tolist(), FALLEN)
        add_box(axes, nms.boxes[best].tolist(), NOW)
        add_tag(axes, nms.boxes[best].tolist(), f"box {best + 1}", SKY)
    axes.set_title(describe_step(view, level, step).splitlines()[0].replace(". ", ".\n"), fontsize=9)
    _legend(figure, {"kept now": NOW, "kept before": KEPT, "falls": FALLEN, "waits": WAITING}, columns=4)
    return figure


def _frame(axes: Axes, corners: tuple[float, float, float, float], look: LineLook) -> None:
    """Draw a box without the dark rim of ``add_box``, which would hide cells of the map."""
    x1, y1, x2, y2 = corners
    line = {"edgecolor": look.colour, "linestyle": look.style, "linewidth": look.width}
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, zorder=3, **line))


def _figure(view: TargetsView, panels: int, width: float = PANEL) -> tuple[Figure, list[Axes]]:
    """Return a row of copies of the picture with its objects in white."""
    height = width * view.picture.shape[0] / view.picture.shape[1] + 0.85
    figure = Figure(figsize=(width * panels, height), dpi=100, layout="constrained")
    row = list(figure.subplots(1, panels, squeeze=False)[0])
    for axes in row:
        show_picture(axes, view.picture)
        for target in view.targets.tolist():
            add_box(axes, target, OBJECT)
    return figure, row


def _legend(figure: Figure, entries: dict[str, LineLook], columns: int = 5) -> None:
    lines = [Line2D([], [], **look.line()) for look in entries.values()]
    figure.legend(
        lines, list(entries), loc="outside lower center", ncols=columns, fontsize=9, labelcolor=PAPER,
        facecolor="#2b2b2b", handlelength=3.2,
    )  # fmt: skip
