"""The still picture of the training viewer: losses, AP at the checkpoints, one picture through time."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cascade_lab.viz.boxes import add_box, show_picture
from cascade_lab.viz.curves import label_ends, tidy
from cascade_lab.viz.palette import FAINT, INK, PAPER, LineLook, class_colour, mode_look
from cascade_lab.widgets.moments import Moment
from cascade_lab.widgets.training_story import LOSSES, NO_MOMENTS, Story, mode_name, shown_scores


def draw_training(story: Story, *, parts: Sequence[str] = LOSSES, log: bool = False) -> Figure:
    """Draw the losses part by part, and the AP of every stage at the checkpoints.

    Faint lines are as logged, bold ones a running mean. Parts that the log has not are left out; ``log``
    makes the axis of the losses logarithmic.
    """
    present = {line.part for line in story.lines}
    drawn = [part for part in parts if part in present]
    columns = min(3, len(drawn) + 1)
    rows = -(-(len(drawn) + 1) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * rows), layout="constrained")
    panels = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for spare in panels[len(drawn) + 1 :]:
        spare.remove()
    for axes, part in zip(panels, drawn, strict=False):
        _draw_losses(axes, story, part, log)
    _draw_ap(panels[len(drawn)], story.moments)
    return figure


def draw_picture_through_time(
    story: Story, picture: int = 0, *, threshold: float = 0.3, most: int = 6
) -> Figure:
    """Draw one picture with what was found in it at up to ``most`` checkpoints; white is the truth."""
    if not story.moments:
        figure = Figure(figsize=(4, 1))
        figure.text(0.5, 0.5, NO_MOMENTS, ha="center", color=INK)
        return figure
    count = min(most, len(story.moments))
    places = np.unique(np.linspace(0, len(story.moments) - 1, count).round().astype(int))
    figure = Figure(figsize=(2.3 * len(places), 2.7), layout="constrained")
    shown = story.pictures[picture]
    pixels = np.asarray(Image.open(io.BytesIO(shown.picture)).convert("RGB"))  # (H, W, 3)
    for axes, place in zip(np.ravel(figure.subplots(1, len(places), squeeze=False)), places, strict=True):
        moment = story.moments[place]
        show_picture(axes, pixels)
        for box in shown.targets.tolist():
            add_box(axes, box, LineLook(colour=PAPER, style="solid", width=1.0))
        found = moment.found[picture]
        sure = [i for i, score in enumerate(found.scores) if score >= threshold]
        for i in sure:
            look = LineLook(colour=class_colour(found.labels[i]), style="solid", width=1.8)
            add_box(axes, found.boxes[i], look)
        axes.set_title(f"step {moment.step}: {len(sure)} found", fontsize=10, color=INK)
    return figure


def _draw_losses(axes: Axes, story: Story, part: str, log: bool) -> None:
    ends = []
    for line in (line for line in story.lines if line.part == part):
        axes.plot(story.steps, line.values, color=line.look.colour, linewidth=0.8, alpha=0.3)
        axes.plot(story.steps, line.smooth, **line.look.line())
        ends.append((line.name, float(line.smooth[-1]), line.look.colour))
    _frame(axes, part)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if len(ends) > 1 and not log and np.isfinite([y for _, y, _ in ends]).all():
        label_ends(axes, ends)


def _draw_ap(axes: Axes, moments: Sequence[Moment]) -> None:
    ends, steps = [], [moment.step for moment in moments]
    for over_time in zip(*(shown_scores(moment) for moment in moments), strict=True):
        values = [np.nan if scores.ap is None else scores.ap for scores in over_time]
        look = mode_look(over_time[0].mode, full=moments[0].scores[-1].mode)
        axes.plot(steps, values, marker="o", markersize=3, **look.line())
        ends.append((mode_name(over_time[0].mode), values[-1], look.colour))
    _frame(axes, "box AP")
    axes.set_ylim(bottom=0)
    if ends:
        label_ends(axes, ends)


def _frame(axes: Axes, title: str) -> None:
    tidy(axes)
    axes.grid(axis="y", color=FAINT, alpha=0.22, linewidth=0.7)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel("step")
    axes.margins(x=0)
