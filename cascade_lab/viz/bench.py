"""How many times faster: ratios of a bench as bars, one group a shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cascade_lab.viz.curves import tidy
from cascade_lab.viz.palette import BLUE, FAINT, GREEN, INK, ORANGE

KINDS = (("forward", "forward_ratio"), ("forward and backward", "forward_backward_ratio"))
LOOKS = {"float32": (BLUE, ""), "float16": (ORANGE, "//"), "bfloat16": (GREEN, "..")}  # colour, hatch


def ratio_bars(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw the rows of ``cascade-lab bench dcnv3`` with softmax and on one thread.

    A panel for each pass, a group for each shape, a bar for each element type; a line at 1 is the baseline.
    """
    rows = [row for row in rows if row["softmax"] and row["threads"] == 1]
    names = list(dict.fromkeys(row["name"] for row in rows))
    dtypes = [dtype for dtype in LOOKS if any(row["dtype"] == dtype for row in rows)]
    figure = Figure(figsize=(2.2 + 1.9 * max(2, len(names)), 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (label, key) in zip(panels, KINDS, strict=True):
        for number, dtype in enumerate(dtypes):
            found = {row["name"]: row[key] for row in rows if row["dtype"] == dtype}
            places = np.array([k for k, name in enumerate(names) if name in found])
            _bars(axes, places, [found[names[k]] for k in places], number, dtypes)
        axes.set_title(label, loc="left", fontsize=11, fontweight="bold", color=INK)
        axes.set_xticks(range(len(names)), names)
        axes.axhline(1, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        tidy(axes)
        axes.grid(axis="y", color=FAINT, alpha=0.22, linewidth=0.7)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("times faster than grid_sample")
    if len(dtypes) > 1:
        panels[1].legend(frameon=False, fontsize=9, labelcolor=INK, ncols=len(dtypes))
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=FAINT)
    return figure


def _bars(
    axes: Axes, places: np.ndarray, values: Sequence[float], number: int, dtypes: Sequence[str]
) -> None:
    width = 0.8 / len(dtypes)
    colour, hatch = LOOKS[dtypes[number]]
    left = places - 0.4 + (number + 0.5) * width
    bars = axes.bar(left, values, 0.92 * width, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
    bars.set_label(dtypes[number])
    axes.bar_label(bars, fmt="{:.1f}", fontsize=7 if len(dtypes) > 1 else 9, color=INK, padding=1)
