"""The view command: a viewer of one's own run, as a page or as a stored trace."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade_lab.commands import view as command
from cascade_lab.datasets.shapes import ShapesConfig, write_shapes
from cascade_lab.errors import InputError
from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.recipes import nano
from cascade_lab.runs import Run
from cascade_lab.widgets.stored_trace import load_views
from tests.fake_detector import FakeDetector


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run over two small pictures, whose fake detector answers with the true boxes, one pixel off."""
    root = tmp_path / "shapes"
    write_shapes(root, ShapesConfig(), seed=3, train=1, val=2)
    recipe = replace(nano(), data=replace(nano().data, root=str(root)))
    dataset = command.load_dataset(recipe.data, "val", training=False)
    detector = FakeDetector({dataset.sizes[0]: dataset.targets(1)}, num_classes=4)
    return Run(tmp_path, recipe, dataset.classes, tuple(dataset.category_ids), detector, step=12)  # type: ignore[arg-type]


def test_trace_of_the_fullest_validation_picture(run, tmp_path, monkeypatch, capsys):
    dataset = command.load_dataset(run.recipe.data, "val", training=False)
    assert len(dataset.targets(1)) > len(dataset.targets(0))  # with seed 3
    monkeypatch.setattr(command, "load_run", lambda path: run)
    assert command.main(["RUN", "--output", str(tmp_path / "t.npz"), "--pictures", "1"]) == 0
    (view,) = load_views(tmp_path / "t.npz")
    assert view.name == "000001" and view.source == "recipe nano, 12 training steps, seed 0"
    assert view.stages == 3
    assert torch.equal(torch.tensor(view.targets), dataset.targets(1).boxes)
    final = torch.tensor(np.asarray(view.boxes))[-1]
    assert (pairwise_iou(final, dataset.targets(1).boxes).max(1).values > 0.8).all()
    assert "1 picture ->" in capsys.readouterr().out


def test_page_of_own_pictures(run, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "load_run", lambda path: run)
    image = str(tmp_path / "shapes/images/val/000000.png")
    assert command.main(["RUN", image, "--output", str(tmp_path / "new" / "v.html")]) == 0
    page = (tmp_path / "new" / "v.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>") and "000000" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "a.html"], "name the run folder first"),
        (["RUN", "--output", "a.pdf"], "must end in .html or .npz"),
        (["RUN", "--output", "a.html", "--most", "0"], "--most: 0 must be 1 or more"),
        (["RUN", "missing.png", "--output", "a.html"], "missing.png"),
        (["RUN", "--output", "a.html"], "RUN: no such run folder"),
    ],
)
def test_bad_options(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        command.main(words)
    assert not list(tmp_path.iterdir())
