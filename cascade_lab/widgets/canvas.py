"""What every viewer is: an anywidget that draws from arrays which go over once, and one HTML file."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

_HERE = Path(__file__).parent


class CanvasWidget(anywidget.AnyWidget):
    """Base of the viewers. A viewer names its files with `assets` and tags its traits ``sync=True``.

    The JavaScript defines ``render({model, el})`` and may use all of ``kit.js``, which stands before it.
    Its root element has the class ``cascade-lab``; ``kit.css`` gives it the colours of the theme.
    """

    def to_html(self, path: str | Path, title: str | None = None) -> Path:
        """Write the viewer as it stands to one HTML file that needs neither a kernel nor a network."""
        own = set(self.traits(sync=True)) - set(anywidget.AnyWidget.class_traits(sync=True))
        state = {
            name: _text(getattr(self, name)) for name in sorted(own) if not name.startswith("_anywidget")
        }
        state = {name: value for name, value in state.items() if name not in ("_esm", "_css")}
        # "<" would let a class name close the script element
        data = json.dumps(state, allow_nan=False).replace("<", "\\u003c")
        page = _PAGE.format(
            title=html.escape(title or type(self).__name__), style=self._css, script=self._esm, data=data
        )
        path = Path(path)
        path.write_text(page, encoding="utf-8")
        return path


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
