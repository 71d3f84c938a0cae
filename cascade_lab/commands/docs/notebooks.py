"""A notebook run from top to bottom and written as a page; its viewers go on working without a kernel."""

from __future__ import annotations

import html
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import latex2mathml.converter
import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from cascade_lab.commands.docs import page
from cascade_lab.commands.docs.sources import anchor
from cascade_lab.learn.citations import citations_in
from cascade_lab.widgets.canvas import PAGES

ROOT = Path(__file__).parents[3]
_MATH = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?=\S)(?P<line>[^$\n]+?)(?<=\S)\$(?!\d)", re.S)


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """What the first page says of a notebook."""

    address: str
    title: str
    goal: str


def write(path: Path, site: Path) -> Chapter:
    """Run a notebook, write its page, and return what there is to say of it.

    Raises what nbclient raises where a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    run(notebook)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            cell.source = f'<span id="cell-{number}"></span>\n\n{with_math(with_links(cell.source))}'
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    title = notebook.cells[0].source.splitlines()
    name = next(line for line in title if line.startswith("# ")).removeprefix("# ")
    page.write(site / f"notebooks/{path.stem}.html", name, body, depth=1, kind="notebook")
    goal = re.search(r"\*\*Goal\.?\*\*:?\s*(.+)", notebook.cells[0].source)
    plain = re.sub(r"[*_`]|<[^>]+>", "", goal[1]) if goal else ""
    return Chapter(address=f"notebooks/{path.stem}.html", title=name, goal=html.escape(plain))


def run(notebook: nbformat.NotebookNode) -> None:
    """Execute all cells in an empty folder, with viewers as pieces of a page and one thread."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join(filter(None, [str(ROOT), before.get("PYTHONPATH")]))
        os.environ |= {PAGES: "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        try:
            NotebookClient(
                notebook,
                timeout=900,
                coalesce_streams=True,
                extra_arguments=["--log-level=ERROR"],  # else each warns that it speaks to us unencrypted
                resources={"metadata": {"path": folder}},
            ).execute()
        finally:
            os.environ.clear()
            os.environ.update(before)


def with_links(text: str) -> str:
    """Return Markdown whose citations link to the page of papers."""
    ends = {}
    for start, end, paper, item in citations_in(text):
        ends.setdefault((start, end), (paper.name, item))  # a citation of two items links to the first
    for (start, end), (paper, item) in sorted(ends.items(), reverse=True):
        words, before = text[start:end], text[:start]
        in_code, in_link = before.count("`") % 2, before.rfind("[") > before.rfind("]")
        if in_code or in_link or "[" in words or "]" in words:
            continue
        if words.count("(") > words.count(")") and text[end : end + 1] == ")":  # "Mask R-CNN (section 3)"
            words, end = f"{words})", end + 1
        text = f"{text[:start]}[{words}](../papers.html#{anchor(paper, item)}){text[end:]}"
    return text


def with_math(text: str) -> str:
    """Return Markdown with its LaTeX as MathML, which browsers draw by themselves."""

    def convert(match: re.Match[str]) -> str:
        display = "block" if match["block"] else "inline"
        return latex2mathml.converter.convert((match["block"] or match["line"]).strip(), display=display)

    return _MATH.sub(convert, text)
