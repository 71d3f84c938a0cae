"""One look for all pages of the site."""

from __future__ import annotations

import html
from pathlib import Path

from pygments.formatters import HtmlFormatter

MARK = "cascade_lab_site.css"  # a folder with this file is a site, and may be replaced
_STYLE = Path(__file__).parent / "site.css"
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · cascade_lab</title>
<link rel="stylesheet" href="{up}{mark}">
</head>
<body>
<header><nav aria-label="Site"><a href="{up}index.html">The course</a> <a href="{up}papers.html">Equations</a>
<a href="{up}sources/index.html">Sources</a> <a href="{up}api/cascade_lab.html">Reference</a></nav></header>
<main class="{kind}">
{body}
</main>
</body>
</html>
"""


def write(path: Path, title: str, body: str, *, depth: int, kind: str = "text") -> None:
    """Write a page that lies ``depth`` folders below the site's own."""
    text = _PAGE.format(title=html.escape(title), up="../" * depth, mark=MARK, kind=kind, body=body)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_styles(site: Path) -> None:
    """Write the style sheet: ours, and the colours of code in both themes."""
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    own = _STYLE.read_text(encoding="utf-8")
    both = f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{own}"
    (site / MARK).write_text(both, encoding="utf-8")
