"""Sources, papers and chapters link to each other, both ways."""

import html.parser
from pathlib import Path

import nbformat
import pytest

from cascade_lab.commands.docs import __main__ as docs
from cascade_lab.commands.docs import notebooks
from cascade_lab.learn.papers import CASCADE_RCNN

ROOT = Path(__file__).parents[2]


class Page(html.parser.HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        self.links += [values[name] for name in ("href", "src") if values.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Build the site with one short notebook of our own."""
    folder = tmp_path_factory.mktemp("docs")
    cells = [
        nbformat.v4.new_markdown_cell(
            "# A title\n\n**Goal.** To *see* it.\n\nAs eq. 7 of Cascade R-CNN: $a_b$."
        ),
        nbformat.v4.new_code_cell(
            "from cascade_lab.widgets.cascade_viewer import CascadeViewer\n"
            "from cascade_lab.widgets.stored_trace import first_trace\n"
            "CascadeViewer(first_trace())"
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "00_short.ipynb")
    docs.build(folder / "site", [folder / "00_short.ipynb"])
    return folder / "site"


@pytest.mark.slow
def test_every_link_leads_somewhere_in_the_site(site: Path):
    pages = {path: Page(path) for path in site.rglob("*.html") if "api" not in path.relative_to(site).parts}
    assert len(pages) > 150
    lost = []
    for path, page in pages.items():
        for link in page.links:
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            if target not in pages:
                # notebooks that were not built for this test, and the reference
                known = target.exists() or target.with_suffix(".ipynb").name in CHAPTERS
                lost += [] if known and not link.startswith("http") else [(path.name, link)]
            elif anchor and anchor not in pages[target].ids:
                lost.append((path.name, link))
    assert not lost


CHAPTERS = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}


@pytest.mark.slow
def test_an_equation_links_to_its_line_and_back(site: Path):
    papers = (site / "papers.html").read_text(encoding="utf-8")
    line = next(
        number
        for number, text in enumerate((ROOT / "cascade_lab/heads/cascade.py").read_text().splitlines(), 1)
        if "Cascade R-CNN, eq. 7" in text
    )
    assert f'href="sources/cascade_lab/heads/cascade.py.html#line-{line}"' in papers
    source = Page(site / "sources/cascade_lab/heads/cascade.py.html")
    assert "../../../papers.html#cascade-r-cnn-eq-7" in source.links and f"line-{line}" in source.ids
    assert all(f'id="cascade-r-cnn-{i}"' in papers for i in ("eq-7", "figure-4"))
    assert papers.count("<tr id=") >= len(CASCADE_RCNN.items)


@pytest.mark.slow
def test_a_chapter_has_links_mathematics_and_a_viewer(site: Path):
    text = (site / "notebooks/00_short.html").read_text(encoding="utf-8")
    assert '<a href="../papers.html#cascade-r-cnn-eq-7">eq. 7 of Cascade R-CNN</a>' in text
    assert "<msub><mi>a</mi><mi>b</mi></msub>" in text
    assert text.count('<script type="module">') == 1 and "render({ model, el" in text
    assert not [link for link in Page(site / "notebooks/00_short.html").links if "://" in link]
    assert (
        '<a href="notebooks/00_short.html">A title</a><p>To see it.</p>' in (site / "index.html").read_text()
    )


def test_code_and_dollars_are_left_alone():
    assert notebooks.with_math("it costs 5$ or 6$") == "it costs 5$ or 6$"
    assert notebooks.with_math("see $$x^2$$").count("<math") == 1
    assert notebooks.with_links("see `Cascade R-CNN, eq. 7`") == "see `Cascade R-CNN, eq. 7`"


@pytest.mark.parametrize("part", ["", " a", "c", " (b)", "(b)"])
def test_a_link_takes_both_brackets_or_none(part):
    linked = f"[Cascade R-CNN, figure 3{part}](../papers.html#cascade-r-cnn-figure-3)"
    assert notebooks.with_links(f"(Cascade R-CNN, figure 3{part})") == f"({linked})"
    linked = f"[Cascade R-CNN (figure 3{part})](../papers.html#cascade-r-cnn-figure-3)"
    assert notebooks.with_links(f"Cascade R-CNN (figure 3{part}) shows") == f"{linked} shows"
    linked = f"[figure 3{part} of Cascade R-CNN](../papers.html#cascade-r-cnn-figure-3)"
    assert notebooks.with_links(f"(figure 3{part} of Cascade R-CNN)") == f"({linked})"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "99_none"], "option --only: there is no notebook '99_none'"),
        (["--output", "here"], "here is there and not a site"),
    ],
)
def test_refuses(arguments, message, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(docs.InputError, match=message):
        docs.main(arguments)
