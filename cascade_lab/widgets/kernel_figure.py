"""The still picture of the kernel stepper: one row a step, a map and the arithmetic beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cascade_lab.viz.palette import BLUE, FAINT, GREY, INK, ORANGE, PAPER, SKY, VERMILLION
from cascade_lab.widgets.kernel_moments import Moment, moments
from cascade_lab.widgets.kernel_text import arrivals, describe_step, fill
from cascade_lab.widgets.kernel_trace import KernelTrace

OUTSIDE = 1  # cells shown round the input, which read as zero
LETTERS = 68  # in a line of text


def draw_steps(trace: KernelTrace, thread: int, steps: Sequence[int], *, backward: bool = False) -> Figure:
    """Draw some steps of one thread, a row each: the map that it reads or adds to, and the arithmetic.

    Args:
        thread: see ``KernelTrace.thread_of``; steps: numbers as in ``describe_step``.
    """
    figure = Figure(figsize=(9.6, 2.4 * len(steps)), dpi=100, layout="constrained")
    rows = figure.subplots(len(steps), 2, squeeze=False, width_ratios=(1, 1.5))
    every = moments(backward)
    for (left, right), step in zip(rows, steps, strict=True):
        moment, point = every[step]
        _draw_map(left, trace, thread, moment, point, adds=backward and 0 <= moment.corner < 4)
        _write(right, describe_step(trace, thread, step, backward=backward))
        if backward and 0 <= moment.corner < 4:
            element = int(trace.adds[thread, point, moment.corner])
            meeting = arrivals(trace, element)
            threads = len({arrival.thread for arrival in meeting})
            right.text(
                0, 0.06, f"{len(meeting)} additions by {threads} threads meet in this cell;\n"
                f"their sum is {fill('{sum:4}', {'sum': float(trace.grad_input.ravel()[element])})}.",
                fontsize=8.5, color=INK, va="bottom",
            )  # fmt: skip
    return figure


def _draw_map(axes: Axes, trace: KernelTrace, thread: int, moment: Moment, point: int, *, adds: bool) -> None:
    """Draw the first channel of the thread's group: of dL/d input for an addition, else of the input."""
    row, column, group = (int(value) for value in trace.places[thread, :3])
    height, width = trace.size
    channel = group * (trace.input.shape[2] // trace.groups)
    values = (trace.grad_input if adds else trace.input)[..., channel]
    for y, x in np.ndindex(height, width):
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=GREY, linewidth=0.6))
        text = fill("{v:2}", {"v": float(values[y, x])})
        axes.text(x - 0.42, y - 0.22, text, ha="left", va="center", fontsize=6.5 if adds else 8, color=INK)
    for y, x in np.ndindex(height + 2, width + 2):
        if not adds and (y in (0, height + 1) or x in (0, width + 1)):
            axes.text(x - 1.42, y - 1.22, "0", ha="left", va="center", fontsize=7, color=FAINT)
    if point >= 0 and moment.corner >= 0:
        for corner, element in enumerate(trace.reads[thread, point]):
            y, x = divmod(int(element) // trace.input.shape[2], width)
            now = corner == moment.corner
            axes.add_patch(
                Rectangle(
                    (x - 0.5, y - 0.5), 1, 1, facecolor=ORANGE if now else SKY, alpha=0.55 if now else 0.3,
                    edgecolor=VERMILLION if now else "none", linewidth=2.5, zorder=0.5,
                )
            )  # fmt: skip
    axes.add_patch(
        Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=BLUE, linestyle="--", linewidth=1.6)
    )
    axes.scatter(*trace.points[thread].T, s=8, color=FAINT, zorder=3)
    if point >= 0:
        grid_x = column + (point // 3 - 1) * trace.offset_scale
        grid_y = row + (point % 3 - 1) * trace.offset_scale
        x, y = trace.points[thread, point]
        axes.plot([grid_x, x], [grid_y, y], color=VERMILLION, linewidth=1.4)
        axes.scatter([grid_x], [grid_y], marker="s", s=34, facecolors="none", edgecolors=VERMILLION, zorder=4)
        axes.scatter([x], [y], s=46, color=VERMILLION, edgecolors=PAPER, zorder=5)
    edge = OUTSIDE + 0.5
    axes.set(xlim=(-edge, width - 1 + edge), ylim=(height - 1 + edge, -edge), aspect="equal")
    axes.set_axis_off()
    axes.set_title("dL/d input" if adds else "input", fontsize=9, color=FAINT)


def _write(axes: Axes, text: str) -> None:
    where, title, *lines = text.splitlines()
    axes.set_axis_off()
    wrapped = ["\n".join(textwrap.wrap(line, LETTERS, subsequent_indent="  ")) for line in lines]
    source = "\n".join(textwrap.wrap(where, LETTERS, subsequent_indent="  "))
    axes.text(0, 0.99, source, va="top", fontsize=7.5, family="monospace", color=FAINT)
    axes.text(0, 0.76, title, va="top", fontsize=10, weight="bold", color=INK)
    axes.text(0, 0.62, "\n".join(wrapped), va="top", fontsize=7.5, family="monospace", color=INK)
