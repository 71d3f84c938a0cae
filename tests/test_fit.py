"""What a recipe derives from the pictures it is given, worked by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cascade_lab.errors import InputError
from cascade_lab.fit import Statistics, fit_to_pictures, statistics, steps_for_minutes
from cascade_lab.recipes import micro
from cascade_lab.structures import Instances
from tests.tiny_detector import config, filled

SEEN = Statistics(
    pictures=12,
    long_side=200,
    short_side=150,
    small=8.0,
    typical=16.0,
    large=40.0,
    crowded=10,
    per_megapixel=100.0,
    has_masks=True,
)


class Pictures:
    """A few grey pictures of 64 x 64 with square objects of given sides."""

    def __init__(self, sides: list[list[int]], masks: bool = True, ignore: bool = False) -> None:
        self.sides, self.masks, self.ignore = sides, masks, ignore
        self.sizes = [(64, 64)] * len(sides)
        self.classes, self.category_ids = ("thing",), [1]
        self.image_ids = list(range(len(sides)))
        self.annotation_path = Path("instances_train.json")

    def __len__(self) -> int:
        return len(self.sides)

    def __getitem__(self, index: int) -> tuple[Tensor, Instances]:
        return torch.full((3, 64, 64), 100, dtype=torch.uint8), self.targets(index)

    def path(self, index: int) -> Path:
        return Path(f"{index}.png")

    def targets(self, index: int) -> Instances:
        boxes = torch.tensor([[2.0, 2.0, 2.0 + s, 2.0 + s] for s in self.sides[index]]).reshape(-1, 4)
        return Instances(
            (64, 64),
            boxes,
            torch.zeros(len(boxes), dtype=torch.int64),
            masks=filled(boxes) if self.masks else None,
            ignore=torch.ones(len(boxes), dtype=torch.bool) if self.ignore else None,
        )


def test_statistics_by_hand():
    """Sides 10, 20, 30, 40, 50: the median is 30; the 10th percentile lies 0.4 of the way to 20."""
    pictures = Pictures([[10, 20, 30], [], [40, 50]])
    pictures.sizes = [(100, 200), (100, 300), (150, 100)]
    seen = statistics(pictures)
    assert (seen.pictures, seen.crowded, seen.has_masks) == (3, 3, True)
    assert (seen.long_side, seen.short_side) == (200, 100)
    assert (seen.small, seen.typical, seen.large) == pytest.approx((14.0, 30.0, 46.0))
    assert seen.per_megapixel == pytest.approx(5 / (20000 + 30000 + 15000) * 1e6)


def test_statistics_without_masks():
    assert not statistics(Pictures([[10]], masks=False)).has_masks


@pytest.mark.parametrize(
    "pictures", [Pictures([[], []]), Pictures([[20]], ignore=True)], ids=["none", "ignored"]
)
def test_no_object_is_refused(pictures: Pictures):
    with pytest.raises(InputError, match=r"instances_train\.json: annotations: no object to learn from"):
        statistics(pictures)


def test_choices_by_hand():
    """16 px want to be 32: scale 2, within 256 / 200 = 1.28 and 512 / 200 = 2.56.

    Small 16 px: anchors from 0.85 * 16 / 4 = 3.4 strides. Large 80 px: four side by side are 320, capped at
    256. A crop of 256 px covers 128 x 128 original pixels, 1.6 objects: 64 boxes are enough.
    """
    fitted, why = fit_to_pictures(micro(), SEEN)
    augment, detector = fitted.data.augment, fitted.detector
    assert augment.test_scale == 2.0 and augment.scale == (1.4, 2.8) and augment.crop == 256
    assert augment.tight_boxes
    assert detector.rpn.anchor_scales == (3.4,)
    assert detector.rpn.inference.after_nms == 150 and detector.rpn.inference.before_nms == 300
    assert detector.cascade.sampler.num == 64 and detector.cascade.mask_stages == (0, 1, 2)
    assert len(why) == 5 and "anchors 14 to 218 px" in why[3]
    assert "the typical object gets 32 px" in why[1]


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({"typical": 4.0}, 512 / 200),  # wants 8, the picture would get too large
        ({"typical": 100.0}, 256 / 200),  # wants 0.32, the picture would get too small
        ({"long_side": 4000.0, "typical": 200.0}, 512 / 4000),
    ],
)
def test_scale_stays_within_the_picture_sizes(changes: dict, scale: float):
    fitted, _ = fit_to_pictures(micro(), replace(SEEN, **changes))
    assert fitted.data.augment.test_scale == pytest.approx(scale)


@pytest.mark.parametrize(("small", "scales"), [(1.0, 2.0), (8.0, 3.4), (60.0, 8.0)])
def test_anchors_start_at_the_small_objects(small: float, scales: float):
    fitted, _ = fit_to_pictures(micro(), replace(SEEN, small=small))
    assert fitted.detector.rpn.anchor_scales == (scales,)


@pytest.mark.parametrize(("crowded", "proposals"), [(1, 150), (80, 240), (900, 400)])
def test_crowds_get_more_proposals(crowded: int, proposals: int):
    fitted, _ = fit_to_pictures(micro(), replace(SEEN, crowded=crowded))
    assert fitted.detector.rpn.inference.after_nms == proposals


def test_full_crops_get_more_boxes():
    """9 objects in a crop: 9 / (128 * 128) pixels is 549 a megapixel."""
    assert fit_to_pictures(micro(), replace(SEEN, per_megapixel=549.5))[0].detector.cascade.sampler.num == 128
    assert fit_to_pictures(micro(), replace(SEEN, per_megapixel=480.0))[0].detector.cascade.sampler.num == 64


def test_without_masks_there_are_no_mask_heads():
    fitted, why = fit_to_pictures(micro(), replace(SEEN, has_masks=False))
    assert fitted.detector.cascade.mask_stages == () and not fitted.data.augment.tight_boxes
    assert why[-1] == "no masks in the annotations: no mask heads"


def test_crops_are_multiples_of_32():
    for large in (1.0, 14.0, 26.0, 31.0, 200.0):
        crop = fit_to_pictures(micro(), replace(SEEN, large=large))[0].data.augment.crop
        assert crop in (192, 224, 256)


# --- minutes


def clock_of(seconds: list[float]):
    """Return a clock, asked before and after each step, by which steps take that long."""
    ticks = [0.0]
    for duration in seconds:
        ticks += [ticks[-1] + duration, ticks[-1] + duration]
    iterator = iter(ticks)
    return lambda: next(iterator)


def tiny_recipe(minutes: float):
    recipe = micro()
    return replace(
        recipe,
        detector=replace(config(), num_classes=1),
        data=replace(recipe.data, images_per_batch=1),
        schedule=replace(recipe.schedule, minutes=minutes),
    )


def test_steps_for_minutes_by_hand():
    """The slow first step is left out; half a second a step, 93 % of two minutes: 223.2 steps."""
    fitted, said = steps_for_minutes(
        tiny_recipe(2.0), Pictures([[20], [30]]), clock_of([9, 0.5, 0.4, 0.5, 0.6, 0.5])
    )
    assert fitted.schedule.steps == 223 and fitted.schedule.minutes is None
    assert said == "223 steps: 2 minutes at 0.50 s a step"


def test_there_is_always_one_step():
    fitted, _ = steps_for_minutes(tiny_recipe(0.001), Pictures([[20]]), clock_of([60.0] * 6))
    assert fitted.schedule.steps == 1


def test_a_recipe_without_minutes_is_refused():
    recipe = replace(tiny_recipe(1.0), schedule=replace(micro().schedule, minutes=None, steps=5))
    with pytest.raises(ValueError, match="how many minutes"):
        steps_for_minutes(recipe, Pictures([[20]]))
