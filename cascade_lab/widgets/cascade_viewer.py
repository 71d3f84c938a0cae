"""The cascade viewer: a slider moves every box from its proposal through the stages. Drawn in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import traitlets

from cascade_lab.errors import InputError
from cascade_lab.widgets.canvas import (
    CanvasWidget,
    Share,
    assets,
    float_bytes,
    integer_bytes,
    stroke_values,
    within,
)
from cascade_lab.widgets.stage_figure import stage_looks
from cascade_lab.widgets.stage_text import describe_box, stage_names
from cascade_lab.widgets.stored_trace import View


class CascadeViewer(CanvasWidget):
    """Show one or more views; every trait below can be set from Python and follows what the reader does.

    Attributes:
        picture: which view; position: 0 = proposals, k = after stage k, anything between is interpolated.
        threshold: least final score of a shown box; class_filter: a class name, or "" for all.
        selected: the followed box, -1 for none.
        show_masks, show_targets: draw the masks, the ground truth.
        show_positives: draw faintly the boxes that are no positives of the stage that they enter next.

    Raises:
        InputError: no view is given. traitlets.TraitError: a trait is set outside its range.
    """

    _esm, _css = assets("cascade_viewer")
    _views = traitlets.List().tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)
    position = traitlets.Float(0.0).tag(sync=True)
    threshold = Share(0.3).tag(sync=True)
    show_masks = traitlets.Bool(True).tag(sync=True)
    show_targets = traitlets.Bool(True).tag(sync=True)
    show_positives = traitlets.Bool(False).tag(sync=True)
    class_filter = traitlets.Unicode("").tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)

    def __init__(
        self,
        views: View | Sequence[View],
        *,
        picture: int = 0,
        position: float = 0.0,
        threshold: float = 0.3,
        selected: int = -1,
    ) -> None:
        self.views = [views] if isinstance(views, View) else list(views)
        if not self.views:
            raise InputError("views: nothing to show; pass at least one view")
        super().__init__(_views=[_payload(view) for view in self.views])
        self.picture, self.threshold = picture, threshold
        self.position, self.selected = position, selected

    @property
    def view(self) -> View:
        """Return the view that is on show."""
        return self.views[self.picture]

    def panel_text(self) -> str:
        """Return what the panel tells of the selected box; empty without one."""
        return describe_box(self.view, self.selected) if self.selected >= 0 else ""

    @traitlets.validate("picture")
    def _check_picture(self, proposal: Any) -> int:
        return within("picture", proposal["value"], 0, len(self.views) - 1)

    @traitlets.validate("position")
    def _check_position(self, proposal: Any) -> float:
        return within("position", proposal["value"], 0.0, float(self.view.stages))

    @traitlets.validate("selected")
    def _check_selected(self, proposal: Any) -> int:
        return within("selected", proposal["value"], -1, len(self.view) - 1)

    @traitlets.validate("class_filter")
    def _check_class_filter(self, proposal: Any) -> str:
        name, known = proposal["value"], sorted({c for view in self.views for c in view.classes})
        if name and name not in known:
            raise traitlets.TraitError(f"class_filter: no class {name!r}; use '' for all, or one of {known}")
        return name

    @traitlets.observe("picture")
    def _start_picture(self, change: Any) -> None:
        # a box number means nothing in another picture
        self.selected = -1
        self.position = min(self.position, float(self.view.stages))


def _payload(view: View) -> dict[str, Any]:
    """Return what JavaScript needs; arrays go over once, as raw little-endian bytes."""
    return {
        "name": view.name,
        "source": view.source,
        "classes": list(view.classes),
        "size": list(view.size),
        "thresholds": list(view.thresholds),
        "styles": [
            stroke_values(look) | {"name": name}
            for name, look in zip(stage_names(view), stage_looks(view), strict=True)
        ],
        "mask_stages": list(view.mask_stages),
        "mask_size": list(view.masks.shape[2:]) if view.masks.shape[0] else [0, 0],
        "picture": view.picture,
        "boxes": float_bytes(view.boxes),
        "scores": float_bytes(view.scores),
        "final_scores": float_bytes(view.final_scores),
        "labels": integer_bytes(view.labels),
        "masks": view.masks.tobytes(),
        "targets": float_bytes(view.targets),
        "target_labels": integer_bytes(view.target_labels),
        "target_index": integer_bytes(view.target_index),
    }
