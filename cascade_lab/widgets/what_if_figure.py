"""The still picture of the what-if viewer: readings of one cascade side by side, and what they score."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cascade_lab.errors import InputError
from cascade_lab.laboratory.box_ap import box_ap, truth_of
from cascade_lab.laboratory.crossed import Choice, Crossed, read
from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.structures import Instances
from cascade_lab.viz.boxes import add_box, add_tag, show_picture
from cascade_lab.viz.palette import BLUE, FAINT, GREEN, GREY, INK, TRUTH, VERMILLION, LineLook
from cascade_lab.widgets.choice_words import choice_words

MEASURES = ("AP", "AP50", "AP75")
LETTERS = "ABCD"  # name of each reading
FILLS = ((GREY, ""), (BLUE, "///"), (VERMILLION, "..."), (GREEN, "xx"))  # colour and hatching of each reading


def draw_what_if(
    crossed: Crossed,
    choices: Sequence[Choice],
    classes: Sequence[str],
    *,
    picture: int = 0,
    threshold: float = 0.3,
) -> Figure:
    """Draw one picture as each of up to four readings sees it, and below their AP over all pictures.

    The first choice is what the others are compared with. ``threshold`` is the least score of a box that is
    drawn; AP counts all that the choice lets through.

    Raises:
        InputError: there are no choices or more than four, or no such picture.
    """
    if not 1 <= len(choices) <= len(FILLS):
        raise InputError(f"choices: {len(choices)} given; pass one to {len(FILLS)}")
    if not 0 <= picture < len(crossed):
        raise InputError(f"picture: {picture} does not exist; there are {len(crossed)}, counted from 0")
    pixels = crossed.pictures[picture].permute(1, 2, 0).numpy()  # (H, W, 3)
    figure = Figure(figsize=(3.3 * max(len(choices), 2), 6.6), dpi=100, layout="constrained")
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.9, 2.5))
    for number, axes in enumerate(upper.subplots(1, len(choices), squeeze=False)[0]):
        show_picture(axes, pixels)
        for box in crossed.truth[picture].boxes.tolist():
            add_box(axes, box, TRUTH)
        _add_detections(axes, read(crossed, choices[number])[picture], classes, threshold, FILLS[number][0])
        unbroken = re.sub(r" (>|\d)", "\N{NO-BREAK SPACE}\\1", choice_words(choices[number]))
        words = "\n".join(textwrap.wrap(unbroken, 38))
        axes.set_title(f"{LETTERS[number]}: {words}", fontsize=9, color=INK)
    _add_bars(lower.subplots(), crossed, choices, classes)
    return figure


def _add_detections(
    axes: Axes, found: Instances, classes: Sequence[str], threshold: float, colour: str
) -> None:
    assert found.scores is not None and found.labels is not None
    shown = found[found.scores >= threshold]
    assert shown.scores is not None and shown.labels is not None
    near = pairwise_iou(shown.boxes, shown.boxes) > 0.3  # (D, D), the best first
    tagged = ~near.tril(-1).any(1)  # no tag where it would lie on that of a better box
    columns = zip(shown.boxes.tolist(), shown.labels.tolist(), shown.scores.tolist(), tagged, strict=True)
    for box, label, sure, has_tag in reversed(list(columns)):  # the best on top
        add_box(axes, box, LineLook(colour=colour, style="solid"))
        if has_tag:
            add_tag(axes, box, f"{classes[label]} {sure:.2f}", colour, 8.0)


def _add_bars(axes: Axes, crossed: Crossed, choices: Sequence[Choice], classes: Sequence[str]) -> None:
    first: np.ndarray | None = None
    width, truth = 0.8 / len(choices), truth_of(crossed.truth, len(classes))
    for number, choice in enumerate(choices):
        summary = box_ap(read(crossed, choice), truth).summary
        values = np.array([summary[name] for name in MEASURES], float)  # NaN where no object is
        first = values if first is None else first
        places = np.arange(len(MEASURES)) + (number - (len(choices) - 1) / 2) * width
        colour, hatch = FILLS[number]
        axes.bar(places, values, 0.92 * width, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
        for x, value, change in zip(places, values, values - first, strict=True):
            text = f"{LETTERS[number]}\n{value:.1f}" + (f"\n({change:+.1f})" if number else "")
            axes.annotate(
                text, (x, value), xytext=(0, 2), textcoords="offset points", ha="center", va="bottom",
                fontsize=8, color=INK,
            )  # fmt: skip
    axes.set_xticks(range(len(MEASURES)), MEASURES)
    axes.set(ylim=(0, 130), yticks=range(0, 101, 25))
    axes.set_ylabel(f"box AP, {len(crossed)} pictures", fontsize=9, color=FAINT)
    axes.tick_params(labelsize=9, colors=FAINT)
    axes.spines[["top", "right"]].set_visible(False)
