"""Every citation of a paper in code and notebooks resolves, and none leaves open which paper is meant."""

from pathlib import Path

import pytest

from cascade_lab.learn.citations import all_citations, citations_in, loose_mentions, texts
from cascade_lab.learn.papers import CASCADE_RCNN, INTERNIMAGE, PAPERS

ROOT = Path(__file__).parents[2]
KNOWN = {paper.name: paper for paper in PAPERS}


def test_every_citation_is_of_an_item_that_is_known():
    unknown = [one for one in all_citations(ROOT) if one.item not in KNOWN[one.paper].items]
    assert not unknown, "correct the number, or add the item with a few words to learn/papers.py"


def test_every_citation_stands_on_its_line():
    for one in all_citations(ROOT):
        if one.cell is None:
            line = (ROOT / one.path).read_text(encoding="utf-8").splitlines()[one.line - 1]
            assert any(word in line for word in (*one.paper.split(), "eq", "figure", "table", "section"))


def test_no_equation_without_its_paper():
    loose = {(path, cell): found for path, cell, text in texts(ROOT) if (found := loose_mentions(text))}
    assert not loose, 'write "Cascade R-CNN, eq. 7" or "eq. 7 of Cascade R-CNN"'


@pytest.mark.parametrize(
    ("paper", "items"),
    [
        (CASCADE_RCNN, ["eq. 2", "eq. 5", "eq. 7", "eq. 8", "figure 2", "figure 3", "figure 4", "table 2"]),
        (INTERNIMAGE, ["eq. 2", "figure 3", "table 1", "table 5"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_the_library_implements_is_cited_in_code(paper, items):
    cited = {one.item for one in all_citations(ROOT) if one.paper == paper.name and one.cell is None}
    assert set(items) <= cited


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(Cascade R-CNN, eq. 7)", [("Cascade R-CNN", "eq. 7")]),
        ("Source: Girshick et al. 2014, R-CNN, appendix C; more", [("R-CNN", "appendix C")]),
        ('He et al. 2017, "Mask R-CNN", section 3; ', [("Mask R-CNN", "section 3")]),
        ('"Feature Pyramid Networks", section 3 and figure 3.', [("FPN", "section 3"), ("FPN", "figure 3")]),
        ('"Soft-NMS", figure 2, equations 2 and 3.',
         [("Soft-NMS", "figure 2"), ("Soft-NMS", "eq. 2"), ("Soft-NMS", "eq. 3")]),
        ("Cascade R-CNN,\n// figure 3 d,", [("Cascade R-CNN", "figure 3")]),
        ("as figure 1c of the Cascade R-CNN paper", [("Cascade R-CNN", "figure 1")]),
        ("section 3.1.1 of *Faster R-CNN*", [("Faster R-CNN", "section 3.1.1")]),
        ("figure 4 of the paper", []),
    ],
)  # fmt: skip
def test_reads(text, expected):
    assert [(paper.name, item) for _, _, paper, item in citations_in(text)] == expected


def test_finds_what_names_no_paper():
    assert loose_mentions("figure 4 of the paper; Cascade R-CNN, figure 4") == ["figure 4"]
