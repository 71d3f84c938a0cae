"""The mask viewer: what every stage answered on its grid, their average, and how it gets into the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets

from cascade_lab.errors import InputError
from cascade_lab.viz.palette import BLUE, VERMILLION, stage_look
from cascade_lab.widgets.canvas import (
    CanvasWidget,
    Share,
    assets,
    float_bytes,
    integer_bytes,
    stroke_values,
    within,
)
from cascade_lab.widgets.mask_figure import MOST_LOGIT
from cascade_lab.widgets.mask_view import MaskView


class MaskViewer(CanvasWidget):
    """Show the masks of one or more pictures; every trait below follows the reader and can be set.

    Attributes:
        picture, detection: which one; detection 0 is the surest.
        position: 0 = the grid as the head answers it, 1 = stretched over the box, 2 = pasted into pixels.
        threshold: from which average a pixel belongs to the object.
        votes: the stages (from 1) that are averaged, at least one.
        average: "sigmoids" (official) or "logits", what is averaged.
        row, column: the cell whose values are read out. show_target: draw the true outline.

    Raises:
        InputError: no view is given. traitlets.TraitError: a trait is set outside its range.
    """

    _esm, _css = assets("mask_viewer")
    _views = traitlets.List().tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)
    detection = traitlets.Int(0).tag(sync=True)
    position = traitlets.Float(0.0).tag(sync=True)
    threshold = Share(0.5).tag(sync=True)
    votes = traitlets.List(traitlets.Int()).tag(sync=True)
    average = traitlets.Enum(("sigmoids", "logits"), "sigmoids").tag(sync=True)
    row = traitlets.Int(14).tag(sync=True)
    column = traitlets.Int(14).tag(sync=True)
    show_target = traitlets.Bool(True).tag(sync=True)

    def __init__(self, views: MaskView | Sequence[MaskView], *, picture: int = 0, detection: int = 0) -> None:
        self.views = [views] if isinstance(views, MaskView) else list(views)
        if not self.views:
            raise InputError("views: nothing to show; pass at least one view")
        super().__init__(_views=[_payload(view) for view in self.views])
        self.picture = picture
        self.detection = detection
        self.votes = list(self.view.stages)
        self.row = self.column = self.view.logits.shape[-1] // 2

    @property
    def view(self) -> MaskView:
        """Return the view that is on show."""
        return self.views[self.picture]

    @traitlets.validate("picture")
    def _check_picture(self, proposal: Any) -> int:
        return within("picture", proposal["value"], 0, len(self.views) - 1)

    @traitlets.validate("detection")
    def _check_detection(self, proposal: Any) -> int:
        return within("detection", proposal["value"], 0, len(self.view) - 1)

    @traitlets.validate("position")
    def _check_position(self, proposal: Any) -> float:
        return within("position", proposal["value"], 0.0, 2.0)

    @traitlets.validate("row", "column")
    def _check_cell(self, proposal: Any) -> int:
        return within(proposal["trait"].name, proposal["value"], 0, self.view.logits.shape[-1] - 1)

    @traitlets.validate("votes")
    def _check_votes(self, proposal: Any) -> list[int]:
        votes = sorted(set(proposal["value"]))
        if not votes or not set(votes) <= set(self.view.stages):
            raise traitlets.TraitError(
                f"votes: {proposal['value']} is not one or more of {list(self.view.stages)}"
            )
        return votes

    @traitlets.observe("picture")
    def _start_picture(self, change: Any) -> None:
        self.detection = 0  # a number means nothing in another picture
        kept = [stage for stage in self.votes if stage in self.view.stages]
        self.votes = kept or list(self.view.stages)
        side = self.view.logits.shape[-1] - 1
        self.row, self.column = min(self.row, side), min(self.column, side)


def _payload(view: MaskView) -> dict[str, Any]:
    """Return what JavaScript needs; arrays go over once, as raw little-endian bytes."""
    return {
        "name": view.name,
        "classes": list(view.classes),
        "size": list(view.size),
        "side": view.logits.shape[-1],
        "stages": list(view.stages),
        "styles": [stroke_values(stage_look(stage - 1)) for stage in view.stages],
        "low_color": VERMILLION,
        "high_color": BLUE,
        "most_logit": MOST_LOGIT,
        "picture": view.picture,
        "boxes": float_bytes(view.boxes),
        "labels": integer_bytes(view.labels),
        "scores": float_bytes(view.scores),
        "logits": float_bytes(view.logits),
        "target_index": integer_bytes(view.target_index),
        "target_masks": np.packbits(view.target_masks, axis=None).tobytes(),
    }
