"""What every viewer is: an anywidget that draws from arrays which go over once, and one HTML file."""

from __future__ import annotations

import base64
import html
import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from cascade_lab.viz.palette import LineLook

_HERE = Path(__file__).parent
_NUMBERS = count()
PAGES = "CASCADE_LAB_PAGES"  # set to 1, viewers are shown as pieces of a page: for a site without kernels


class CanvasWidget(anywidget.AnyWidget):
    """Base of the viewers. A viewer names its files with `assets` and tags its traits ``sync=True``.

    The JavaScript defines ``render({model, el})`` and may use all of ``kit.js``, which stands before it.
    Its root element has the class ``cascade-lab``; ``kit.css`` gives it the colours of the theme.
    """

    _esm: str
    _css: str

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        # The kernel must not tell the page what the page has told it: coming late, that throws back a slider
        # that has moved on.
        for trait in self.traits(sync=True).values():
            trait.tag(echo_update=False)

    def to_html(self, path: str | Path, title: str | None = None) -> Path:
        """Write the viewer as it stands to one HTML file that needs neither a kernel nor a network."""
        page = _PAGE.format(title=html.escape(title or type(self).__name__), viewer=self.fragment())
        path = Path(path)
        path.write_text(page, encoding="utf-8")
        return path

    def fragment(self) -> str:
        """Return the viewer as it stands as a piece of a page, which may hold several of them."""
        state = {name: _text(getattr(self, name)) for name in sorted(self._own_traits())}
        # "<" would let a class name close the script element
        data = json.dumps(state, allow_nan=False).replace("<", "\\u003c")
        return _FRAGMENT.format(id=f"viewer-{next(_NUMBERS)}", style=self._css, script=self._esm, data=data)

    def _own_traits(self) -> set[str]:
        theirs = set(anywidget.AnyWidget.class_traits(sync=True)) | {"_esm", "_css"}
        return {name for name in self.traits(sync=True) if name not in theirs and "anywidget" not in name}

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Show the widget; where pages are built, which will have no kernel, the piece of a page."""
        if os.environ.get(PAGES) == "1":
            return {"text/html": self.fragment()}, {}
        return super()._repr_mimebundle_(**kwargs)


class Share(traitlets.Float):
    """A trait from 0 to 1, such as a threshold of scores. Raises traitlets.TraitError for any other value."""

    def validate(self, obj: Any, value: Any) -> float:
        return within(str(self.name), super().validate(obj, value), 0.0, 1.0)


def assets(name: str) -> tuple[str, str]:
    """Return (JavaScript, CSS) of the viewer ``name``: the shared kit, then the viewer's own file."""
    script, style = (
        "\n".join((_HERE / f"{stem}.{ending}").read_text(encoding="utf-8") for stem in ("kit", name))
        for ending in ("js", "css")
    )
    return script, style


def float_bytes(values: np.ndarray) -> bytes:
    """Return what ``floats()`` of kit.js reads: raw little-endian float32."""
    return np.ascontiguousarray(values, "<f4").tobytes()


def integer_bytes(values: np.ndarray) -> bytes:
    """Return what ``integers()`` of kit.js reads: raw little-endian int32."""
    return np.ascontiguousarray(values, "<i4").tobytes()


def stroke_values(look: LineLook) -> dict[str, Any]:
    """Return a look as ``strokeBoxes()`` and ``swatch()`` of kit.js take it; dashes are in pixels."""
    dashes = [] if look.style == "solid" else [length * look.width for length in look.style[1]]
    return {"color": look.colour, "dash": dashes}


def within(name: str, value: Any, low: Any, high: Any) -> Any:
    """Return ``value``. Raises traitlets.TraitError where it is not between low and high, NaN included."""
    if not low <= value <= high:
        raise traitlets.TraitError(f"{name}: {value} is not between {low} and {high}")
    return value


def _text(value: Any) -> Any:
    """Return ``value`` with all bytes in it, at any depth, as base64."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: _text(one) for name, one in value.items()}
    return [_text(one) for one in value] if isinstance(value, list | tuple) else value


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
</style>
</head>
<body>
<main>
{viewer}
</main>
</body>
</html>
"""
# The stand-in for the notebook's model holds values and calls back; the viewer cannot tell the difference.
_FRAGMENT = """<div id="{id}"></div>
<style>
{style}
</style>
<script type="application/json" id="{id}-state">{data}</script>
<script type="module">
{script}
const unpack = (key, value) => value?.base64 === undefined ? value
  : new DataView(Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)).buffer);
const state = JSON.parse(document.getElementById("{id}-state").textContent, unpack);
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
render({{ model, el: document.getElementById("{id}") }});
</script>
"""
