"""The first page of the site, and the page of papers: which line implements or shows which equation."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cascade_lab.commands.docs import page
from cascade_lab.commands.docs.notebooks import Chapter
from cascade_lab.commands.docs.sources import address, anchor
from cascade_lab.learn.citations import Citation
from cascade_lab.learn.papers import PAPERS, Paper

_INTRODUCTION = """<p>Every equation, figure and table of the papers that the library implements or shows,
with the line of code or the chapter that does. The sources and the chapters link back.</p>"""
_START = """<p>cascade_lab teaches the Cascade R-CNN with InternImage, from a single IoU to the published
models. The chapters stand in reading order; each was run to build this page, and its viewers work without a
kernel. To write answers to the exercises, open the notebooks with <code>make lab</code>.</p>"""


def write_papers(site: Path, citations: Sequence[Citation]) -> None:
    """Write papers.html."""
    places = defaultdict(list)
    for citation in citations:
        places[citation.paper, citation.item].append(citation)
    body = "\n".join(["<h1>Equations, figures and tables</h1>", _INTRODUCTION,
                      *(_paper(paper, places) for paper in PAPERS)])  # fmt: skip
    page.write(site / "papers.html", "Equations", body, depth=0)


def write_start(site: Path, chapters: Sequence[Chapter]) -> None:
    """Write index.html."""
    rows = "\n".join(
        f'<li><a href="{one.address}">{html.escape(one.title)}</a><p>{one.goal}</p></li>' for one in chapters
    )
    page.write(
        site / "index.html",
        "The course",
        f'<h1>The course</h1>\n{_START}\n<ul class="chapters">{rows}</ul>',
        depth=0,
    )


def _paper(paper: Paper, places: dict[tuple[str, str], list[Citation]]) -> str:
    rows = "\n".join(
        f'<tr id="{anchor(paper.name, item)}"><th scope="row">{item}</th><td>{html.escape(about)}</td>'
        f"<td>{_places(places[paper.name, item])}</td></tr>"
        for item, about in paper.items.items()
    )
    number = f", arXiv {paper.arxiv}" if paper.arxiv else ""
    return (
        f"<h2>{html.escape(paper.name)}</h2>\n<p>{html.escape(paper.authors)} {paper.year}, "
        f"<cite>{html.escape(paper.title)}</cite>{number}.</p>\n<table><thead><tr><th>item</th><th>about</th>"
        f"<th>where</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _places(citations: Sequence[Citation]) -> str:
    in_order = sorted(citations, key=lambda one: (one.path, one.cell or 0, one.line))
    return "<br>".join(_place(one) for one in in_order) or "not shown here"


def _place(one: Citation) -> str:
    if one.cell is None:
        return f'<a href="{address(one.path, one.line)}">{one.path}:{one.line}</a>'
    return f'<a href="{one.path.removesuffix(".ipynb")}.html#cell-{one.cell}">{one.path}, cell {one.cell}</a>'
