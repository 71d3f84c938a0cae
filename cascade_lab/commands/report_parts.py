"""Building blocks of the report: tables, lists of facts, inline figures and pictures, all as HTML text."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib.figure import Figure

from cascade_lab.viz.palette import FAINT, INK, mode_look


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which scores a table shows: heading -> name in results.json, boxes first, masks behind a line."""

    boxes: Mapping[str, str]
    masks: Mapping[str, str]

    def over(self) -> str:
        return (
            f'<th class="over" colspan="{len(self.boxes)}">boxes</th>'
            f'<th class="over split" colspan="{len(self.masks)}">masks</th>'
        )

    def head(self) -> str:
        masks = [f'<th{_split(k)} scope="col">{name}</th>' for k, name in enumerate(self.masks)]
        return "".join([*(f'<th scope="col">{name}</th>' for name in self.boxes), *masks])

    def cells(self, both: Mapping[str, Any]) -> str:
        boxes = [f"<td>{number_text(both['bbox'][key])}</td>" for key in self.boxes.values()]
        masks = [
            f"<td{_split(k)}>{number_text(both['segm'] and both['segm'][key])}</td>"
            for k, key in enumerate(self.masks.values())
        ]
        return "".join([*boxes, *masks])


def table_html(head: str, rows: Sequence[str], caption: str = "") -> str:
    """Return a table that scrolls by itself on a narrow page; ``head`` and ``rows`` are whole rows."""
    named = f"<caption>{caption}</caption>" if caption else ""
    body = "".join(rows)
    return f'<div class="scroll"><table>{named}<thead>{head}</thead><tbody>{body}</tbody></table></div>'


def facts_html(groups: Mapping[str, Sequence[tuple[str, Any]]]) -> str:
    """Return lists of names and values, flowing in columns."""

    def section(title: str, rows: Sequence[tuple[str, Any]]) -> str:
        body = "".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{value_text(value)}</td></tr>'
            for name, value in rows
        )
        return f"<section><h3>{escape(title)}</h3><table><tbody>{body}</tbody></table></section>"

    return f'<div class="facts">{"".join(section(*group) for group in groups.items())}</div>'


def figure_svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as inline SVG whose text and axes follow the light or dark theme of the page.

    ``name`` keeps the ids of several figures on one page apart.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in ((INK, "var(--ink)"), (FAINT, "var(--faint)")):
        text = re.sub(colour, variable, text, flags=re.I)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(description, quote=True)}"', 1)


def image_html(jpeg: bytes, description: str) -> str:
    data = base64.b64encode(jpeg).decode("ascii")
    return f'<img alt="{escape(description, quote=True)}" src="data:image/jpeg;base64,{data}">'


def swatch_svg(mode: str, full: str) -> str:
    """Return a short piece of the line that stands for a mode in the curves."""
    look = mode_look(mode, full)
    dashes = "" if isinstance(look.style, str) else " ".join(f"{1.4 * dash:g}" for dash in look.style[1])
    colour = "var(--ink)" if look.colour == INK else look.colour
    return (
        f'<svg class="swatch" viewBox="0 0 34 12" aria-hidden="true"><path d="M0 6H34" fill="none" '
        f'stroke="{colour}" stroke-width="{1.5 * look.width:g}" stroke-dasharray="{dashes}"/></svg>'
    )


def number_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def value_text(value: Any) -> str:
    if isinstance(value, list):
        return escape(", ".join(map(str, value))) or "–"
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None else escape(str(value))


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Return nested mappings, and lists of mappings, as one level of dotted names."""
    if isinstance(value, list) and value and all(isinstance(member, dict) for member in value):
        value = {str(k): member for k, member in enumerate(value)}
    if not isinstance(value, Mapping):
        return {name: value}
    inner = [flatten(member, f"{name}.{key}" if name else str(key)) for key, member in value.items()]
    return {key: leaf for part in inner for key, leaf in part.items()}


def by_group(flat: Mapping[str, Any], top: str) -> dict[str, list[tuple[str, Any]]]:
    """Gather dotted names under all but their last part; ``top`` is the group of names without a dot."""
    groups: dict[str, list[tuple[str, Any]]] = {}
    for name, value in flat.items():
        group, _, last = name.rpartition(".")
        groups.setdefault(group or top, []).append((last, value))
    return groups


def _split(k: int) -> str:
    return "" if k else ' class="split"'
