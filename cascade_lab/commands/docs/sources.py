"""The sources as pages with a number at every line; what cites a paper links to the index of papers."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import CudaLexer, JavascriptLexer, PythonLexer

from cascade_lab.commands.docs import page
from cascade_lab.learn.citations import Citation

_LEXERS = {".py": PythonLexer, ".cu": CudaLexer, ".cuh": CudaLexer, ".h": CudaLexer, ".js": JavascriptLexer}


def address(path: str, line: int | None = None) -> str:
    """Return where a source file's page lies, from the top of the site: "sources/cascade_lab/cli.py.html"."""
    return f"sources/{path}.html" + (f"#line-{line}" if line else "")


def anchor(paper: str, item: str) -> str:
    """Return the name of an item on the page of papers: "cascade-r-cnn-eq-7"."""
    return re.sub(r"[^a-z0-9]+", "-", f"{paper} {item}".lower()).strip("-")


def write(root: Path, site: Path, citations: Sequence[Citation]) -> None:
    """Write a page for every source file, and a list of them."""
    cited = defaultdict(list)
    for citation in citations:
        cited[citation.path].append(citation)
    files = [path for folder in ("cascade_lab", "cuda_src") for path in sorted((root / folder).rglob("*"))]
    names = [path.relative_to(root).as_posix() for path in files if path.suffix in _LEXERS]
    for name in names:
        text = (root / name).read_text(encoding="utf-8")
        shown = HtmlFormatter(linenos="inline", lineanchors="line", anchorlinenos=True, wrapcode=True)
        code = highlight(text, _LEXERS[Path(name).suffix](), shown)
        depth = name.count("/") + 1
        body = f"<h1>{html.escape(name)}</h1>\n{_sources_of(cited[name], depth)}{code}"
        page.write(site / address(name), name, body, depth=depth, kind="source")
    rows = "\n".join(f'<li><a href="{name}.html">{name}</a></li>' for name in names)
    page.write(site / "sources/index.html", "Sources", f"<h1>Sources</h1>\n<ul>{rows}</ul>", depth=1)


def _sources_of(citations: Sequence[Citation], depth: int) -> str:
    """Return the list of what a file follows, each with a link to the papers and one to the line."""
    if not citations:
        return ""
    rows = "".join(
        f'<li><a href="{"../" * depth}papers.html#{anchor(one.paper, one.item)}">{one.paper}, {one.item}</a>'
        f' in <a href="#line-{one.line}">line {one.line}</a></li>'
        for one in sorted(citations, key=lambda one: one.line)
    )
    return f"<p>This file follows</p>\n<ul>{rows}</ul>\n"
