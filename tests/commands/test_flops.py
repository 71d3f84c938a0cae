"""``cascade-lab flops``: published figures in the table, JSON that adds up, mistakes in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cascade_lab import cli
from cascade_lab.commands import flops
from cascade_lab.commands.flops import FlopsOptions
from cascade_lab.commands.flops_text import as_text, grouped
from cascade_lab.errors import InputError
from cascade_lab.ledger.costs import add, ledger
from tests.tiny_detector import SIZE, config, stages


def test_published_figures(capsys):
    """277M and 1399G are what the InternImage paper prints for its L model with Cascade Mask R-CNN."""
    assert flops.main(["cascade_internimage_l_fpn_1x_coco"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "cascade_internimage_l_fpn_1x_coco, one picture of 800 x 1280"
    (total,) = (line.split() for line in lines if line.startswith("total"))
    assert (round(float(total[1])), round(float(total[2]))) == (277, 1399)
    assert total[-1] == "-"  # time was not measured
    assert max(map(len, lines)) <= 100
    for label in ("backbone", "  stem", "  level 3", "FPN", "RPN", "stage 3", "  mask head"):
        assert any(line.startswith(f"{label} ") for line in lines), label


def test_json_adds_up(capsys):
    assert flops.main(["nano", "--size", "64x96", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["size"] == [64, 96] and found["recipe"] == "nano"
    for key in ("parameters", "official", "full", "kept_bytes", "kept_bytes_checkpointed"):
        assert sum(part[key] for part in found["parts"]) == found["total"][key] > 0
        assert sum(group[key] for group in found["groups"]) == found["total"][key]
    assert found["total"]["seconds"] is None
    official = found["official"]
    modules = sum(row["flops"] for row in official["modules"])
    assert modules == official["counter_flops_without_dcnv3_term"] == sum(official["parts"].values())
    assert modules == sum(sum(kinds.values()) for kinds in official["by_part_and_layer_type"].values())
    assert modules + official["dcnv3_term"] == official["total_flops"] == found["total"]["official"]
    assert sum(official["dcnv3_term_per_level"]) == official["dcnv3_term"]
    assert sum(found["full_by_kind"].values()) == found["total"]["full"]


def test_any_field_of_the_recipe_can_be_changed(capsys):
    def parameters(*options):
        flops.main(["nano", "--size", "64x64", "--json", *options])
        return json.loads(capsys.readouterr().out)["total"]["parameters"]

    # One class more: a logit and 4 deltas of 64 inputs and a bias in 3 box heads, a map in 3 mask heads.
    more = parameters("--detector.num_classes", "5") - parameters()
    assert more == 3 * (5 * (64 + 1) + (32 + 1))


def test_time_is_measured_when_asked(capsys, tmp_path):
    figure = tmp_path / "costs.png"
    assert flops.main(["nano", "--size", "64x64", "--time", "--figure", str(figure)]) == 0
    out, err = capsys.readouterr()
    assert "about" in err and "GiB of memory" in err
    (total,) = (line for line in out.splitlines() if line.startswith("total"))
    assert total.endswith("100.0 %")
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_stages_are_summed_and_one_part_stands_alone():
    own = ledger(config(replace(stages(3), mask_stages=(2,))), SIZE)
    groups = grouped(own.parts)
    assert list(groups) == ["backbone", "FPN", "RPN", "stage 1", "stage 2", "stage 3"]
    assert [len(members) for members in groups.values()] == [5, 1, 1, 1, 1, 2]
    lines = as_text(own, "tiny").splitlines()
    assert len([line for line in lines if line.startswith("stage ")]) == 3
    assert len([line for line in lines if line.startswith("  ") and "head" in line]) == 2
    assert add("stage 3", groups["stage 3"]).full == sum(part.full for part in groups["stage 3"])


@pytest.mark.parametrize(
    "line, named",
    [
        ("cascade_internimage_xx_fpn_1x_coco", "recipe 'cascade_internimage_xx_fpn_1x_coco' does not exist"),
        ("nano --size 800", "--size: '800' must be HEIGHTxWIDTH, such as 800x1280"),
        ("nano --size 800x1280x3", "must be HEIGHTxWIDTH"),
        ("nano --size 800x1270", "--size: 1270 in '800x1270' is no multiple of 32; take 1280"),
        ("nano --size 800x3", "take 64"),
        ("nano --size 32x64", "--size: 32 in '32x64' must be from 64 to 8192"),
        ("nano --size 0x64", "must be from 64 to 8192"),
        ("nano --size 64x9999968", "must be from 64 to 8192"),
        ("nano --figure costs.txt", "--figure: 'costs.txt' must end in .png or .svg"),
        ("nano --figure nowhere/costs.png", "--figure: nowhere: no such folder"),
        ("nano --sise 64x64", "--sise: no such option; nearest: --size"),
        ("nano --detector.backbone.channels 33", "33 channels cannot be split"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, line, named):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["flops", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("cascade-lab flops: ")
    assert named in err
    assert not list(tmp_path.iterdir())


def test_a_figure_that_cannot_be_written(tmp_path):
    (tmp_path / "costs.png").mkdir()
    with pytest.raises(InputError, match=r"costs\.png: cannot be written"):
        flops.main(["nano", "--size", "64x64", "--figure", str(tmp_path / "costs.png")])


def test_help(capsys):
    assert flops.main([]) == flops.main(["--help"]) == 0
    assert "--size HxW" in capsys.readouterr().out
    assert flops.main(["nano", "--help"]) == 0
    assert "--detector.num_classes" in capsys.readouterr().out
    assert FlopsOptions(size="64x96").pixels == (64, 96)
