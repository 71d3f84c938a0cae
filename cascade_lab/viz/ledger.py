"""Where the cost of a detector lies: parts as bars, one panel a quantity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cascade_lab.viz.curves import tidy
from cascade_lab.viz.palette import BLUE, FAINT, GREY, INK, PURPLE, stage_look


@dataclass(frozen=True)
class Bars:
    """A quantity: its name and unit, and a value for each part; two rows of values compare two counts."""

    title: str
    unit: str
    values: Sequence[Sequence[float]]
    names: Sequence[str] = ()  # of the rows of values


def cost_bars(parts: Sequence[str], panels: Sequence[Bars], title: str) -> Figure:
    """Draw a row for each part, first on top, and a panel for each quantity.

    Colour tells backbone, pyramid, RPN and the stages apart, and so do the names; the second of two counts is
    hatched. Every bar carries its value and the panel's heading the sum.
    """
    figure = Figure(figsize=(1.6 + 2.9 * len(panels), 1.3 + 0.36 * len(parts)), layout="constrained")
    columns = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    colours = [_colour(part) for part in parts]
    for axes, panel in zip(columns, panels, strict=True):
        _draw(axes, panel, colours)
    columns[0].set_yticks(range(len(parts)), parts)
    columns[0].set_ylim(len(parts) - 0.4, -0.6)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    return figure


def _draw(axes: Axes, panel: Bars, colours: Sequence[str]) -> None:
    rows, largest = len(panel.values), max(max(row) for row in panel.values)
    height = 0.8 / rows
    for number, values in enumerate(panel.values):
        places = np.arange(len(values)) - 0.4 + (number + 0.5) * height
        bars = axes.barh(places, values, 0.9 * height, color=colours, edgecolor="white", linewidth=0)
        for bar in bars:
            bar.set_hatch("////" if number else "")
        labels = [_number(value) for value in values]
        axes.bar_label(bars, labels, fontsize=8 if rows == 1 else 6.5, color=INK, padding=2)
    names = panel.names or [""] * rows
    if rows > 1:
        names = [*names[:-1], f"{names[-1]} (hatched)"]
    sums = [f"{name} {_number(sum(row))}".strip() for name, row in zip(names, panel.values, strict=True)]
    axes.set_title(f"{panel.title}, {panel.unit}\n{', '.join(sums)}", loc="left", fontsize=9, color=INK)
    tidy(axes)
    axes.set_xlim(0, 1.22 * largest or 1.0)
    axes.grid(axis="x", color=FAINT, alpha=0.22, linewidth=0.7)
    axes.set_axisbelow(True)


def _colour(part: str) -> str:
    """Return the colour of a part: each stage has its own, as in all figures."""
    if stage := re.match(r"stage (\d+)", part):
        return stage_look(int(stage[1]) - 1).colour
    return {"FPN": GREY, "RPN": PURPLE}.get(part, BLUE)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
