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
from cascade_lab.widgets.training_story import PARTS, Story


def draw_training(story: Story, *, parts: Sequence[str] = PARTS[:5], log: bool = False) -> Figure:
    """Draw the losses part by part, and the AP of every stage at the checkpoints."""
    present = {line.part for line in story.lines}
    panels = [part for part in parts if part in present]
    columns = min(3, len(panels) + 1)
    rows = -(-(len(panels) + 1) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * rows), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for spare in axes[len(panels) + 1 :]:
        spare.remove()
    axes = axes[: len(panels) + 1]
    for panel, part in zip(axes, panels, strict=False):
        ends = []
        for line in (line for line in story.lines if line.part == part):
            panel.plot(story.steps, line.values, color=line.look.colour, linewidth=0.8, alpha=0.3)
            panel.plot(story.steps, line.smooth, **line.look.line())
            ends.append((line.name, float(line.smooth[-1]), line.look.colour))
        _frame(panel, part, "step")
        if log:
            panel.set_yscale("log")
        else:
            panel.set_ylim(bottom=0)
        if len(ends) > 1 and not log and np.isfinite([y for _, y, _ in ends]).all():
            label_ends(panel, ends)
    _draw_ap(axes[-1], story.moments)
    return figure


def draw_picture_through_time(
    story: Story, picture: int = 0, *, threshold: float = 0.3, most: int = 6
) -> Figure:
    """Draw one picture with what was found in it at up to ``most`` checkpoints; white is the truth."""
    places = np.unique(
        np.linspace(0, len(story.moments) - 1, min(most, len(story.moments))).round().astype(int)
    )
    figure = Figure(figsize=(2.3 * max(1, len(places)), 2.7), layout="constrained")
    shown = story.pictures[picture]
    pixels = np.asarray(Image.open(io.BytesIO(shown.picture)).convert("RGB"))  # (H, W, 3)
    for axes, place in zip(np.ravel(figure.subplots(1, len(places), squeeze=False)), places, strict=True):
        moment = story.moments[place]
        show_picture(axes, pixels)
        for box in shown.targets.tolist():
            add_box(axes, box, LineLook(colour=PAPER, style="solid", width=1.0))
        found = moment.found[picture]
        sure = [score >= threshold for score in found.scores]
        for box, label, keep in zip(found.boxes, found.labels, sure, strict=True):
            if keep:
                add_box(axes, box, LineLook(colour=class_colour(label), style="solid", width=1.8))
        axes.set_title(f"step {moment.step}: {sum(sure)} found", fontsize=10, color=INK)
    return figure


def _draw_ap(axes: Axes, moments: Sequence[Moment]) -> None:
    ends = []
    for place in range(len(moments[0].scores) if moments else 0):
        scores = [moment.scores[place] for moment in moments]
        mode, full = scores[0].mode, moments[0].scores[-1].mode
        if "~" in mode and mode != full:
            continue
        values = [np.nan if one.ap is None else one.ap for one in scores]
        look = mode_look(mode, full)
        axes.plot([moment.step for moment in moments], values, marker="o", markersize=3, **look.line())
        ends.append((mode if "~" in mode else f"stage {mode}", values[-1], look.colour))
    _frame(axes, "box AP", "step")
    axes.set_ylim(bottom=0)
    if ends:
        label_ends(axes, ends)


def _frame(axes: Axes, title: str, label: str) -> None:
    tidy(axes)
    axes.grid(axis="y", color=FAINT, alpha=0.22, linewidth=0.7)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel(label)
    axes.margins(x=0)
