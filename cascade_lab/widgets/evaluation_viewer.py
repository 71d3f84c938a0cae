"""The evaluation viewer: five charts of one evaluation, and behind every bar, cell or point its pictures."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import traitlets

from cascade_lab.evaluation.errors import ERRORS
from cascade_lab.viz.evaluation import MISSED_BOX, RIGHT_BOX, WRONG_BOX
from cascade_lab.viz.palette import INK, ORANGE, PALE, PROPOSAL, SKY, TRUTH, LineLook, mode_look
from cascade_lab.widgets.canvas import (
    CanvasWidget,
    Share,
    assets,
    float_bytes,
    integer_bytes,
    stroke_values,
    within,
)
from cascade_lab.widgets.evaluation_cases import (
    CHARTS,
    ERROR_WORDS,
    NEIGHBOURS,
    Case,
    Chart,
    Choice,
    cases,
    count_items,
)
from cascade_lab.widgets.stored_evaluation import EvaluationView, Reading

_LOOKS = {
    "right": RIGHT_BOX,
    "wrong": WRONG_BOX,
    "missed": MISSED_BOX,
    "object": TRUTH,
    "other": LineLook(colour=PALE, style=PROPOSAL.style),  # a detection that is not in question
}


class EvaluationViewer(CanvasWidget):
    """Show an evaluation; every trait below can be set from Python and follows what the reader does.

    Attributes:
        chart: "errors", "confusion", "precision", "iou" or "pictures".
        stages: whose detections, such as "1" or "1~3"; class_filter: a class name, or "" for all.
        iou: in percent, 50 to 95 in steps of 5; threshold: least score of a detection that counts.
        item: the chosen bar, cell, recall, IoU or rank, see ``Choice``; 0 where a new chart has fewer.
        picture: which of the pictures behind it, from 0; past the last one the last is shown.

    Raises:
        traitlets.TraitError: a trait is set outside its range.
    """

    _esm, _css = assets("evaluation_viewer")
    _view = traitlets.Dict().tag(sync=True)
    chart = traitlets.Enum(list(CHARTS), "errors").tag(sync=True)
    stages = traitlets.Unicode("").tag(sync=True)
    class_filter = traitlets.Unicode("").tag(sync=True)
    iou = traitlets.Int(50).tag(sync=True)
    threshold = Share(0.3).tag(sync=True)
    item = traitlets.Int(0).tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)

    def __init__(self, view: EvaluationView, *, chart: Chart = "errors", item: int = 0) -> None:
        self.view = view
        super().__init__(_view=_payload(view), stages=list(view.readings)[-1])
        self.chart = chart
        self.item = item

    @property
    def choice(self) -> Choice:
        """Return what is chosen, as ``cases`` wants it."""
        return Choice(
            chart=cast(Chart, self.chart),
            item=self.item,
            label=self.view.classes.index(self.class_filter) if self.class_filter else None,
            iou=(self.iou - 50) // 5,
            least_score=self.threshold,
        )

    def cases(self) -> list[Case]:
        """Return the pictures behind the chosen item, in the order in which the viewer shows them."""
        return cases(self.view, self.stages, self.choice)

    @traitlets.validate("stages")
    def _check_stages(self, proposal: Any) -> str:
        return _one_of("stages", proposal["value"], list(self.view.readings))

    @traitlets.validate("class_filter")
    def _check_class_filter(self, proposal: Any) -> str:
        return _one_of("class_filter", proposal["value"], ["", *self.view.classes])

    @traitlets.validate("iou")
    def _check_iou(self, proposal: Any) -> int:
        return _one_of("iou", proposal["value"], list(range(50, 100, 5)))

    @traitlets.validate("item")
    def _check_item(self, proposal: Any) -> int:
        return within("item", proposal["value"], 0, count_items(self.view, cast(Chart, self.chart)) - 1)

    @traitlets.validate("picture")
    def _check_picture(self, proposal: Any) -> int:
        return within("picture", proposal["value"], 0, len(self.view.pictures) - 1)

    @traitlets.observe("chart")
    def _keep_item_in_range(self, change: Any) -> None:
        # Only then: the page sets chart and item in one message, and must not be thrown back to item 0.
        if self.item >= count_items(self.view, cast(Chart, self.chart)):
            self.item = 0


def _one_of(name: str, value: Any, known: list[Any]) -> Any:
    if value not in known:
        raise traitlets.TraitError(f"{name}: {value!r} is not one of {known}")
    return value


def _payload(view: EvaluationView) -> dict[str, Any]:
    """Return what JavaScript needs; arrays go over once, as raw little-endian bytes."""
    first = next(iter(view.readings.values())).matches
    full = list(view.readings)[-1]
    return {
        "source": view.source,
        "classes": list(view.classes),
        "errors": [ERROR_WORDS[kind] for kind in ERRORS],
        "neighbours": NEIGHBOURS,
        "styles": {name: stroke_values(look) for name, look in _LOOKS.items()},
        "bar_color": SKY,
        "confused_color": ORANGE,
        "names": list(view.names),
        "sizes": [list(size) for size in view.sizes],
        "pictures": list(view.pictures),
        "object_boxes": float_bytes(first.object_boxes),
        "object_labels": integer_bytes(first.object_labels),
        "object_picture": integer_bytes(first.object_picture),
        "object_ignored": integer_bytes(first.object_ignored),
        "readings": [_reading(mode, full, reading) for mode, reading in view.readings.items()],
    }


def _reading(mode: str, full: str, reading: Reading) -> dict[str, Any]:
    matches, errors, look = reading.matches, reading.errors, mode_look(mode, full)
    gains = [
        np.column_stack([at.repaired_ap - at.ap, [at.gain(kind) for kind in ERRORS]]) for at in errors
    ]  # T times (6, K + 1), the mean last
    return {
        "mode": mode,
        "name": f"stage {mode}" if "~" not in mode else f"stages {mode} together",
        **stroke_values(look),
        "color": "" if look.colour == INK else look.colour,  # none: that of the text, in either theme
        "boxes": float_bytes(matches.boxes),
        "labels": integer_bytes(matches.labels),
        "scores": float_bytes(matches.scores),
        "picture": integer_bytes(matches.picture),
        "matched": integer_bytes(np.where(matches.ignored, -2, matches.matched)),
        "kinds": integer_bytes(np.stack([at.kinds for at in errors])),
        "objects": integer_bytes(np.stack([at.objects for at in errors])),
        "ious": float_bytes(np.stack([at.ious for at in errors])),
        "paired": integer_bytes(reading.confusion.objects),
        "gains": float_bytes(np.stack(gains)),
        "precision": float_bytes(reading.curves.precision),
        "recall_scores": float_bytes(reading.curves.scores),
    }
