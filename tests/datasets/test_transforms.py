"""What a recipe does to pictures, against numbers worked by hand and against what chance allows."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from cascade_lab.datasets.cut import cut
from cascade_lab.datasets.mirror import mirror
from cascade_lab.datasets.transforms import (
    AugmentConfig,
    CropFirst,
    at_scale,
    augment,
    change_colour,
    choose_window,
    cut_first,
    network_size,
    prepare,
    rectangle,
    resize_keep_ratio,
)
from cascade_lab.errors import InputError
from tests.datasets.scene import scene

# The official 3x settings at a tenth of their size.
MANY_SIZES = AugmentConfig(
    resize=(133, 80),
    short_sides=tuple(range(30, 81, 5)),
    crop_first=CropFirst(probability=0.5, short_sides=(40, 50, 60), sides=(38, 60)),
    resampling="opencv",
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "size, expected",
    [
        ((480, 640), (800, 1067)),
        ((375, 500), (800, 1067)),
        ((427, 640), (800, 1199)),
        ((359, 640), (748, 1333)),
    ],
)
def test_resize_keeps_the_ratio(size, expected):
    assert resize_keep_ratio(size, (1333, 800)) == expected == resize_keep_ratio(size, (800, 1333))


def test_further_factor_comes_after_resize():
    assert network_size((480, 640), AugmentConfig(resize=(1333, 800)), 0.5) == (
        400,
        534,
    )  # 533.5 is rounded up
    assert network_size((480, 640), AugmentConfig(), 1.0) == (480, 640)
    assert network_size((2, 2), AugmentConfig(), 0.01) == (1, 1)


def test_windows_hold_the_centre_of_an_object_and_stay_inside():
    _, targets = scene(boxes=((4, 5, 10, 9), (24, 0, 30, 4)))
    targets = replace(targets, ignore=torch.tensor([False, True]))
    draws = torch.rand(400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = Counter()
    for draw in draws.tolist():
        top, left, bottom, right = choose_window(targets, (40, 60), 16, draw)
        assert top >= 0 and bottom == top + 16 <= 40 and left >= 0 and right == left + 16 <= 60
        holds = left <= 14 <= right and top <= 14 <= bottom
        assert holds or draw[0] >= 0.75
        seen[left] += draw[0] < 0.75
    assert set(range(15)) <= set(seen)  # every start from the edge to the centre is drawn
    assert choose_window(targets, (12, 60), 16, [0.9, 0, 0.5, 0.999]) == (0, 44, 12, 60)
    assert choose_window(targets, (9, 9), 16, [0.1, 0, 0.5, 0.5]) == (0, 0, 9, 9)


def test_colour_by_hand():
    image = torch.tensor([100, 50, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 2, 2)
    grey = 0.2989 * 100 + 0.587 * 50
    assert torch.equal(change_colour(image, 1, 1, 1), image.float())
    torch.testing.assert_close(change_colour(image, 1.5, 1, 1)[:, 0, 0], torch.tensor([150.0, 75, 0]))
    torch.testing.assert_close(change_colour(image, 3, 1, 1)[:, 0, 0], torch.tensor([255.0, 150, 0]))
    torch.testing.assert_close(
        change_colour(image, 1, 1, 0)[:, 0, 0], torch.tensor([grey] * 3), atol=0.02, rtol=0
    )
    expected = torch.tensor([100.0, 50, 0]) * 0.5 + 0.5 * grey
    torch.testing.assert_close(change_colour(image, 1, 0.5, 1)[:, 0, 0], expected, atol=0.02, rtol=0)


def test_augment_depends_on_the_generator_alone():
    config = AugmentConfig(scale=(0.5, 2.0), crop=18, vertical_flip=0.5, rotate90=0.5, colour=0.4)
    image, targets = scene()
    kept = image.clone(), targets.boxes.clone(), targets.masks.clone()

    def run(seed: int):
        return augment(image, targets, config, torch.Generator().manual_seed(seed))

    for seed in range(40):
        (a, b), (c, d) = run(seed), run(seed)
        assert torch.equal(a, c) and torch.equal(b.boxes, d.boxes) and torch.equal(b.masks, d.masks)
        assert b.image_size == tuple(a.shape[1:]) == tuple(b.masks.shape[1:]) and max(b.image_size) <= 18
        assert (b.boxes >= 0).all() and (b.boxes[:, 2::2] <= b.image_size[1]).all()
    assert len({run(seed)[0].sum().item() for seed in range(40)}) > 35
    assert (
        torch.equal(image, kept[0])
        and torch.equal(targets.boxes, kept[1])
        and torch.equal(targets.masks, kept[2])
    )


def test_augment_draws_as_often_as_asked():
    image, targets = scene()
    config = AugmentConfig(flip=0.5, vertical_flip=0.5, rotate90=0.5)
    views = Counter(
        augment(image, targets, config, torch.Generator().manual_seed(seed))[0].flatten().numpy().tobytes()
        for seed in range(400)
    )
    assert len(views) == 8 and min(views.values()) > 25  # all eight ways to lay a picture down
    same, _ = augment(image, targets, AugmentConfig(flip=0.0), torch.Generator().manual_seed(0))
    assert torch.equal(same, image) and same.dtype == torch.uint8
    heights = [
        augment(image, targets, AugmentConfig(scale=(0.5, 2.0)), torch.Generator().manual_seed(seed))[
            1
        ].image_size[0]
        for seed in range(200)
    ]
    assert min(heights) >= 10 and max(heights) <= 40
    assert 80 < sum(height < 20 for height in heights) < 120  # as often smaller as larger


def test_a_rectangle_can_be_every_one_that_is_allowed():
    """Feed draws from the middle of equally wide parts of [0, 1): every value comes once."""
    size, sides = (50, 20), (16, 24)  # least and most: 16 to 24 high, 16 to 20 wide
    heights = [rectangle(size, sides, [(i + 0.5) / 9, 0, 0, 0]) for i in range(9)]
    assert heights == [(0, 0, height, 16) for height in range(16, 25)]
    widths = [rectangle(size, sides, [0, (i + 0.5) / 5, 0, 0]) for i in range(5)]
    assert widths == [(0, 0, 16, width) for width in range(16, 21)]
    tops = [rectangle(size, sides, [0, 0, (i + 0.5) / 35, 0]) for i in range(35)]
    assert tops == [(top, 0, top + 16, 16) for top in range(35)]
    lefts = [rectangle(size, sides, [0, 0, 0, (i + 0.5) / 5]) for i in range(5)]
    assert lefts == [(0, left, 16, left + 16) for left in range(5)]
    assert rectangle((10, 12), sides, [0.9] * 4) == (0, 0, 10, 12)  # smaller than both: kept whole


def test_many_sizes_and_cuts_come_as_often_as_asked():
    image, targets = scene(48, 64, boxes=((4, 5, 60, 44),))
    whole = {resize_keep_ratio((48, 64), (133, side)): side for side in MANY_SIZES.short_sides}
    seen = Counter(
        whole.get(augment(image, targets, MANY_SIZES, seeded(seed))[1].image_size) for seed in range(1100)
    )
    cuts = seen.pop(None)  # another shape, so it was cut; a few cuts keep the shape
    assert 480 < cuts < 570
    assert len(seen) == 11 and min(seen.values()) > 30 and max(seen.values()) < 85


def test_cuts_come_before_resizing_and_after_mirroring():
    image, targets = scene(48, 64, boxes=((4, 5, 60, 44), (1, 1, 9, 9)))
    always = replace(MANY_SIZES, crop_first=replace(MANY_SIZES.crop_first, probability=1.0))
    first, _ = cut_first(image, targets, always, [0.5, 0.2, 0.8, 0.0, 0.99])
    assert first.shape[1:] == (40, 56)  # of 50 x 67: the 3rd of 38..50 high, the 19th of 38..60 wide
    for seed in range(20):
        never = replace(always, flip=0.0)
        a, b = augment(image, targets, replace(always, flip=1.0), seeded(seed))
        c, d = augment(*mirror(image, targets), never, seeded(seed))
        assert torch.equal(a, c) and torch.equal(b.boxes, d.boxes) and torch.equal(b.masks, d.masks)
        assert min(a.shape[1:]) in always.short_sides or max(a.shape[1:]) == 133
    without = replace(always, crop_first=CropFirst(), short_sides=(), flip=1.0)
    a, b = augment(image, targets, without, seeded(0))
    c, d = mirror(*cut(image, targets, (80, 107), (0, 0, 80, 107), resampling="opencv"))
    assert torch.equal(a, c) and torch.equal(b.boxes, d.boxes) and torch.equal(b.masks, d.masks)


@pytest.mark.parametrize("config", [AugmentConfig(crop=9), MANY_SIZES])
def test_the_number_of_draws_does_not_depend_on_the_picture(config):
    states = []
    for boxes, height in (((), 20), (((1, 1, 5, 5),), 9), (((0, 0, 29, 60),) * 5, 70)):
        generator = seeded(3)
        augment(*scene(height, 30, boxes=boxes), config, generator)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])


def test_prepare_is_a_plain_resize():
    image, targets = scene()
    same, untouched = prepare(image, targets, AugmentConfig(scale=(0.1, 0.2), crop=3))
    assert torch.equal(same, image) and torch.equal(untouched.boxes, targets.boxes)
    larger, doubled = prepare(image, targets, AugmentConfig(test_scale=2.0))
    assert larger.shape == (3, 40, 60) and torch.equal(doubled.boxes, targets.boxes * 2)
    assert torch.equal(doubled.masks[:, ::2, ::2], targets.masks)
    thrice, _ = prepare(image, targets, at_scale(AugmentConfig(test_scale=2.0), 1.5))
    assert thrice.shape == (3, 60, 90)


@pytest.mark.parametrize(
    "change",
    [{"scale": (2.0, 1.0)}, {"scale": (0.0, 1.0)}, {"crop": 0}, {"flip": 1.5}, {"colour": 1.0},
     {"test_scale": 0.0}, {"resize": (0, 5)}, {"min_visible": -0.1}, {"rotate90": float("nan")},
     {"short_sides": (0,), "resize": (9, 5)}, {"resampling": "cubic"}],
)  # fmt: skip
def test_impossible_settings_are_refused(change):
    with pytest.raises(InputError, match=rf"augment\.{next(iter(change))} is .*"):
        AugmentConfig(**change)


@pytest.mark.parametrize("change", [{"probability": 1.1}, {"short_sides": ()}, {"sides": (5, 4)}])
def test_impossible_cuts_are_refused(change):
    with pytest.raises(InputError, match=rf"augment\.crop_first\.{next(iter(change))} is .*"):
        CropFirst(**change)


@pytest.mark.parametrize("change", [{"short_sides": (5, 6)}, {"crop_first": CropFirst(probability=0.1)}])
def test_sizes_need_a_cap(change):
    with pytest.raises(InputError, match="augment.resize is None"):
        AugmentConfig(**change)
