"""Recipes as values: saved, rebuilt, compared, found by name."""

import json
from dataclasses import replace

import pytest

from cascade_lab.detector import Detector
from cascade_lab.engine.schedule import ScheduleConfig
from cascade_lab.errors import InputError
from cascade_lab.heads.cascade_config import CascadeConfig, Stage
from cascade_lab.overrides import options, override
from cascade_lab.recipes import RECIPES, Recipe, diff, flatten, from_dict, micro, nano, recipe, to_dict


@pytest.mark.parametrize("name", RECIPES)
def test_round_trip_through_json(name: str):
    original = recipe(name)
    text = json.dumps(to_dict(original))
    rebuilt = from_dict(json.loads(text))
    assert isinstance(rebuilt, Recipe) and rebuilt == original
    assert hash(rebuilt) == hash(original)  # tuples all the way, no list left
    assert rebuilt.name == name


def test_round_trip_of_what_was_changed():
    """Optional values, tuples of any length and nested dataclasses."""
    base = nano()
    stage = Stage(iou=0.8, delta_std=(0.02, 0.02, 0.04, 0.04), loss_weight=0.125, match_low_quality=True)
    cascade = replace(base.detector.cascade, stages=(*base.detector.cascade.stages, stage), mask_stages=())
    backbone = replace(base.detector.backbone, layer_scale=None, level2_post_norm_blocks=(0, 1))
    augment = replace(base.data.augment, scale=(0.5, 2.0), resize=(1333, 800), crop=128)
    changed = replace(
        base,
        detector=replace(base.detector, cascade=cascade, backbone=backbone),
        data=replace(base.data, augment=augment),
        schedule=ScheduleConfig(epochs=12, decay_at=(0.5, 0.75, 0.9)),
        seed=7,
    )
    rebuilt = from_dict(json.loads(json.dumps(to_dict(changed))))
    assert rebuilt == changed
    assert rebuilt.detector.cascade.stages[3] == stage and rebuilt.detector.backbone.layer_scale is None


def test_parts_are_rebuilt_too():
    part = nano().detector.cascade
    assert from_dict(to_dict(part), CascadeConfig) == part


def test_diff_names_the_fields():
    a = nano()
    b = replace(
        a,
        seed=3,
        optim=replace(a.optim, lr=0.5),
        detector=replace(a.detector, cascade=replace(a.detector.cascade, mask_stages=(2,))),
    )
    assert diff(a, b) == {
        "seed": (0, 3),
        "optim.lr": (a.optim.lr, 0.5),
        "detector.cascade.mask_stages": ([0, 1, 2], [2]),
    }
    assert diff(a, a) == {} and diff(b, a)["seed"] == (3, 0)
    assert diff(nano(), micro())["fit_to_data"] == (False, True)


def test_diff_looks_into_the_stages_one_by_one():
    """Both ways round: the fields that only one has stand where it has them, None in the other."""
    base = nano().detector.cascade
    first, second, third = base.stages
    cascade = replace(base, stages=(first, replace(second, iou=0.65)), mask_stages=(0, 1))
    short = replace(nano(), detector=replace(nano().detector, cascade=cascade))
    own = "detector.cascade.stages."
    expected = {
        f"{own}1.iou": (0.65, 0.6),
        f"{own}2.iou": (None, third.iou),
        f"{own}2.delta_std": (None, list(third.delta_std)),
        f"{own}2.loss_weight": (None, third.loss_weight),
        f"{own}2.match_low_quality": (None, False),
        "detector.cascade.mask_stages": ([0, 1], [0, 1, 2]),
    }
    found = diff(short, nano())
    assert found == expected
    assert list(found) == list(expected)
    assert diff(nano(), short) == {name: (b, a) for name, (a, b) in expected.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_flat_names_are_those_of_the_command_line(name: str):
    chosen = recipe(name)
    flat, typed = flatten(chosen), options(chosen)
    assert [f"--{field}" for field in flat] == list(typed)
    assert list(flat.values()) == [to_dict(value) for _, value in typed.values()]


def test_an_unknown_name_lists_its_neighbours():
    with pytest.raises(InputError, match=r"'nanno' does not exist; there is nano$") as error:
        recipe("nanno")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="'zzz' does not exist; cascade-lab zoo lists them$"):
        recipe("zzz")


def test_broken_recipes_are_refused_in_one_line():
    plain = to_dict(nano())
    with pytest.raises(InputError, match="'colour_depth' is unknown"):
        from_dict({**plain, "colour_depth": 8})
    with pytest.raises(InputError, match="'detector.iuo' is unknown"):
        from_dict({**plain, "detector": {**plain["detector"], "iuo": 8}})
    with pytest.raises(InputError, match="'optim' is missing"):
        from_dict({name: value for name, value in plain.items() if name != "optim"})
    with pytest.raises(InputError, match="OptimConfig"):
        from_dict({**plain, "optim": None})


