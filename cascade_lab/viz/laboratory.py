"""Figures of the laboratory, after those of the Cascade R-CNN paper, and beside what that paper prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cascade_lab.viz.boxes import show_picture
from cascade_lab.viz.curves import label_ends, tidy
from cascade_lab.viz.palette import BLUE, FAINT, GREY, INK, PAPER, TRUTH, LineLook, stage_look, text_colour

WIDTH = 0.36  # of a bar; two stand side by side
DIMMED = 0.4  # of a picture behind many thin lines
IOU_PERCENT = np.arange(50, 100, 5)


def draw_positives(
    picture: np.ndarray,
    boxes: Sequence[np.ndarray],
    ious: Sequence[np.ndarray],
    thresholds: Sequence[float],
    objects: np.ndarray,
) -> Figure:
    """Draw the boxes that are positives: one row a step of the cascade, one panel a threshold.

    Shapes: picture (H, W, 3) uint8, drawn dark; boxes and ious K times (R, 4) and (R,), the
    boxes that enter stage k and the IoU of each with its best object; objects (M, 4), dashed.
    """
    size = (2.6 * len(thresholds), 2.95 * len(boxes))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    panels = figure.subplots(len(boxes), len(thresholds), squeeze=False)
    for k, row in enumerate(panels):
        for axes, u in zip(row, thresholds, strict=True):
            show_picture(axes, (picture * DIMMED).astype(np.uint8))
            positive = ious[k] >= u
            for box in boxes[k][positive].tolist():
                _outline(axes, box, LineLook(colour=stage_look(k).colour, style="solid", width=1.0))
            for box in objects.tolist():
                _outline(axes, box, TRUTH)
            title = f"into stage {k + 1}, IoU >= {u:g}\n{int(positive.sum())} of {len(positive)} boxes"
            axes.set_title(title, loc="left", fontsize=9, color=INK)
    return figure


def draw_input_shares(
    shares: np.ndarray, levels: Sequence[float], printed: Sequence[Sequence[float]] = ()
) -> Figure:
    """Draw which share of the boxes is how good, step by step (Cascade R-CNN, figure 4).

    Shapes: shares (S + 1, L) percent, inputs of the stages and the last output, at the L ``levels`` of IoU;
    printed up to S times L, drawn hatched beside them. One panel a level.
    """
    steps = [f"into {k + 1}" for k in range(len(shares) - 1)] + ["output"]
    figure = Figure(figsize=(2.9 * len(levels), 2.9), layout="constrained")
    panels = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
    for column, (axes, level) in enumerate(zip(panels, levels, strict=True)):
        _bars(axes, shares[:, column], [row[column] for row in printed], "{:.0f}", legend=column == 0)
        axes.set_xticks(range(len(steps)), steps)
        _name(axes, f"IoU of at least {level:g}")
    panels[0].set_ylabel("percent of the boxes")
    return figure


def draw_delta_spread(deviation: np.ndarray, printed: Sequence[Sequence[float]] = ()) -> Figure:
    """Draw how widely the deltas of the positives spread, stage by stage (Cascade R-CNN, figure 2).

    Shapes: deviation (S, 4) of dx, dy, dw, dh before they are normalised; printed likewise, hatched.
    """
    figure = Figure(figsize=(8.6, 2.7), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    for column, (axes, name) in enumerate(zip(panels, ("dx", "dy", "dw", "dh"), strict=True)):
        _bars(axes, deviation[:, column], [row[column] for row in printed], "{:.2f}", legend=column == 0)
        axes.set_xticks(range(len(deviation)), [f"stage {k + 1}" for k in range(len(deviation))])
        _name(axes, name)
    panels[0].set_ylabel("deviation")
    return figure


def draw_localisation(
    inputs: np.ndarray, outputs: np.ndarray, intervals: np.ndarray, thresholds: Sequence[float]
) -> Figure:
    """Draw the IoU after each head over the IoU before it (Cascade R-CNN, figure 1 c).

    Shapes: inputs (B,), outputs (H, B), intervals (2, H, B) drawn as bands. Above the diagonal a head helps.
    """
    figure = Figure(figsize=(5.4, 4.2), layout="constrained")
    axes, ends = figure.subplots(), []
    axes.plot([0.5, 1], [0.5, 1], color=GREY, linewidth=1)
    axes.annotate("unchanged", (0.56, 0.555), rotation=38, fontsize=9, color=FAINT, va="top")
    for k, (row, u) in enumerate(zip(outputs, thresholds, strict=True)):
        look = stage_look(k)
        axes.fill_between(
            inputs, intervals[0, k], intervals[1, k], color=look.colour, alpha=0.18, linewidth=0
        )
        axes.plot(inputs, row, **look.line())
        ends.append((f"head {k + 1}, u = {u:g}", float(row[-1]), look.colour))
    tidy(axes)
    axes.set(xlabel="IoU of the box before", ylabel="mean IoU after", xlim=(0.5, 1.0))
    label_ends(axes, ends)
    return figure


def draw_head_by_stage(
    table: np.ndarray,
    thresholds: Sequence[float],
    printed: Sequence[Sequence[float]] = (),
    title: str = "this cascade",
) -> Figure:
    """Draw the AP of every head on the boxes of every stage as a table of shades (Cascade R-CNN, figure 6).

    Shapes: table (H, S) in percent; printed likewise, drawn beside it. Each is shaded on its own scale, since
    only the pattern can be compared.
    """
    tables = [(title, np.asarray(table))] + ([("the paper", np.asarray(printed))] if len(printed) else [])
    figure = Figure(figsize=(3.9 * len(tables), 2.9), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (name, values) in zip(panels, tables, strict=True):
        picture = axes.imshow(values, cmap="Blues", vmin=values.min() - 5, vmax=values.max() + 5)
        for (h, k), value in np.ndenumerate(values):
            red, green, blue = (round(255 * c) for c in picture.cmap(picture.norm(value))[:3])
            ink = text_colour(f"#{red:02X}{green:02X}{blue:02X}")
            axes.annotate(f"{value:.1f}", (k, h), ha="center", va="center", color=ink, fontsize=12)
        axes.set_xticks(range(values.shape[1]), [f"stage {k + 1}" for k in range(values.shape[1])])
        axes.set_xlabel("boxes that enter", color=INK, fontsize=9)
        axes.set_yticks(
            range(len(values)), [f"head {h + 1}\nu = {u:g}" for h, u in enumerate(thresholds[: len(values)])]
        )
        axes.tick_params(length=0, labelcolor=INK, labelsize=9)
        axes.spines[:].set_visible(False)
        _name(axes, name)
    return figure


def draw_gains(
    before: Sequence[float],
    after: Sequence[float],
    thresholds: Sequence[float],
    printed: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Figure:
    """Draw AP without and with the ground truth among the proposals (Cascade R-CNN, figure 5 b).

    Shapes: before and after (H,), one head each; printed is such a pair, drawn in a panel beside it.
    """
    pairs = [("this cascade", before, after)] + ([("the paper", *printed)] if printed else [])
    figure = Figure(figsize=(3.9 * len(pairs), 3.3), layout="constrained")
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (name, low, high) in zip(panels, pairs, strict=True):
        ends = []
        for k, (a, b, u) in enumerate(zip(low, high, thresholds, strict=True)):
            axes.plot([0, 1], [a, b], marker="o", markersize=4, **stage_look(k).line())
            ends.append((f"u = {u:g}, {b - a:+.1f}", b, stage_look(k).colour))
        tidy(axes)
        axes.set_xticks([0, 1], ["proposals", "+ ground truth"])
        axes.set_xlim(-0.1, 1.05)
        axes.set_ylabel("AP")
        label_ends(axes, ends)
        _name(axes, name)
    return figure


def draw_ap_lines(lines: Mapping[str, Sequence[float]], looks: Mapping[str, LineLook]) -> Figure:
    """Draw AP over the IoU that a match needs: ten values, .50 to .95, for every named line."""
    figure = Figure(figsize=(5.8, 3.9), layout="constrained")
    axes = figure.subplots()
    for name, values in lines.items():
        axes.plot(IOU_PERCENT / 100, values, label=name, **looks[name].line())
    tidy(axes)
    axes.set(xlabel="IoU asked of a match", ylabel="AP", xlim=(0.5, 0.95), ylim=(0, None))
    axes.grid(axis="y", color=FAINT, alpha=0.22, linewidth=0.7)
    axes.legend(frameon=False, fontsize=9, loc="lower left", handlelength=4)
    return figure


def _outline(axes: Axes, box: Sequence[float], look: LineLook) -> None:
    """Outline a box without a halo, which would hide its neighbours where many lie close together."""
    x1, y1, x2, y2 = box
    style = {"edgecolor": look.colour, "linestyle": look.style, "linewidth": look.width}
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style))


def _bars(axes: Axes, here: np.ndarray, printed: Sequence[float], form: str, legend: bool) -> None:
    """Draw measured values as filled bars, and printed ones hatched beside them; the values stand on top."""
    shift = WIDTH / 2 if len(printed) else 0.0
    places, other = np.arange(len(here)) - shift, np.arange(len(printed)) + shift
    groups = [axes.bar(places, here, WIDTH, label="here", color=BLUE)]
    if len(printed):
        hatch = axes.bar(other, printed, WIDTH, label="paper", facecolor=PAPER, edgecolor=GREY, hatch="////")
        groups.append(hatch)
    for bars, values in zip(groups, (here, printed), strict=False):
        words = [form.format(value).removeprefix("0") or "0" for value in values]
        axes.bar_label(bars, words, fontsize=8, color=INK, padding=1)
    tidy(axes)
    axes.margins(y=0.12)
    if legend and len(groups) > 1:
        axes.legend(frameon=False, fontsize=8, loc="best")


def _name(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
