"""The still picture of the cascade viewer: one panel a stage."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cascade_lab.viz.boxes import add_box, show_picture
from cascade_lab.viz.palette import PAPER, PROPOSAL, LineLook, stage_look
from cascade_lab.widgets.stage_text import stage_ious, stage_names
from cascade_lab.widgets.stored_trace import View


def stage_looks(view: View) -> list[LineLook]:
    """Return how the proposal and every stage are drawn, one look per row of ``view.boxes``."""
    return [PROPOSAL, *(stage_look(k) for k in range(view.stages))]


def draw_stages(view: View, threshold: float = 0.3, *, width: float = 12.0) -> Figure:
    """Draw the picture once a stage, with the boxes that score at least ``threshold`` and their mean IoU."""
    picture = np.asarray(Image.open(io.BytesIO(view.picture)).convert("RGB"))  # (H, W, 3)
    shown = view.final_scores >= threshold
    panels = view.stages + 1
    figure = Figure(
        figsize=(width, width / panels * view.size[0] / view.size[1] + 0.45), layout="constrained"
    )
    for k, axes in enumerate(np.ravel(figure.subplots(1, panels))):
        show_picture(axes, picture)
        for target in view.targets.tolist():
            add_box(axes, target, LineLook(colour=PAPER, style="solid", width=1.0))
        for box in view.boxes[k, shown].tolist():
            add_box(axes, box, stage_looks(view)[k])
        ious = stage_ious(view, threshold)[k]
        known = ious[~np.isnan(ious)]
        mean = f", mean IoU {known.mean():.2f}" if len(known) else ""
        axes.set_title(f"{stage_names(view)[k]}{mean}", fontsize=10)
    return figure