@pytest.mark.parametrize(
    "part, field, value, words",
    [
        ("optim", "lr", "fast", r"field 'optim.lr' is 'fast' \(must be of type float\)"),
        ("optim", "betas", 0.9, r"field 'optim.betas' is 0.9 \(must be a list of 2\)"),
        ("optim", "betas", [0.9], r"field 'optim.betas' is \[0.9\] \(must be a list of 2\)"),
        ("optim", "clip_norm", [], r"field 'optim.clip_norm' is \[\] \(must be of type float\)"),
        ("data", "workers", True, r"field 'data.workers' is True \(must be of type int\)"),
        ("data", "root", None, r"field 'data.root' is None \(must be of type str\)"),
        ("schedule", "decay_at", [0.5, None], r"field 'schedule.decay_at.1' is None"),
        (
            "schedule",
            "decay_at",
            "abc",
            r"field 'schedule.decay_at' is 'abc' \(must be a list of any length\)",
        ),
    ],
)
def test_a_value_of_another_type_is_named_by_its_field(part, field, value, words):
    plain = to_dict(nano())
    plain[part][field] = value
    with pytest.raises(InputError, match=words) as error:
        from_dict(plain)
    assert "\n" not in str(error.value) and "restore" in str(error.value)


def test_a_whole_number_may_stand_for_a_float():
    plain = to_dict(nano())
    plain["optim"]["lr"] = 1
    assert from_dict(plain).optim.lr == 1


LAPTOP = ("pico", "nano", "micro")


@pytest.mark.parametrize("name", LAPTOP)
def test_every_laptop_recipe_builds_a_detector(name: str):
    chosen = recipe(name)
    detector = Detector(chosen.detector)
    assert sum(p.numel() for p in detector.parameters()) < 3_000_000  # for a laptop's CPU
    assert len(chosen.detector.cascade.stages) == 3
    assert chosen.schedule.steps is not None or chosen.fit_to_data


@pytest.mark.parametrize("name", LAPTOP)
def test_every_laptop_recipe_differs_from_published_only_where_it_must(name: str):
    """Loss weights, later sampling and ensemble are the official ones."""
    cascade, official = recipe(name).detector.cascade, CascadeConfig()
    assert cascade.stages == official.stages
    assert cascade.loss_weights == official.loss_weights and cascade.later_sampling == official.later_sampling
    assert cascade.postprocess.ensemble == official.postprocess.ensemble


@pytest.mark.parametrize("name", RECIPES)
def test_rpn_and_cascade_agree_on_ignored_regions(name: str):
    chosen = recipe(name).detector
    assert chosen.rpn.assigner.ignore_ioa == chosen.cascade.ignore_ioa
    assert (chosen.cascade.ignore_ioa > 0) == (name in LAPTOP)  # the published ones train on crowds


PUBLISHED = [name for name in RECIPES if name not in LAPTOP]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_change_pictures_as_the_official_configs(name: str):
    """Facts of the official configs: 1x has one size, all 3x have DETR's; batches are of one shape."""
    data = recipe(name).data
    augment, first = data.augment, data.augment.crop_first
    assert (augment.resize, augment.flip, augment.resampling) == ((1333, 800), 0.5, "opencv")
    assert (augment.scale, augment.crop, augment.test_scale) == (None, None, 1.0)
    assert (augment.vertical_flip, augment.rotate90, augment.colour, augment.min_visible) == (0, 0, 0, 0)
    assert not augment.tight_boxes and not data.keep_empty and data.group_by_aspect
    if "_3x_" in name:
        assert augment.short_sides == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
        assert (first.probability, first.short_sides, first.sides) == (0.5, (400, 500, 600), (384, 600))
    else:
        assert augment.short_sides == () and first.probability == 0


def test_augmentation_is_changed_from_the_command_line():
    words = "--data.augment.crop_first.probability 0.25 --data.augment.short_sides 300 400"
    words += " --data.no-group_by_aspect"
    (changed,) = override((recipe("cascade_internimage_xl_fpn_3x_coco"),), words.split())
    assert changed.data.augment.crop_first.probability == 0.25 and not changed.data.group_by_aspect
    assert changed.data.augment.short_sides == (300, 400) and changed.data.augment.resize == (1333, 800)
    words = "--data.augment.resize 1333 800 --data.augment.resampling opencv --data.augment.short_sides 640"
    (changed,) = override((nano(),), words.split())
    assert changed.data.augment == replace(
        nano().data.augment, resize=(1333, 800), resampling="opencv", short_sides=(640,)
    )
