"""The house rules that a machine can check: who may import whom, and what is not written here at all.

A module imports only from rows above its own, or from its own folder. When a test fails, move the code to the
row where it belongs, or pass in as an argument what it reached for; widening the table is the last resort.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cascade_lab"

ROWS = (  # top to bottom; a slash marks a folder, the others are single files
    "structures trace errors overrides",
    "kernels/",
    "ops/",  # of these only dcnv3.py, roi_align.py and masks.py know the kernels
    "layers/ targets/ losses",
    "backbones/ necks/ heads/",
    "detector augmented",
    "sampling receptive_field",  # what a detector looks at, picture by picture
    "datasets/ evaluation/ engine/",  # none knows another, nor any model class
    "weights/",  # writes files as engine/checkpoint.py does
    "recipes/",
    "runs fit ledger/",  # the ledger takes a detector apart, and knows no recipe
    "settle",
    "train evaluate predict doctor laboratory/",  # the first three may hand their results to viz
    "viz/",  # draws plain values: knows only the containers and ops
    "widgets/ learn/ claims/",
    "commands/ cli __main__",  # nothing imports these
)
ROW = {name.rstrip("/"): number for number, row in enumerate(ROWS) for name in row.split()}
SINGLE_FILES = {name for row in ROWS for name in row.split() if not name.endswith("/")}
PICKS_KERNELS = {"ops.dcnv3", "ops.roi_align", "ops.masks"}
TOP = {"commands", "cli", "__main__"}
MODELS = {"layers", "backbones", "necks", "heads", "detector", "weights"}
DRAWING = {("train", "viz"), ("evaluate", "viz"), ("predict", "viz")}
BARRED = {
    "viz": set(ROW) - {"structures", "trace", "errors", "ops"},
    **dict.fromkeys(("datasets", "evaluation", "engine"), MODELS),
}


def violations(sources: dict[str, str]) -> list[str]:
    """List the broken rules, one line each, in sources by module name ("ops.boxes", "ops.__init__")."""
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        tree, top = ast.parse(source), module.split(".")[0]
        graph[module] = set()
        if "utils" in module.split("."):
            found.append(f"{module}: no utils here; name the file after the one concept that it holds")
        if top not in ROW and top != "__init__":
            found.append(f"{module} has no row: decide what it may import, then add it to ROWS in this test")
        for line, name in _imports(tree, folder=module.rpartition(".")[0]):
            if name.split(".")[0] == "cupy" and module != "kernels.cupy_backend":
                found.append(f"{module}:{line} imports cupy; only kernels/cupy_backend.py may")
            if name.startswith("cascade_lab."):
                target = _resolve(name.removeprefix("cascade_lab."), sources)
                graph[module].add(target)
                if reason := _forbidden(module, target):
                    found.append(f"{module}:{line} imports {target}: {reason}")
        if top != "kernels":
            found += [
                f"{module}:{node.lineno} catches ImportError: declare the package in pyproject.toml"
                for node in ast.walk(tree)
                if isinstance(node, ast.ExceptHandler) and node.type
                if any(word in ast.unparse(node.type) for word in ("ImportError", "ModuleNotFoundError"))
            ]
    return found + _circles(graph)


def _imports(tree: ast.AST, folder: str) -> Iterator[tuple[int, str]]:
    """Yield (line, full dotted name) of every import, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ["cascade_lab", *filter(None, folder.split("."))]
            base = above[: len(above) + 1 - node.level] if node.level else []
            start = [*base, node.module] if node.module else base
            yield from ((node.lineno, ".".join([*start, alias.name])) for alias in node.names)


def _resolve(name: str, sources: dict[str, str]) -> str:
    """Turn "ops.boxes.area" or "ops" into the module that holds it."""
    parent = name.rpartition(".")[0]
    candidates = (name, f"{name}.__init__", parent, f"{parent}.__init__".lstrip("."))
    return next((candidate for candidate in candidates if candidate in sources), name)


def _forbidden(module: str, target: str) -> str:
    """Return why ``module`` may not import ``target``; empty where it may."""
    here, there = module.split(".")[0], target.split(".")[0]
    if module == "__init__":
        return "`import cascade_lab` alone loads nothing"
    if here == there or here not in ROW or there not in ROW:  # without a row: reported once, by name
        return ""
    if there in TOP:
        return "" if here in TOP else "commands are the roof, nothing rests on them"
    if there == "kernels" and here == "ops" and module not in PICKS_KERNELS:
        return "only ops/dcnv3.py, ops/roi_align.py and ops/masks.py pick a kernel"
    if there in BARRED.get(here, ()):
        return f"{here} does not know {there}; pass in what it needs"
    beside = ROW[here] == ROW[there] and {here, there} <= SINGLE_FILES
    if ROW[there] < ROW[here] or beside or (here, there) in DRAWING:
        return ""
    return f"{there} is not above {here} in ROWS of this test"


