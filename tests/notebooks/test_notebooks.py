"""Every notebook runs offline from start to end in the time that it states, and keeps the house rules."""

import ast
import os
import re
import shutil
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BANNED = {
    "interact",
    "interactive",
    "interactive_output",
    "Output",
}  # half a second a step, and they hang runners
MOST_LINES = 15
QUICK = ("00", "01")  # these run in `make test`; together all of them take minutes
TOGETHER = 12 * 60  # seconds

all_of_them = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
executed = pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.stem[:2] in QUICK else pytest.mark.slow, id=path.stem)
        for path in NOTEBOOKS
    ],
)


def code_cells(path: Path) -> list[str]:
    """Return the sources of the code cells without magics, which are no Python."""
    cells = nbformat.read(path, as_version=4).cells
    return [re.sub(r"^%.*$", "", cell.source, flags=re.M) for cell in cells if cell.cell_type == "code"]


def nodes(path: Path) -> list[ast.AST]:
    return [node for source in code_cells(path) for node in ast.walk(ast.parse(source))]


def checks(path: Path) -> int:
    """Count the exercises that a notebook hands in."""
    return sum(len(re.findall(r"^check[.(]", source, flags=re.M)) for source in code_cells(path))


def run(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a copy of a notebook in a folder, in its stated time, and return all that it printed."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        (folder / name).mkdir()
        monkeypatch.setenv(name, str(folder / name))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("CASCADE_LAB_CACHE", str(folder))  # a developer's own record stays out of it
    copy = Path(shutil.copy(path, folder))
    notebook = nbformat.read(copy, as_version=4)
    stated = notebook.metadata["cascade_lab"]["seconds"]
    begin = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=3 * stated,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    taken = time.perf_counter() - begin
    print(f"\n{path.stem}: {taken:.0f} s, states {stated} s")
    # A hanging cell can pass for an executed one (jupyter/nbclient#312), so the clock is asked too.
    assert taken <= 3 * stated, f"took {taken:.1f} s, the notebook states {stated} s"
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "not every cell ran"
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


@executed
def test_runs_in_the_stated_time(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CASCADE_LAB_SOLUTIONS", raising=False)
    printed = run(path, tmp_path, monkeypatch)
    assert printed.count("not attempted yet") == checks(path)
    assert not (tmp_path / "cascade_lab" / "exercises.json").exists()


@executed
def test_every_exercise_can_be_solved(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not checks(path):
        pytest.skip("it has no exercises, and runs above")
    monkeypatch.setenv("CASCADE_LAB_SOLUTIONS", "1")
    printed = run(path, tmp_path, monkeypatch)
    assert len(re.findall(r"right, all \d+ cases pass", printed)) == checks(path)


def test_all_of_them_fit_into_twelve_minutes():
    seconds = [nbformat.read(path, as_version=4).metadata["cascade_lab"]["seconds"] for path in NOTEBOOKS]
    assert sum(seconds) <= TOGETHER
    assert all(each <= 90 for each, path in zip(seconds, NOTEBOOKS, strict=True) if path.stem[:2] != "09")


@all_of_them
def test_stores_no_outputs(path: Path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, "strip it: nbstripout " + path.name


@all_of_them
def test_what_it_takes_from_the_library_is_there(path: Path):
    """Names that it imports and lines that it reveals: told here in a second, not after minutes."""
    library = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "cascade_lab").rglob("*.py"))
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cascade_lab"):
            exec(ast.unparse(node), {})
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reveal":
            for line in (keyword.value.value for keyword in node.keywords if keyword.arg == "around"):
                assert line in library


@all_of_them
def test_is_small_and_names_the_plain_kernel(path: Path):
    assert path.stat().st_size < 1_000_000
    metadata = nbformat.read(path, as_version=4).metadata
    assert metadata["kernelspec"]["name"] == "python3"
    assert "widgets" not in metadata


@all_of_them
def test_defines_nothing_but_answers(path: Path):
    """A function stands only in a cell tagged "exercise", blank, and is handed in by the same cell."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(re.sub(r"^%.*$", "", cell.source, flags=re.M))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.AsyncFunctionDef)]
        defined = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        if "exercise" not in cell.metadata.get("tags", []):
            assert not defined, f"{[node.name for node in defined]} belongs into the library"
            continue
        (answer,) = defined
        assert answer.name.startswith("my_") and [ast.unparse(line) for line in answer.body] == ["return ..."]
        assert cell.source.rstrip().endswith(f"check.{answer.name.removeprefix('my_')}({answer.name})")


@all_of_them
def test_uses_no_banned_widget(path: Path):
    names = {n.id for n in nodes(path) if isinstance(n, ast.Name)}
    names |= {n.attr for n in nodes(path) if isinstance(n, ast.Attribute)}
    names |= {alias.name for n in nodes(path) if isinstance(n, ast.ImportFrom) for alias in n.names}
    assert not names & BANNED


@all_of_them
def test_fetches_nothing(path: Path):
    for source in code_cells(path):
        assert not re.search(r"https?://|urllib|requests|!\s*(wget|curl|pip)", source)
    text = "".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    assert not re.search(r"!\[[^\]]*\]\(https?:|<img[^>]+https?:", text), "a picture from the network"


@all_of_them
def test_cells_are_short(path: Path):
    for source in code_cells(path):
        assert len(source.splitlines()) < MOST_LINES


@all_of_them
def test_mentioned_files_exist(path: Path):
    text = "".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    missing = {name for name in re.findall(r"`(cascade_lab/[\w/.]+)`", text) if not (ROOT / name).exists()}
    assert not missing
