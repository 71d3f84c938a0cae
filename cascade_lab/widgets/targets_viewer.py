"""The targets viewer: anchors, samples, pyramid levels, RoIAlign bins and NMS, in tabs over one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import traitlets

from cascade_lab.errors import InputError
from cascade_lab.widgets.canvas import CanvasWidget, assets, float_bytes, integer_bytes, within
from cascade_lab.widgets.stored_trace import encode_picture
from cascade_lab.widgets.targets_figure import looks
from cascade_lab.widgets.targets_view import SampleView, TargetsView

TABS = ("anchors", "samples", "levels", "bins", "nms")
NUMBERS = (
    "level",
    "source",
    "cell",
    "sample",
    "box",
    "bin",
    "step",
)  # those that others depend on come first


class TargetsViewer(CanvasWidget):
    """Show one or more views; every trait below can be set from Python and follows what the reader does.

    Attributes:
        picture: which view; tab: one of ``TABS``.
        level, cell: of the anchors; level: of NMS too; step: how many boxes NMS has kept before this one.
        source, sample: which loss (0: the RPN, then the stages), and which of its boxes.
        show_negatives: draw the negatives among these boxes.
        box, bin: of the boxes to read, and of the bins of RoIAlign, row by row.
        zoom: how many times larger the picture is taken to be, for the choice of the level.

    Raises:
        InputError: no view is given. traitlets.TraitError: a trait is set outside its range.
    """

    _esm, _css = assets("targets_viewer")
    _views = traitlets.List().tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)
    tab = traitlets.Enum(TABS, default_value="anchors").tag(sync=True)
    level = traitlets.Int(0).tag(sync=True)
    cell = traitlets.Int(0).tag(sync=True)
    source = traitlets.Int(0).tag(sync=True)
    sample = traitlets.Int(0).tag(sync=True)
    show_negatives = traitlets.Bool(True).tag(sync=True)
    box = traitlets.Int(0).tag(sync=True)
    bin = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    zoom = traitlets.Float(1.0).tag(sync=True)

    def __init__(
        self,
        views: TargetsView | Sequence[TargetsView],
        *,
        picture: int = 0,
        tab: str = "anchors",
        level: int | None = None,
    ) -> None:
        """Show ``views``, at first the level with the most positive anchors, and there the best cell."""
        self.views = [views] if isinstance(views, TargetsView) else list(views)
        if not self.views:
            raise InputError("views: nothing to show; pass at least one view")
        super().__init__(_views=[_payload(view) for view in self.views])
        self.picture, self.tab = picture, tab
        self.level = _busiest_level(self.view) if level is None else level
        self.cell = self.view.anchors.best_cell(self.level)

    @property
    def view(self) -> TargetsView:
        """Return the view that is on show."""
        return self.views[self.picture]

    def last(self, name: str) -> int:
        """Return the largest value of a whole-numbered trait, which may depend on the others."""
        view = self.view
        rows, columns = view.anchors.grids[min(self.level, len(view.anchors.grids) - 1)]
        source = min(self.source, len(view.samples) - 1)
        counts = {
            "level": len(view.anchors.grids),
            "cell": rows * columns,
            "source": len(view.samples),
            "sample": len(view.samples[source].boxes),
            "box": len(view.reading.boxes),
            "bin": view.reading.pooled[0].size if len(view.reading.pooled) else 1,
            "step": len(view.suppression[min(self.level, len(view.suppression) - 1)].kept()),
        }
        return max(counts[name] - 1, 0)

    @traitlets.validate("picture")
    def _check_picture(self, proposal: Any) -> int:
        return within("picture", proposal["value"], 0, len(self.views) - 1)

    @traitlets.validate(*NUMBERS)
    def _check_number(self, proposal: Any) -> int:
        name = proposal["trait"].name
        return within(name, proposal["value"], 0, self.last(name))

    @traitlets.validate("zoom")
    def _check_zoom(self, proposal: Any) -> float:
        return within("zoom", proposal["value"], 0.25, 16.0)

    @traitlets.observe("picture", "level", "source")
    def _stay_in_range(self, change: Any) -> None:
        # no more than that: the browser sends a picture together with its new numbers, which must not be lost
        for name in NUMBERS:
            setattr(self, name, min(getattr(self, name), self.last(name)))


def _busiest_level(view: TargetsView) -> int:
    levels = range(len(view.anchors.grids))
    positive = view.anchors.target_index >= 0
    return max(levels, key=lambda level: positive[view.anchors.level_boxes(level)].sum())


def _payload(view: TargetsView) -> dict[str, Any]:
    """Return what JavaScript needs; arrays go over once, as raw little-endian bytes."""
    anchors, reading = view.anchors, view.reading
    return {
        "name": view.name,
        "size": list(view.picture.shape[:2]),
        "picture": encode_picture(torch.from_numpy(view.picture).permute(2, 0, 1)),
        "looks": looks(),
        "targets": float_bytes(view.targets),
        "target_names": [view.target_name(m) for m in range(len(view.targets))],
        "anchors": {
            "strides": list(anchors.strides),
            "grids": [list(grid) for grid in anchors.grids],
            "shapes": anchors.shapes,
            "best_cells": [anchors.best_cell(level) for level in range(len(anchors.grids))],
            "names": [anchors.level_name(level) for level in range(len(anchors.grids))],
            "positive_iou": anchors.positive_iou,
            "negative_iou": anchors.negative_iou,
            "boxes": float_bytes(anchors.boxes),
            "iou": float_bytes(anchors.iou),
            "target_index": integer_bytes(anchors.target_index),
        },
        "samples": [_sample_payload(sample) for sample in view.samples],
        "reading": {
            "names": list(reading.names),
            "strides": list(reading.strides),
            "canonical_size": reading.canonical_size,
            "boxes": float_bytes(reading.boxes),
            "levels": integer_bytes(reading.levels),
            "maps": [{"size": list(level.shape), "values": float_bytes(level)} for level in reading.maps],
            "bins": reading.pooled.shape[2],
            "most_samples": [reading.rows.shape[2], reading.columns.shape[2]],
            "rows": float_bytes(reading.rows),
            "columns": float_bytes(reading.columns),
            "pooled": float_bytes(reading.pooled),
        },
        "suppression": [
            {
                "threshold": nms.threshold,
                "boxes": float_bytes(nms.boxes),
                "scores": float_bytes(nms.scores),
                "by": integer_bytes(nms.by),
            }
            for nms in view.suppression
        ],
    }


def _sample_payload(sample: SampleView) -> dict[str, Any]:
    return {
        "name": sample.name,
        "rule": sample.rule,
        "positive_iou": sample.positive_iou,
        "negative_iou": sample.negative_iou,
        "positives": sample.positives,
        "available": list(sample.available),
        "boxes": float_bytes(sample.boxes),
        "iou": float_bytes(sample.iou),
        "is_target": integer_bytes(sample.is_target.astype(np.int32)),
        "entering_iou": float_bytes(sample.entering_iou),
    }
