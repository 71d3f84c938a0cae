"""Losses of a training run, AP against the IoU asked of a match, and the IoU of what enters each stage."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cascade_lab.viz.palette import BLUE, FAINT, INK, LineLook, mode_look, stage_look

IOU_PERCENT = np.arange(50, 100, 5)
_KINDS = (("classification", "cls"), ("boxes", "bbox"), ("masks", "mask"))


def loss_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the total loss and its parts over the steps, one line a stage.

    ``rows`` are the lines of metrics.jsonl: "step", "loss" and its parts, such as "loss_rpn_cls" or
    "s0.loss_bbox" (stages count from 0 there). Faint lines are as logged, bold ones a running mean.
    """
    names = sorted({name for row in rows for name in row if "loss" in name and name != "loss"})
    groups = {"all parts": ["loss"]}
    groups["RPN"] = [name for name in names if "rpn" in name]
    for title, word in _KINDS:
        groups[title] = [name for name in names if word in name and "rpn" not in name]
    groups = {title: found for title, found in groups.items() if found}
    figure = Figure(figsize=(2.9 * len(groups), 2.9), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, (title, found) in zip(panels, groups.items(), strict=True):
        ends = []
        for number, name in enumerate(found):
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            if points:
                steps, values = np.array(points, float).T
                look, label = _loss_look(name, number)
                smooth = running_mean(values)
                axes.plot(steps, values, color=look.colour, linewidth=0.8, alpha=0.3)
                axes.plot(steps, smooth, **look.line())
                ends.append((label, smooth[-1], look.colour))
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
        axes.set_xlabel("step")
        _frame_losses(axes)
        if len(ends) > 1:
            label_ends(axes, ends)
    panels[0].set_ylabel("loss")
    return figure


def ap_curves(stages: Mapping[str, Mapping[str, Any]], iou_type: str) -> Figure | None:
    """Draw AP over IoU .50 to .95 for every way to read the cascade, and its gain over stage 1.

    ``stages`` is that of results.json: mode -> {"bbox": B, "segm": B}. None where there are no such scores.
    """
    table = {mode: both[iou_type] for mode, both in stages.items() if both.get(iou_type)}
    curves = {mode: [b[f"AP{t}"] for t in IOU_PERCENT] for mode, b in table.items()}
    curves = {mode: np.array(c, float) for mode, c in curves.items() if None not in c}
    if not curves:
        return None
    full, first = list(stages)[-1], next(iter(curves))
    figure = Figure(figsize=(10.2, 4.0), layout="constrained")
    panels = figure.subplots(1, 2 if len(curves) > 1 else 1, squeeze=False)[0]
    _ap_panel(panels[0], curves, full)
    panels[0].set_title("AP", loc="left", fontsize=11, fontweight="bold", color=INK)
    panels[0].set_ylim(bottom=0)
    if len(curves) > 1:
        _ap_panel(panels[1], {mode: c - curves[first] for mode, c in curves.items()}, full)
        panels[1].set_title(f"gain over stage {first}", loc="left", fontsize=11, fontweight="bold", color=INK)
        panels[1].yaxis.set_major_locator(MaxNLocator(6, integer=True))
        panels[1].yaxis.set_major_formatter("{x:+.0f}")
    return figure


def iou_histograms(ious: Sequence[np.ndarray], thresholds: Sequence[float]) -> Figure:
    """Draw how well the boxes that enter each stage already overlap an object (Cascade R-CNN, figure 4).

    Shapes:
        ious: for each stage (R,) in [0, 1]; thresholds: for each stage the IoU that makes a positive.
    """
    figure = Figure(figsize=(3.3 * len(ious), 2.9), layout="constrained")
    panels = figure.subplots(1, len(ious), sharey=True, squeeze=False, gridspec_kw={"wspace": 0.08})[0]
    edges = np.linspace(0, 1, 21)
    for k, (axes, values, threshold) in enumerate(zip(panels, ious, thresholds, strict=True)):
        share = np.histogram(values, edges)[0] / max(1, len(values))
        look = stage_look(k)
        good = edges[:-1] >= threshold - 1e-9
        axes.bar(edges[:-1], 100 * share, 0.05, align="edge", color=look.colour, alpha=0.28)
        axes.bar(edges[:-1][good], 100 * share[good], 0.05, align="edge", color=look.colour)
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        positive = 100 * float((values >= threshold).mean()) if len(values) else 0.0
        axes.set_title(
            f"{positive:.0f} % at IoU {threshold:g} or more", loc="left", fontsize=9, color=FAINT, pad=4
        )
        axes.annotate(
            f"into stage {k + 1}", (0, 1), xytext=(0, 18), xycoords="axes fraction",
            textcoords="offset points", fontsize=11, fontweight="bold", color=INK,
        )  # fmt: skip
        tidy(axes)
        axes.set(xlim=(0, 1), xlabel="IoU with the best object", xticks=[0, 0.25, 0.5, 0.75, 1])
        axes.xaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("share of boxes, %")
    return figure


def running_mean(values: np.ndarray, share: float = 0.06) -> np.ndarray:
    """Smooth by a centred mean over a share of all values; at the ends the window shrinks."""
    half = max(1, int(share * len(values) / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def tidy(axes: Axes) -> None:
    """Leave only the axes and ticks that carry information."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set(color=INK, fontsize=10)
    axes.yaxis.label.set(color=INK, fontsize=10)
    axes.set_facecolor("none")


def label_ends(axes: Axes, ends: Sequence[tuple[str, float, str]], size: float = 9.0) -> None:
    """Write the name of every line at its right end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    spec = axes.get_subplotspec()
    row = axes.figure.get_figheight() / (spec.get_gridspec().nrows if spec else 1)  # type: ignore[union-attr]
    # A panel fills about 0.72 of its row: 1.35 lines of text as a share of that keeps labels apart.
    gap = 1.35 * size / 72 / max(1.5, 0.72 * row) * (high - low)
    for (name, y, colour), place in zip(ends, spread([y for _, y, _ in ends], gap), strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 1.4, "shrinkA": 2, "shrinkB": 0}
        axes.annotate(
            name, (1.005, y), xytext=(1.06, place), xycoords=("axes fraction", "data"), va="center",
            textcoords=("axes fraction", "data"), fontsize=size, color=INK, annotation_clip=False,
            arrowprops=leader | {"relpos": (0, 0.5)},
        )  # fmt: skip


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Move positions apart until neighbours are at least ``gap`` from each other, each as little as possible.

    Clusters that touch are merged and centred on the mean of their members, so the order never changes.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    clusters: list[list[int]] = []
    for i in order:
        clusters.append([i])
        while len(clusters) > 1 and _start(clusters[-1], positions, gap) < _stop(
            clusters[-2], positions, gap
        ):
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    placed = [0.0] * len(positions)
    for cluster in clusters:
        start = _start(cluster, positions, gap) + gap / 2
        for rank, i in enumerate(cluster):
            placed[i] = start + rank * gap
    return placed


def _start(cluster: Sequence[int], positions: Sequence[float], gap: float) -> float:
    return sum(positions[i] for i in cluster) / len(cluster) - len(cluster) * gap / 2


def _stop(cluster: Sequence[int], positions: Sequence[float], gap: float) -> float:
    return _start(cluster, positions, gap) + len(cluster) * gap


def _ap_panel(axes: Axes, curves: Mapping[str, np.ndarray], full: str) -> None:
    iou, ends = IOU_PERCENT / 100, []
    for mode, values in curves.items():
        look = mode_look(mode, full) if len(curves) > 1 else stage_look(0)
        axes.plot(iou, values, **look.line(), zorder=3 if mode == full else 2)
        ends.append((f"stage {mode}" if "~" not in mode else f"{mode} together", values[-1], look.colour))
    tidy(axes)
    axes.grid(axis="y", color=FAINT, alpha=0.22, linewidth=0.7)
    axes.set(xlabel="IoU asked of a match", xlim=(0.5, 0.95))
    axes.set_xticks(iou[::2])
    label_ends(axes, ends)


def _loss_look(name: str, number: int) -> tuple[LineLook, str]:
    """Return look and label: by stage where the name has one, else by what it measures."""
    if stage := re.match(r"s(\d+)\.", name):
        return stage_look(int(stage[1])), f"stage {int(stage[1]) + 1}"
    if name == "loss":
        return LineLook(colour=INK, style="solid", width=2.0), "total"
    words = {"cls": "objectness", "bbox": "boxes", "mask": "masks"}
    label = next((word for key, word in words.items() if key in name), name)
    return LineLook(colour=BLUE if number else INK, style=(0, (4, 1.6)) if number else "solid"), label


def _frame_losses(axes: Axes) -> None:
    """Scale to what is worth seeing: a first spike before warm-up would flatten everything after it."""
    tidy(axes)
    axes.grid(axis="y", color=FAINT, alpha=0.22, linewidth=0.7)
    drawn = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    if drawn:
        values = np.concatenate(drawn)
        axes.set_ylim(0, 1.05 * float(np.quantile(values[np.isfinite(values)], 0.985)) + 1e-9)
    axes.margins(x=0)