def _circles(graph: dict[str, set[str]]) -> list[str]:
    """Walk depth first: to meet a module whose own imports are still being walked closes a circle."""
    found: list[str] = []
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            circle = " -> ".join([*path[path.index(module) :], module])
            found.append(f"{circle} is a circle: move what both need into a file above them")
        elif module not in done:
            for target in sorted(graph.get(module, ())):
                walk(target, [*path, module])
            done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found


def test_cascade_lab_keeps_the_rules():
    sources = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
    }
    assert "structures" in sources, f"found no package in {PACKAGE}"
    found = violations(sources)
    assert not found, "move the code or pass the value in (see the top of this file):\n" + "\n".join(found)


BOXES = {"ops.boxes": "import torch"}


@pytest.mark.parametrize(
    "sources",
    [
        {"__init__": '__version__ = "0"', "cli": "from cascade_lab import __version__"},
        {"ops.__init__": "", "ops.nms": "from . import boxes", **BOXES},
        {"layers.norm": "from cascade_lab.ops.boxes import area", **BOXES},
        {"layers.norm": "from ..ops.boxes import area", **BOXES},
        {"ops.dcnv3": "from cascade_lab.kernels import source", "kernels.source": ""},
        {"train": "import cascade_lab.evaluate, cascade_lab.viz.chart", "evaluate": ""},
        {
            "recipes": "from cascade_lab.datasets.catalog import DataConfig",
            "fit": "import cascade_lab.recipes",
        },
        {"commands.report": "from cascade_lab.viz import chart", "cli": "import cascade_lab.commands.report"},
        {"kernels.cupy_backend": "def call():\n    import cupy"},
        {"kernels.source": "try:\n    import x\nexcept ImportError:\n    pass"},
        {"doctor": "try:\n    pass\nexcept OSError:\n    pass"},
    ],
)
def test_checker_accepts(sources: dict[str, str]):
    assert violations(sources) == []


@pytest.mark.parametrize(
    "message, sources",
    [
        ("has no row", {"helpers": ""}),
        ("no utils here", {"ops.utils": ""}),
        ("loads nothing", {"__init__": "from cascade_lab.ops import boxes"}),
        ("heads is not above ops", {"ops.boxes": "from cascade_lab.heads.rpn import anchors"}),
        ("layers is not above losses", {"losses": "from cascade_lab.layers import norm"}),
        ("necks is not above heads", {"heads.rpn": "def f():\n    from ..necks.fpn import FPN"}),
        ("only ops/dcnv3.py, ops/roi", {"ops.boxes": "import cascade_lab.kernels.source"}),
        ("ops is not above kernels", {"kernels.source": "import cascade_lab.ops.boxes"}),
        ("evaluation is not above engine", {"engine.schedule": "from cascade_lab.evaluation import coco"}),
        ("engine does not know detector", {"engine.optim": "from cascade_lab.detector import Detector"}),
        ("viz does not know datasets", {"viz.chart": "import cascade_lab.datasets.coco"}),
        ("viz is not above recipes", {"recipes": "from cascade_lab.viz import chart"}),
        ("viz is not above doctor", {"doctor": "from cascade_lab.viz import chart"}),
        ("commands are the roof", {"train": "from cascade_lab.commands.report import write"}),
        ("ops.a -> ops.b -> ops.a is a circle", {"ops.a": "from . import b", "ops.b": "from .a import x"}),
        ("is a circle", {"train": "import cascade_lab.evaluate", "evaluate": "import cascade_lab.train"}),
        ("imports cupy", {"ops.dcnv3": "def call():\n    from cupy.cuda import Stream"}),
        ("catches ImportError", {"doctor": "try:\n    import x\nexcept (OSError, ImportError):\n    pass"}),
        ("catches ImportError", {"cli": "try:\n    import x\nexcept ModuleNotFoundError:\n    pass"}),
    ],
)
def test_checker_finds(message: str, sources: dict[str, str]):
    found = violations(sources)
    assert len(found) == 1, found
    assert message in found[0]
