"""Build the documentation of a checkout as files that a browser opens without a server or a network.

python -m cascade_lab.commands.docs --output site
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pdoc
import pdoc.render
from tqdm import tqdm

from cascade_lab.commands.docs import index, notebooks, page, sources
from cascade_lab.commands.docs.notebooks import ROOT
from cascade_lab.errors import InputError
from cascade_lab.learn.citations import all_citations
from cascade_lab.overrides import override


@dataclass(frozen=True, kw_only=True)
class DocsOptions:
    """Where the site goes, and which notebooks are run for it (all of them where none is named)."""

    output: str = "site"
    only: tuple[str, ...] = ()


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    (options,) = override((DocsOptions(),), arguments)
    output = Path(options.output)
    chapters = sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not chapters:
        raise InputError(f"{ROOT}/notebooks: no notebooks; the site is built from a checkout, not a wheel")
    chosen = [path for path in chapters if not options.only or path.stem in options.only]
    if unknown := set(options.only) - {path.stem for path in chapters}:
        raise InputError(f"option --only: there is no notebook {unknown.pop()!r}")
    if output.exists() and not (output / page.MARK).exists():
        raise InputError(f"option --output: {output} is there and not a site; name another folder")
    build(output, chosen)
    print(f"{len(chosen)} notebooks -> open {output.resolve()}/index.html in a browser")
    return 0


def build(output: Path, chapters: Sequence[Path]) -> None:
    """Write the site; it appears whole or not at all."""
    work = output.with_name(f".{output.name}-new")
    shutil.rmtree(work, ignore_errors=True)
    (work / "notebooks").mkdir(parents=True)
    try:
        page.write_styles(work)
        citations = all_citations(ROOT)
        sources.write(ROOT, work, citations)
        index.write_papers(work, citations)
        made = []
        for path in tqdm(chapters, desc="notebooks", unit="notebook", disable=None):
            made.append(notebooks.write(path, work))
        index.write_start(work, made)
        pdoc.render.configure(show_source=False, footer_text="cascade_lab")
        pdoc.pdoc("cascade_lab", "!cascade_lab.__main__", output_directory=work / "api")
        shutil.rmtree(output, ignore_errors=True)
        work.rename(output)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print(f"docs: {error}", file=sys.stderr)
        sys.exit(2)
