"""Where the code and the notebooks cite a paper: "Cascade R-CNN, eq. 7" or "figure 4 of Cascade R-CNN"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cascade_lab.learn.papers import PAPERS, Paper

_NOT = ("papers.py", "citations.py")  # speak of citations rather than cite
_BY_NAME = {name: paper for paper in PAPERS for name in (paper.name, *paper.also)}
_NAME = "|".join(re.escape(name) for name in sorted(_BY_NAME, key=len, reverse=True)).replace(r"\ ", r"\s+")
_WORDS = {"equation": "eq.", "equations": "eq.", "eqs.": "eq.", "figures": "figure", "tables": "table"}
_KIND = r"(?i:eqs?\.|equations?|figures?|tables?|section|appendix)"
_NUMBER = r"\d+(?:\.\d+)*|[A-Z](?:\.\d+)?"
_PART = (
    r"(?:\s?(?:\([a-d]\)|[a-d]))?"  # of a figure; a bracket that closes but did not open is the sentence's
)
_ITEM = rf"(?:{_KIND})\s+(?:{_NUMBER}){_PART}(?![\w])"
# Between the lines of a comment or a docstring stand their marks; "equations 2 and 3" repeats no word.
_GAP = r"(?:\s|\n\s*(?://|\#))+"
_MORE = rf"(?:,?{_GAP}(?:and{_GAP})?(?:{_ITEM}|(?<=and )(?:{_NUMBER})(?!\w)))*"
_AFTER = re.compile(
    rf"(?<![\w-])(?P<paper>{_NAME})[\"”]?(?:\s+\([^)]*\))?(?:,|\s+\()(?:\s|//|\#)*(?P<items>{_ITEM}{_MORE})"
)
_BEFORE = re.compile(
    rf"(?P<items>(?<![\w]){_ITEM}{_MORE}){_GAP}(?:of|in){_GAP}(?:the{_GAP})?[\"“*\[]?(?P<paper>{_NAME})(?![\w-])"
)
_LOOSE = re.compile(r"(?<!\w)(?i:eqs?\.|equations?|figures?|tables?)\s+\d+")
_ONE = re.compile(rf"(?P<kind>{_KIND})?\s*(?P<number>{_NUMBER}){_PART}(?!\w)")


@dataclass(frozen=True, order=True)
class Citation:
    """One place that cites one item: path from the root with "/", line from 1, cell of a notebook from 0."""

    path: str
    line: int
    paper: str
    item: str
    cell: int | None = None


def citations_in(text: str) -> Iterator[tuple[int, int, Paper, str]]:
    """Yield (start, end, paper, item) of everything that a text cites, in order; items as "eq. 7"."""
    found = [*_AFTER.finditer(text), *_BEFORE.finditer(text)]
    for match in sorted(found, key=lambda match: match.start()):
        paper = _BY_NAME[re.sub(r"\s+", " ", match["paper"])]
        kind = ""
        for one in _ONE.finditer(match["items"]):
            word = (one["kind"] or kind).lower()
            kind = _WORDS.get(word, word)
            yield match.start(), match.end(), paper, f"{kind} {one['number']}"


def loose_mentions(text: str) -> list[str]:
    """Return the mentions of an equation, figure or table that do not say of which paper."""
    covered = [(start, end) for start, end, _, _ in citations_in(text)]
    return [
        match.group()
        for match in _LOOSE.finditer(text)
        if not any(start <= match.start() < end for start, end in covered)
    ]


def texts(root: Path) -> Iterator[tuple[str, int | None, str]]:
    """Yield (path, cell, text) of everything that may cite: Python and CUDA files, cells of notebooks."""
    for pattern in ("cascade_lab/**/*.py", "cuda_src/**/*"):
        for path in sorted(root.glob(pattern)):
            if path.is_file() and path.name not in _NOT and path.suffix in (".py", ".cu", ".cuh", ".h"):
                yield path.relative_to(root).as_posix(), None, path.read_text(encoding="utf-8")
    for path in sorted(root.glob("notebooks/*.ipynb")):
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            if cell["cell_type"] == "markdown":
                yield path.relative_to(root).as_posix(), number, "".join(cell["source"])


def all_citations(root: Path) -> list[Citation]:
    """Return every citation in a checkout, those of one line and item once."""
    return sorted({
        Citation(path, text.count("\n", 0, start) + 1, paper.name, item, cell)
        for path, cell, text in texts(root)
        for start, _, paper, item in citations_in(text)
    })  # fmt: skip
