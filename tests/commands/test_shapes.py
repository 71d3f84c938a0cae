"""``cascade-lab shapes``: the folder, the second call, the knobs."""

import json

import pytest

from cascade_lab.commands import shapes
from cascade_lab.datasets.shapes import LEVELS
from cascade_lab.errors import InputError


def test_writes_once_and_then_says_so(tmp_path, capsys):
    arguments = ["--root", str(tmp_path / "set"), "--train", "3", "--val", "2"]
    assert shapes.main(arguments) == 0
    assert "3 pictures to train on and 2 to validate, written" in capsys.readouterr().out
    annotations = json.loads((tmp_path / "set/annotations/instances_train.json").read_text())
    assert len(annotations["images"]) == 3
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert shapes.main(arguments) == 0
    assert "there already" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_knob_turns_the_level_that_was_chosen(monkeypatch):
    seen = []
    monkeypatch.setattr(shapes, "write_shapes", lambda root, config, *_: seen.append(config))
    shapes.main(["--level", "hard", "--shapes.noise", "1"])
    assert seen[0].noise == 1.0
    assert seen[0].radius == LEVELS["hard"].radius


@pytest.mark.parametrize(
    "line, named",
    [
        ("--level harder", "--level: 'harder' does not exist; there is easy, moderate, hard"),
        ("--train 0", "--train: 0 must be 1 or more"),
        ("--nois 3", "--nois: no such option; nearest: --shapes.noise"),
        ("--shapes.noise -1", "shapes.noise is -1"),
    ],
)
def test_refuses_in_one_line(line, named):
    with pytest.raises(InputError, match=named):
        shapes.main(line.split())


def test_help_lists_every_knob(capsys):
    assert shapes.main(["--help"]) == 0
    assert "--shapes.max_overlap" in capsys.readouterr().out
