"""The still picture of the mask viewer: the logits of every stage, their average, and the pasted result."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from cascade_lab.viz.boxes import add_box, overlay_masks, show_picture
from cascade_lab.viz.palette import BLUE, FAINT, INK, PAPER, SKY, VERMILLION, LineLook, stage_look
from cascade_lab.widgets.mask_view import Average, MaskView, averaged, mask_iou, pasted

MOST_LOGIT = 8.0  # of the colour scale; the sigmoid of 8 is 0.9997
LOGITS = LinearSegmentedColormap.from_list("logits", [VERMILLION, PAPER, BLUE])
SHARES = LinearSegmentedColormap.from_list("shares", [PAPER, BLUE])
BOX = LineLook(colour=SKY, style="solid", width=1.6)


def draw_masks(
    view: MaskView,
    detection: int = 0,
    *,
    votes: Sequence[int] | None = None,
    threshold: float = 0.5,
    average: Average = "sigmoids",
    width: float = 13.0,
) -> Figure:
    """Draw one detection: where it lies, what every stage answered, their average, and the pasted mask.

    A stage without a vote is drawn faint. Black lines on the average surround what reaches ``threshold``.
    """
    voters = list(votes or view.stages)
    picture = np.asarray(Image.open(io.BytesIO(view.picture)).convert("RGB"))  # (H, W, 3)
    figure = Figure(figsize=(width, width / (len(view.stages) + 3) + 0.55), layout="constrained")
    axes = list(np.ravel(figure.subplots(1, len(view.stages) + 3)))
    box = view.boxes[detection].tolist()
    show_picture(axes[0], picture)
    add_box(axes[0], box, BOX)
    _title(axes[0], f"{view.class_name(detection)} {view.scores[detection]:.2f}")
    for row, (stage, panel) in enumerate(zip(view.stages, axes[1:], strict=False)):
        _draw_cells(panel, view.logits[row, detection], LOGITS, MOST_LOGIT, faint=stage not in voters)
        panel.spines[:].set(color=stage_look(stage - 1).colour, linewidth=2.5)
        _title(panel, f"stage {stage}: logits" + ("" if stage in voters else ", no vote"))
    mean = averaged(view, detection, voters, average).numpy()
    _draw_cells(axes[-2], mean, SHARES, None)
    outline(axes[-2], mean >= threshold)
    _title(axes[-2], f"mean of {average}, ≥ {threshold:.2f}")
    mask = pasted(view, detection, voters, threshold, average)
    show_picture(axes[-1], overlay_masks(picture, mask[None], [BLUE]))
    add_box(axes[-1], box, BOX)
    iou = mask_iou(view, detection, mask)
    _title(axes[-1], f"pasted, {mask.sum()} pixels" + ("" if np.isnan(iou) else f", IoU {iou:.2f}"))
    return figure


def _draw_cells(
    axes: Axes, values: np.ndarray, colours: LinearSegmentedColormap, most: float | None, faint: bool = False
) -> None:
    """Draw (S, S) values cell by cell: from -most to most, or where that is None from 0 to 1."""
    side = values.shape[-1]
    low, high = (0.0, 1.0) if most is None else (-most, most)
    axes.imshow(
        values, cmap=colours, vmin=low, vmax=high, extent=(0, side, side, 0), interpolation="nearest",
        alpha=0.3 if faint else 1.0,
    )  # fmt: skip
    axes.set(xticks=[0, side], yticks=[0, side])
    axes.tick_params(labelsize=7, colors=FAINT)


def outline(axes: Axes, inside: np.ndarray) -> None:
    """Draw lines around the cells (S, S) that are inside."""
    padded = np.pad(inside, 1)
    rows, columns = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])  # a change from one row to the next
    axes.hlines(rows, columns, columns + 1, colors=INK, linewidths=1.4)
    rows, columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    axes.vlines(columns, rows, rows + 1, colors=INK, linewidths=1.4)


def _title(axes: Axes, text: str) -> None:
    """Write the title of a panel."""
    axes.set_title(text, fontsize=9, color=INK)
