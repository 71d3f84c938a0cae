"""``cascade-lab show``: every field is there, changes are marked, derived values are right."""

import json
from dataclasses import replace

import pytest
import torch

from cascade_lab import cli
from cascade_lab.commands import show
from cascade_lab.commands.derived import derived, published
from cascade_lab.detector import Detector
from cascade_lab.recipes import RECIPES, flatten, from_dict, nano, recipe
from cascade_lab.recipes.zoo import FIGURES


def printed(capsys, *arguments: str) -> str:
    assert show.main(arguments) == 0
    return capsys.readouterr().out


def group(text: str, name: str) -> dict[str, str]:
    """Return the fields of one group: name -> what is printed."""
    lines = text.splitlines()
    start = lines.index(name) + 1
    end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return dict(line.strip().split("  ", 1) for line in lines[start:end])


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_stands_in_its_group(capsys, name: str):
    text = printed(capsys, name)
    for field, value in flatten(recipe(name)).items():
        head, _, last = field.rpartition(".")
        stage = int(head.rpartition(".")[2]) if head[-1:].isdigit() else None
        shown = group(text, head.rpartition(".")[0] if stage is not None else head)[last] if head else ""
        if stage is not None:
            shown = [cell for cell in shown.split("  ") if cell][stage]
        if head:
            assert shown.split() == show.written(value).split(), field
    assert f"name         {name}" in text


def test_what_the_command_line_changed_is_marked(capsys):
    arguments = ("--optim.lr", "0.5", "--schedule.epochs", "3", "--detector.cascade.stages.1.iou", "0.65")
    text = printed(capsys, "nano", *arguments)
    assert group(text, "optim")["lr"].strip() == "0.5*"
    assert group(text, "schedule")["steps"].strip() == "None*"  # one length takes the place of another
    assert group(text, "detector.cascade.stages")["iou"].split() == ["0.5", "0.65*", "0.7"]
    before = group(text, "* changed; nano itself has")
    assert {name: value.strip() for name, value in before.items()} == {
        "detector.cascade.stages.1.iou": "0.6",
        "optim.lr": "0.0015",
        "schedule.steps": str(nano().schedule.steps),
        "schedule.epochs": "None",
    }
    assert text.count("*") == 5  # four fields and the heading
    assert "*" not in printed(capsys, "nano")


def test_json_rebuilds_the_recipe(capsys):
    told = json.loads(printed(capsys, "micro", "--json", "--seed", "7"))
    assert from_dict(told["recipe"]) == replace(recipe("micro"), seed=7)
    assert told["derived"]["parameters"] == sum(told["derived"][f"parameters_of_{p}"] for p in PARTS)


PARTS = ("backbone", "neck", "rpn", "cascade")


def test_parameters_are_those_of_a_real_detector():
    real = Detector(nano().detector)
    found = derived(nano())
    assert found["parameters"] == sum(p.numel() for p in real.parameters())
    assert found["parameters_of_rpn"] == sum(p.numel() for p in real.rpn.parameters())
    assert next(real.parameters()).device == torch.device("cpu")


def test_derived_values_by_hand():
    found = derived(recipe("cascade_internimage_l_fpn_1x_coco"))
    assert found["steps_per_epoch"] == 7330  # 117,266 / 16 = 7329.1
    assert found["total_steps"] == 12 * 7330
    assert found["lr_drops_at_steps"] == [8 * 7330, 11 * 7330]
    assert found["layers_of_lr_decay"] == 5 + 5 + 22 + 5
    assert found["lr_of_stem"] == pytest.approx(1e-4 * 0.94**38)
    assert found["anchor_sides"] == [32, 64, 128, 256, 512]


def test_epochs_of_pictures_in_any_order_run_into_each_other():
    chosen = recipe("cascade_internimage_l_fpn_1x_coco")
    found = derived(replace(chosen, data=replace(chosen.data, group_by_aspect=False)))
    assert found["total_steps"] == 87_950  # 12 * 117,266 / 16 = 87,949.5


def test_what_is_not_known_is_not_said():
    found = derived(nano())
    assert found["total_steps"] == nano().schedule.steps and "steps_per_epoch" not in found
    assert "lr_drops_at_steps" not in found  # a cosine has no drops
    assert published(nano()) == {}
    assert "total_steps" not in derived(recipe("micro"))  # minutes are a wish


def test_published_figures_are_those_of_the_recipe_as_it_is(capsys):
    name = "mask_rcnn_internimage_t_fpn_1x_coco"
    told = group(printed(capsys, name), show.PUBLISHED)
    assert float(told["box AP"]) == FIGURES[name].box_ap and float(told["mask AP"]) == FIGURES[name].mask_ap
    assert told["checkpoint"].endswith(f"/{name}.pth") and told["log"].endswith(f"/{name}.log.json")
    text = printed(capsys, name, "--optim.lr", "0.5")
    assert list(group(text, show.PUBLISHED)) == ["classification weights"]
    assert "internimage_t_1k_224.pth" in text  # the backbone is the same
    assert "internimage_t_1k_224.pth" not in printed(capsys, name, "--detector.backbone.channels", "96")


@pytest.mark.parametrize(
    "line, named",
    [
        ("show nanno", "recipe 'nanno' does not exist; there is nano"),
        ("show zzz", "recipe 'zzz' does not exist; cascade-lab zoo lists them"),
        ("show nano --optim.rl 3", "--optim.rl: no such option; nearest: --optim.lr"),
        ("show nano --optim.lr 0", "optim.lr: 0.0 must be above 0"),
        ("show nano --output runs/x", "--output: no such option"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, line: str, named: str):
    assert cli.main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert named in err


def test_help_is_short_and_the_long_one_has_every_field(capsys):
    assert "--json" in printed(capsys, "--help")
    assert "--optim.layer_decay" in printed(capsys, "nano", "--help")
