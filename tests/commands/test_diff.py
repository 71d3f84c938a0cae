"""``cascade-lab diff``: the differing fields, and only those, side by side."""

import json

import pytest

from cascade_lab import cli
from cascade_lab.commands import diff as command
from cascade_lab.recipes import diff, recipe

A, B = "mask_rcnn_internimage_t_fpn_1x_coco", "cascade_internimage_xl_fpn_3x_coco"


def printed(capsys, *arguments: str) -> list[str]:
    assert command.main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def test_every_differing_field_and_no_other_has_a_line(capsys):
    lines = printed(capsys, A, B)
    fields, group = set(), ""
    for line in lines[4:]:
        if line.startswith("  ") and not line.startswith("   "):
            fields.add(f"{group}.{line.split()[0]}" if group else line.split()[0])
        elif line and not line.startswith(" "):
            group = line
    assert fields == set(diff(recipe(A), recipe(B))) - {"name"}


def test_values_stand_side_by_side(capsys):
    lines = printed(capsys, A, B)
    assert lines[:2] == [f"A: {A}", f"B: {B}"]
    rows = [line.split() for line in lines]
    assert ["channels", "64", "192"] in rows
    assert ["post_norm", "False", "True"] in rows
    assert ["ema", "None", "0.0001"] in rows  # None is a value ...
    assert ["iou", "-", "0.7"] in rows  # ... and "-" a field that is not there
    start = next(line.index("192") for line in lines if "channels " in line)
    assert all(line[start - 1] == " " for line in lines[4:] if line.startswith("  "))


@pytest.mark.parametrize("width", [60, 80, 160])
def test_fits_the_terminal(capsys, monkeypatch, width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, printed(capsys, A, B))) <= width


def test_json_is_the_difference(capsys):
    told = json.loads("\n".join(printed(capsys, "nano", "micro", "--json")))
    assert {name: tuple(values) for name, values in told.items()} == diff(recipe("nano"), recipe("micro"))


def test_a_recipe_does_not_differ_from_itself(capsys):
    assert printed(capsys, "nano", "nano") == ["nano and nano are the same in every field"]


@pytest.mark.parametrize(
    "line, named",
    [
        ("diff nano", "expected the names of two recipes, got 1: nano"),
        ("diff nano micro nano", "expected the names of two recipes, got 3"),
        ("diff --json", "expected the names of two recipes, got 0"),
        ("diff nano mikro", "recipe 'mikro' does not exist; there is micro"),
        ("diff nano micro --jsno", "--jsno: no such option"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, line: str, named: str):
    assert cli.main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert named in err
