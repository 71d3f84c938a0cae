"""Still pictures of an evaluation: precision and recall, confusion, kinds of error, boxes in question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from cascade_lab.viz.boxes import add_box, add_tag, show_picture
from cascade_lab.viz.curves import label_ends, tidy
from cascade_lab.viz.palette import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    SKY,
    TRUTH,
    VERMILLION,
    YELLOW,
    LineLook,
    mode_look,
)  # fmt: skip

RIGHT_BOX = LineLook(colour=GREEN, style="solid", width=2.2)
WRONG_BOX = LineLook(colour=VERMILLION, style=(0, (5, 2)), width=2.2)
MISSED_BOX = LineLook(colour=YELLOW, style=(0, (1, 1.5)), width=2.2)


def draw_precision_recall(curves: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Draw precision over recall, one line for each way to read the cascade; the last is the boldest.

    Shapes: each curve (101,) at the recalls 0, .01 ... 1, as pycocotools interpolates it.
    """
    figure = Figure(figsize=(6.4, 3.8), dpi=100, layout="constrained")
    axes, full = figure.subplots(), list(curves)[-1]
    recalls, ends = np.linspace(0, 1, 101), []
    for mode, precision in curves.items():
        look = mode_look(mode, full)
        axes.plot(recalls, precision, **look.line(), zorder=3 if mode == full else 2)
        name = f"{mode} together" if "~" in mode else f"stage {mode}"
        ends.append((f"{name}: {100 * np.mean(precision):.1f}", float(precision[-1]), look.colour))
    _frame(axes, "recall", "precision", title)
    label_ends(axes, ends)
    return figure


def draw_staircase(right: Sequence[bool], objects: int) -> Figure:
    """Draw how AP comes about: precision after every detection, and the best precision still to come.

    Args:
        right: for every detection, the surest first, whether it is right; objects: how many had to be found.
    """
    hits = np.cumsum(np.asarray(right, float))
    precision, recall = hits / np.arange(1, len(right) + 1), hits / objects
    best = np.maximum.accumulate(precision[::-1])[::-1]
    levels = np.linspace(0, 1, 101)
    first = np.searchsorted(recall, levels - 1e-12)
    heights = np.append(best, 0.0)[first]
    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.fill_between(levels, heights, step="pre", color=SKY, alpha=0.3, linewidth=0)
    axes.step(levels, heights, where="pre", color=BLUE, linewidth=2, label="best precision still to come")
    axes.plot(recall, precision, color=FAINT, linewidth=1, linestyle=(0, (3, 2)), zorder=2)
    for number, (x, y, hit) in enumerate(zip(recall, precision, right, strict=True)):
        look = RIGHT_BOX if hit else WRONG_BOX
        axes.plot(x, y, "o" if hit else "X", color=look.colour, markersize=8, zorder=4)
        axes.annotate(str(number + 1), (x, y), xytext=(7, 5), textcoords="offset points", color=INK)
    _frame(axes, "recall", "precision", f"AP = area = mean of 101 heights = {100 * heights.mean():.1f}")
    axes.set(xlim=(-0.02, 1.04), ylim=(0, 1.12))
    axes.legend(loc="lower left", frameon=False, fontsize=9)
    return figure


def draw_confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw counts with a row for the background and a column for what was missed; shades are shares of a row.

    Shapes: matrix (K + 1, K + 1), true class in rows, detected class in columns.
    """
    side = len(classes) + 1
    figure = Figure(figsize=(1.6 + 0.85 * side, 1.0 + 0.62 * side), dpi=100, layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    colours = np.array([[to_rgb(GREEN if r == c else ORANGE) for c in range(side)] for r in range(side)])
    axes.imshow(1 - shares[..., None] * (1 - colours), aspect="auto")
    for (row, column), number in np.ndenumerate(matrix):
        nobody = row == column == side - 1
        axes.text(
            column, row, "–" if nobody else f"{number}", ha="center", va="center",
            color=INK if number else FAINT, fontweight="bold" if row == column else "normal",
        )  # fmt: skip
    axes.set_xticks(range(side), [*classes, "missed"])
    axes.set_yticks(range(side), [*classes, "background"])
    axes.set(xlabel="found as", ylabel="true class")
    axes.tick_params(length=0)
    tidy(axes)
    axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def draw_error_kinds(
    gains: Mapping[str, Sequence[float]], modes: Sequence[str], measure: str = "AP50"
) -> Figure:
    """Draw by how much AP rises when one kind of error is repaired, one bar for each way to read a cascade.

    Args:
        gains: kind -> points of ``measure``, one for each of ``modes``.
    """
    figure = Figure(figsize=(7.0, 0.85 + 0.2 * len(gains) * (len(modes) + 1)), dpi=100, layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(modes)
    hatches = ("", "///", "...", "xxx", "---")
    for number, mode in enumerate(modes):
        places = np.arange(len(gains)) + (number - (len(modes) - 1) / 2) * height
        values = [kind[number] for kind in gains.values()]
        name = f"stages {mode} together" if "~" in mode else f"stage {mode}"
        axes.barh(
            places, values, height * 0.9, color=mode_look(mode, modes[-1]).colour, label=name,
            hatch=hatches[number % 5], edgecolor="white", linewidth=0,
        )  # fmt: skip
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                f"{value:+.1f}", (max(value, 0), place), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=8, color=INK,
            )  # fmt: skip
    axes.set_yticks(range(len(gains)), list(gains))
    axes.invert_yaxis()
    axes.set_xlabel(f"points of {measure} to be won by repairing this kind alone")
    axes.margins(x=0.12)
    tidy(axes)
    figure.legend(loc="outside upper center", ncols=len(modes), frameon=False, fontsize=9)
    return figure


def draw_in_question(
    picture: np.ndarray,
    boxes: Sequence[Sequence[float]],
    tags: Sequence[str],
    right: Sequence[bool],
    missed: Sequence[Sequence[float]] = (),
    others: Sequence[Sequence[float]] = (),
) -> Figure:
    """Draw a picture with some detections, right ones solid, wrong ones dashed, and missed objects dotted.

    Shapes: picture (H, W, 3) uint8; boxes, missed and ``others`` (further objects): xyxy in its pixels.
    """
    figure = Figure(figsize=(5.0, 5.0 * picture.shape[0] / picture.shape[1]), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    show_picture(axes, picture)
    for box in others:
        add_box(axes, box, TRUTH)
    for box in missed:
        add_box(axes, box, MISSED_BOX)
        add_tag(axes, box, "missed", MISSED_BOX.colour)
    for box, text, hit in zip(boxes, tags, right, strict=True):
        look = RIGHT_BOX if hit else WRONG_BOX
        add_box(axes, box, look)
        add_tag(axes, box, text, look.colour)
    return figure


def _frame(axes: Axes, x: str, y: str, title: str) -> None:
    tidy(axes)
    axes.grid(axis="y", color=FAINT, alpha=0.22, linewidth=0.7)
    axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.03))
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
