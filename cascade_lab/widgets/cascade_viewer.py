"""The cascade viewer: a slider moves every box from its proposal through the stages. Drawn in the browser."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from cascade_lab.errors import InputError
from cascade_lab.widgets.stage_figure import style_values
from cascade_lab.widgets.stage_text import describe_box
from cascade_lab.widgets.stored_trace import View

_HERE = Path(__file__).parent
_SCRIPT, _STYLE = _HERE / "cascade_viewer.js", _HERE / "cascade_viewer.css"
_STATE = ("picture", "position", "threshold", "show_masks", "show_targets", "class_filter", "selected")


class CascadeViewer(anywidget.AnyWidget):
    """Show one or more views; every trait below can be set from Python and follows what the reader does.

    Attributes:
        picture: which view; position: 0 = proposals, k = after stage k, anything between is interpolated.
        threshold: least final score of a shown box; class_filter: a class name, or "" for all.
        selected: the followed box, -1 for none.

    Raises:
        InputError: no view is given. traitlets.TraitError: a trait is set outside its range.
    """

    _esm = _SCRIPT
    _css = _STYLE
    _views = traitlets.List().tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)
    position = traitlets.Float(0.0).tag(sync=True)
    threshold = traitlets.Float(0.3).tag(sync=True)
    show_masks = traitlets.Bool(True).tag(sync=True)
    show_targets = traitlets.Bool(True).tag(sync=True)
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

    def to_html(self, path: str | Path, title: str = "Cascade viewer") -> Path:
        """Write the viewer as it stands to one HTML file that needs neither a kernel nor a network."""
        state = {name: getattr(self, name) for name in _STATE}
        state["_views"] = [{k: _text(v) for k, v in view.items()} for view in self._views]
        # "<" would let a class name close the script element
        data = json.dumps(state, allow_nan=False).replace("<", "\\u003c")
        page = _PAGE.format(
            title=html.escape(title),
            style=_STYLE.read_text(encoding="utf-8"),
            script=_SCRIPT.read_text(encoding="utf-8"),
            data=data,
        )
        path = Path(path)
        path.write_text(page, encoding="utf-8")
        return path

    @traitlets.validate("picture")
    def _check_picture(self, proposal: Any) -> int:
        return _within("picture", proposal["value"], 0, len(self.views) - 1)

    @traitlets.validate("position")
    def _check_position(self, proposal: Any) -> float:
        return _within("position", proposal["value"], 0.0, float(self.view.stages))

    @traitlets.validate("threshold")
    def _check_threshold(self, proposal: Any) -> float:
        return _within("threshold", proposal["value"], 0.0, 1.0)

    @traitlets.validate("selected")
    def _check_selected(self, proposal: Any) -> int:
        return _within("selected", proposal["value"], -1, len(self.view) - 1)

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


def _within(name: str, value: Any, low: Any, high: Any) -> Any:
    if not low <= value <= high:  # NaN fails too
        raise traitlets.TraitError(f"{name}: {value} is not between {low} and {high}")
    return value


def _payload(view: View) -> dict[str, Any]:
    """Return what JavaScript needs; arrays go over once, as raw little-endian bytes."""

    def floats(values: np.ndarray) -> bytes:
        return np.ascontiguousarray(values, "<f4").tobytes()

    def integers(values: np.ndarray) -> bytes:
        return np.ascontiguousarray(values, "<i4").tobytes()

    return {
        "name": view.name,
        "source": view.source,
        "classes": list(view.classes),
        "size": list(view.size),
        "thresholds": list(view.thresholds),
        "styles": style_values(view),
        "mask_stages": list(view.mask_stages),
        "mask_size": list(view.masks.shape[2:]) if view.masks.shape[0] else [0, 0],
        "picture": view.picture,
        "boxes": floats(view.boxes),
        "scores": floats(view.scores),
        "final_scores": floats(view.final_scores),
        "labels": integers(view.labels),
        "masks": view.masks.tobytes(),
        "targets": floats(view.targets),
        "target_labels": integers(view.target_labels),
        "target_index": integers(view.target_index),
    }


def _text(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


# The stand-in for the notebook's model holds values and calls back; the viewer cannot tell the difference.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ margin: 0; padding: 16px; }}
@media (prefers-color-scheme: light) {{ body {{ background: #fff; }} }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; }} }}
{style}
</style>
</head>
<body>
<main id="viewer"></main>
<script type="application/json" id="state">{data}</script>
<script type="module">
{script}
const unpack = (key, value) => value?.base64 === undefined ? value
  : new DataView(Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)).buffer);
const state = JSON.parse(document.getElementById("state").textContent, unpack);
const listeners = new Map();
const model = {{
  get: (name) => state[name],
  set: (name, value) => {{
    if (Object.is(state[name], value)) return;
    state[name] = value;
    for (const call of listeners.get("change:" + name) ?? []) call();
  }},
  save_changes: () => {{}},
  on: (event, call) => listeners.set(event, [...(listeners.get(event) ?? []), call]),
  off: (event, call) => listeners.set(event, (listeners.get(event) ?? []).filter((c) => c !== call)),
}};
render({{ model, el: document.getElementById("viewer") }});
</script>
</body>
</html>
"""
