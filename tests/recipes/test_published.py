"""The published recipes against each other; tests/oracle/test_optim.py holds them to the official configs."""

from dataclasses import replace

import pytest
import torch

from cascade_lab.backbones.internimage import InternImage
from cascade_lab.heads.cascade_config import CascadeConfig
from cascade_lab.heads.rpn import RPNConfig
from cascade_lab.recipes import diff, recipe
from cascade_lab.recipes.published import BACKBONES
from cascade_lab.recipes.zoo import CLASSIFIERS

SMALL = [(size, times) for size in "tsb" for times in (1, 3)]


def cascade(size: str, times: int):
    return recipe(f"cascade_internimage_{size}_fpn_{times}x_coco")


def mask_rcnn(size: str, times: int):
    return recipe(f"mask_rcnn_internimage_{size}_fpn_{times}x_coco")


@pytest.mark.parametrize(("size", "times"), SMALL)
def test_our_cascades_are_the_published_heads_on_the_published_small_backbones(size: str, times: int):
    own = cascade(size, times)
    assert replace(own.detector, backbone=cascade("l", 1).detector.backbone) == cascade("l", 1).detector
    assert own.detector.backbone == mask_rcnn(size, times).detector.backbone
    beside = {name.split(".")[0] for name in diff(own, mask_rcnn(size, times))}
    assert beside == {"name", "detector"}


@pytest.mark.parametrize(("size", "times"), SMALL)
def test_small_models_train_with_one_rate_for_all_layers_and_no_average(size: str, times: int):
    for chosen in (mask_rcnn(size, times), cascade(size, times)):
        assert chosen.optim.layer_decay == 1.0
        assert chosen.schedule.ema is None
        assert chosen.data.images_per_batch == 16


@pytest.mark.parametrize("size", ["l", "xl"])
def test_three_times_differs_from_once_where_the_paper_says(size: str):
    fields = {
        name for name in diff(cascade(size, 1), cascade(size, 3)) if not name.startswith("data.augment")
    }
    expected = {
        "data.images_per_batch",
        "optim.lr",
        "optim.lr_for_batch",
        "optim.layer_decay",
        "schedule.ema",
        "name",
    }
    expected |= {"schedule.epochs", "schedule.decay_at"}
    assert fields == expected | ({"detector.backbone.drop_path"} if size == "xl" else set())


def test_mask_rcnn_differs_from_the_cascade_where_its_config_says():
    found = diff(mask_rcnn("t", 1), cascade("t", 1))
    assert {name: values for name, values in found.items() if name.startswith("detector.rpn")} == {
        "detector.rpn.allowed_border": (-1, 0),
        "detector.rpn.box_loss": ("l1", "smooth_l1"),
        "detector.rpn.training.after_nms": (1000, 2000),
    }
    stage, official = mask_rcnn("t", 1).detector.cascade.stages, CascadeConfig().stages
    assert stage == (replace(official[0], match_low_quality=True),)
    assert not any(other.match_low_quality for other in official)
    assert cascade("t", 1).detector.rpn == RPNConfig()


@pytest.mark.parametrize("size", BACKBONES)
def test_backbones_have_the_published_number_of_parameters(size: str):
    """Published are the classifiers, whose head weighs 1 to 5 % more on the smaller ones."""
    with torch.device("meta"):
        count = sum(p.numel() for p in InternImage(BACKBONES[size]).parameters())
    assert count == pytest.approx(CLASSIFIERS[size].params * 10**6, rel=0.05)


@pytest.mark.parametrize("size", BACKBONES)
def test_backbones_follow_the_stacking_rules(size: str):
    """InternImage, section 3.2: groups double as channels do; all levels but the third are equally deep."""
    config = BACKBONES[size]
    assert len({c // g for c, g in zip(config.out_channels, config.groups, strict=True)}) == 1
    shallow = {config.depths[0], config.depths[1], config.depths[3]}
    assert len(shallow) == 1 or size == "g"  # the one exception: 2, 2, 48, 4
    assert max(config.depths) == config.depths[2]
