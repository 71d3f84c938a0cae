"""The published figures against what can be computed, and the addresses."""

import re

import pytest
import torch

from cascade_lab.detector import Detector
from cascade_lab.recipes import RECIPES, nano, recipe
from cascade_lab.recipes.published import BACKBONES
from cascade_lab.recipes.zoo import (
    ADDRESS,
    CLASSIFIERS,
    FIGURES,
    checkpoint_address,
    classifier_of,
    log_address,
)


@pytest.mark.parametrize("name", FIGURES)
def test_the_published_parameters_are_those_of_the_recipe(name: str):
    with torch.device("meta"):
        detector = Detector(recipe(name).detector)
    assert round(sum(p.numel() for p in detector.parameters()) / 1e6) == FIGURES[name].params


@pytest.mark.parametrize("name", FIGURES)
def test_the_published_hours_are_steps_times_seconds(name: str):
    """To a third: validation counts too, and the table says that the code became faster than the logs."""
    chosen, figures = recipe(name), FIGURES[name]
    steps = chosen.schedule.total_steps(117_266, chosen.data.images_per_batch)
    assert steps * figures.seconds_per_step / 3600 == pytest.approx(figures.train_hours, rel=0.35)
    assert chosen.data.images_per_batch == 2 * figures.gpus


@pytest.mark.parametrize("name", FIGURES)
def test_average_precision_is_ordered(name: str):
    figures = FIGURES[name]
    assert figures.mask_ap < figures.box_ap
    if figures.box_ap50 is not None and figures.box_ap75 is not None:
        assert figures.box_ap < figures.box_ap75 < figures.box_ap50
    longer = FIGURES.get(name.replace("_1x_", "_3x_"))
    assert longer is figures or (
        longer and longer.box_ap > figures.box_ap and longer.mask_ap > figures.mask_ap
    )


def test_figures_are_of_recipes_and_leave_out_our_own():
    own = set(RECIPES) - set(FIGURES)
    assert own == {"pico", "nano", "micro"} | {
        f"cascade_internimage_{s}_fpn_{n}x_coco" for s in "tsb" for n in (1, 3)
    }
    assert set(FIGURES) < set(RECIPES)
    assert set(CLASSIFIERS) == set(BACKBONES)


def test_addresses():
    name = "cascade_internimage_xl_fpn_3x_coco"
    assert checkpoint_address(name) == f"{ADDRESS}{name}.pth"  # not that of 1x, as one table has it
    assert log_address(name) == f"{ADDRESS}{name}.log.json"
    assert log_address("cascade_internimage_l_fpn_1x_coco") is None
    assert checkpoint_address("nano") is None and log_address("nano") is None
    assert re.fullmatch(r"https://[^ ]+/", ADDRESS)


def test_a_backbone_finds_the_weights_of_its_own_size():
    for name in FIGURES:
        size = re.search(r"internimage_(\w+?)_fpn", name)
        assert size and classifier_of(recipe(name).detector.backbone) is CLASSIFIERS[size[1]]
    assert classifier_of(BACKBONES["g"]) is CLASSIFIERS["g"]
    assert classifier_of(nano().detector.backbone) is None
