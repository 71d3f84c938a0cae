"""Resizing, cropping and mirroring, against numbers worked by hand and the tables of the official loader."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade_lab.datasets.transforms import (
    AugmentConfig,
    augment,
    change_colour,
    choose_window,
    clip,
    cut,
    mirror,
    mirror_vertically,
    network_size,
    prepare,
    resize_keep_ratio,
    rotate_quarter,
)
from cascade_lab.errors import InputError
from cascade_lab.structures import Instances

ORACLE = Path(__file__).parents[2] / "../shared/oracle/data"


def oracle(name: str):
    if not (ORACLE / name).is_file():
        pytest.skip(f"../shared/oracle/data/{name} is not here")
    return np.load(ORACLE / name)


def scene(height: int = 20, width: int = 30, boxes=((4, 5, 10, 9), (20, 8, 29, 19))) -> tuple:
    """Return a picture that tells every pixel's place, and rectangles whose masks fill their boxes."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack((rows, columns, rows + columns)).to(torch.uint8)
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    labels = torch.arange(len(boxes))
    return image, Instances((height, width), torch.tensor(boxes).float().reshape(-1, 4), labels, masks=masks)


def extents(masks: torch.Tensor) -> list[list[int]]:
    found = [mask.nonzero() for mask in masks]
    return [[*p.amin(0).flip(0).tolist(), *(p.amax(0) + 1).flip(0).tolist()] for p in found]


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


def test_sizes_equal_the_official_table():
    table = oracle("resize_table.npz")
    assert table["columns"].tolist()[:6] == ["w", "h", "scale0", "scale1", "new_w", "new_h"]
    for w, h, scale0, scale1, new_w, new_h, *_ in table["rows"]:
        assert resize_keep_ratio((int(h), int(w)), (int(scale0), int(scale1))) == (new_h, new_w)


def test_further_factor_comes_after_resize():
    assert network_size((480, 640), AugmentConfig(resize=(1333, 800)), 0.5) == (
        400,
        534,
    )  # 533.5 is rounded up
    assert network_size((480, 640), AugmentConfig(), 1.0) == (480, 640)
    assert network_size((2, 2), AugmentConfig(), 0.01) == (1, 1)


def test_resizing_equals_the_official_loader():
    steps = oracle("pipeline_steps.npz")
    image = torch.from_numpy(steps["img_bgr_uint8"].copy()).permute(2, 0, 1)
    masks = torch.from_numpy(steps["masks"]).bool()
    before = Instances(
        (60, 83), torch.from_numpy(steps["boxes"]), torch.from_numpy(steps["labels"]), masks=masks
    )
    size = resize_keep_ratio((60, 83), tuple(steps["resize/scale"].tolist()))
    resized, targets = prepare(image, before, AugmentConfig(resize=tuple(steps["resize/scale"].tolist())))
    assert size == targets.image_size == steps["resize/img"].shape[:2]
    torch.testing.assert_close(targets.boxes, torch.from_numpy(steps["resize/boxes"]), atol=1e-4, rtol=0)
    # Enlarging needs no antialiasing, so the pixels agree up to the rounding of OpenCV's integer arithmetic.
    difference = resized.permute(1, 2, 0).int() - torch.from_numpy(steps["resize/img"].copy()).int()
    assert difference.abs().max() <= 2
    # Masks take the pixel under the centre; OpenCV takes the one under the upper left corner.
    rows, columns = (torch.arange(n)[:, None] * o // n for n, o in ((size[0], 60), (size[1], 83)))
    assert torch.equal(
        masks[:, rows[:, 0]][:, :, columns[:, 0]], torch.from_numpy(steps["resize/masks"]).bool()
    )
    rows, columns = ((2 * torch.arange(n) + 1) * o // (2 * n) for n, o in ((size[0], 60), (size[1], 83)))
    assert torch.equal(targets.masks, masks[:, rows][:, :, columns])


def test_mirroring_equals_the_official_loader():
    steps = oracle("pipeline_steps.npz")
    boxes, masks = torch.from_numpy(steps["resize/boxes"]), torch.from_numpy(steps["resize/masks"]).bool()
    image = torch.from_numpy(steps["resize/img"].copy()).permute(2, 0, 1)
    image, targets = mirror(image, Instances((80, 111), boxes, masks=masks))
    torch.testing.assert_close(targets.boxes, torch.from_numpy(steps["flip/boxes"]), atol=1e-4, rtol=0)
    assert torch.equal(targets.masks, torch.from_numpy(steps["flip/masks"]).bool())
    assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(steps["flip/img"].copy()))


def test_cropping_equals_the_official_loader():
    steps = oracle("pipeline_steps.npz")
    names = sorted({name.split("/")[0] for name in steps.files if name.startswith("crop")})
    image = torch.from_numpy(steps["img_bgr_uint8"].copy()).permute(2, 0, 1)
    masks = torch.from_numpy(steps["masks"]).bool()
    before = Instances(
        (60, 83), torch.from_numpy(steps["boxes"]), torch.from_numpy(steps["labels"]), masks=masks
    )
    for name in names:
        height, width, top, left = steps[f"{name}/draws_low_high_value"][:, 2].tolist()
        window = (top, left, top + height, left + width)
        cropped, targets = cut(image, before, (60, 83), window)
        assert torch.equal(cropped.permute(1, 2, 0), torch.from_numpy(steps[f"{name}/img"].copy()))
        torch.testing.assert_close(targets.boxes, torch.from_numpy(steps[f"{name}/boxes"]), atol=1e-5, rtol=0)
        assert torch.equal(targets.labels, torch.from_numpy(steps[f"{name}/labels"]))
        assert torch.equal(targets.masks, torch.from_numpy(steps[f"{name}/masks"]).bool())
    assert len(names) >= 3


def test_mirror_images_by_hand():
    image, targets = scene()
    seen, turned = mirror(image, targets)
    assert (
        turned.boxes.tolist() == [[20, 5, 26, 9], [1, 8, 10, 19]]
        and seen[1, 0].tolist() == list(range(30))[::-1]
    )
    seen, turned = mirror_vertically(image, targets)
    assert (
        turned.boxes.tolist() == [[4, 11, 10, 15], [20, 1, 29, 12]]
        and seen[0, :, 0].tolist() == list(range(20))[::-1]
    )
    seen, turned = rotate_quarter(image, targets)
    assert turned.boxes.tolist() == [[5, 20, 9, 26], [8, 1, 19, 10]]
    assert turned.image_size == (30, 20) == tuple(seen.shape[1:])
    assert seen[1, 0, 0] == 29 and seen[0, 0, 19] == 19  # the right edge is now the top
    assert targets.boxes.tolist() == [[4, 5, 10, 9], [20, 8, 29, 19]]  # the original is untouched


@pytest.mark.parametrize("turn", [mirror, mirror_vertically, rotate_quarter])
def test_masks_and_pixels_turn_with_the_boxes(turn):
    image, targets = scene()
    values = [image[:, mask].long().sum() for mask in targets.masks]
    image, targets = turn(image, targets)
    assert extents(targets.masks) == targets.boxes.tolist()
    assert [image[:, mask].long().sum() for mask in targets.masks] == values


def test_crop_by_hand():
    image, targets = scene()
    cropped, left = cut(image, targets, (20, 30), (6, 8, 16, 24))
    assert left.image_size == (10, 16) and torch.equal(cropped, image[:, 6:16, 8:24])
    assert left.boxes.tolist() == [[0, 0, 2, 3], [12, 2, 16, 10]] and left.labels.tolist() == [0, 1]
    assert extents(left.masks) == left.boxes.tolist()
    _, left = cut(image, targets, (20, 30), (9, 10, 19, 30))  # the first ends where the window begins
    assert left.labels.tolist() == [1] and left.ignore is None
    _, left = cut(image, targets, (20, 30), (0, 10, 5, 20))
    assert len(left) == 0 and left.masks.shape == (0, 5, 10) and left.boxes.shape == (0, 4)


def test_resize_and_crop_by_hand():
    image, targets = scene()
    cropped, left = cut(image, targets, (40, 60), (12, 16, 32, 48))
    assert left.boxes.tolist() == [[0, 0, 4, 6], [24, 4, 32, 20]] and cropped.shape == (3, 20, 32)
    assert extents(left.masks) == left.boxes.tolist()


def test_hardly_visible_objects_become_ignored_regions():
    image, targets = scene()
    window = (0, 8, 20, 28)  # keeps 2 of 6 columns of the first, 8 of 9 of the second
    for least, expected in ((0.3, [False, False]), (0.34, [True, False]), (0.9, [True, True])):
        _, left = cut(image, targets, (20, 30), window, min_visible=least)
        assert left.ignore.tolist() == expected
        _, left = cut(image, replace(targets, masks=None), (20, 30), window, min_visible=least)
        assert left.ignore.tolist() == expected  # by the boxes
    _, left = cut(image, targets, (40, 60), (0, 16, 40, 56), min_visible=0.34)
    assert left.ignore.tolist() == [True, False]
    masks = targets.masks.clone()
    masks[0, :, :9] = False  # of its only mask pixels, column 9, all are kept
    _, left = cut(image, replace(targets, masks=masks), (20, 30), window, min_visible=0.9)
    assert left.ignore.tolist() == [False, True]
    _, left = cut(
        image, replace(targets, ignore=torch.tensor([False, True])), (20, 30), window, min_visible=0.3
    )
    assert left.ignore.tolist() == [False, True]  # a crowd stays one


def test_uncut_objects_are_never_ignored_or_redrawn():
    image, targets = scene()
    targets = replace(targets, boxes=targets.boxes + torch.tensor([0.0, 0.0, 0.4, 0.7]))
    _, left = cut(image, targets, (20, 30), (0, 0, 20, 30), min_visible=1.0, tight_boxes=True)
    assert torch.equal(left.boxes, targets.boxes) and left.ignore is None


def test_tight_boxes_follow_the_masks_of_cut_objects():
    image, targets = scene(boxes=((2, 2, 22, 12), (20, 8, 29, 19)))
    masks = targets.masks.clone()
    masks[0] = False
    masks[0, 2:4, 2:22] = True  # an L: a bar on top, a post at the left
    masks[0, 4:12, 2:5] = True
    masks[1, :, :28] = False
    targets = replace(targets, masks=masks)
    _, loose = cut(image, targets, (20, 30), (0, 10, 20, 26))
    assert loose.boxes.tolist() == [[0, 2, 12, 12], [10, 8, 16, 19]]
    _, tight = cut(image, targets, (20, 30), (0, 10, 20, 26), tight_boxes=True)
    assert tight.boxes.tolist() == [[0, 2, 12, 4]] and tight.labels.tolist() == [
        0
    ]  # of the second, nothing is left
    without = replace(targets, has_mask=torch.tensor([True, False]))
    _, tight = cut(image, without, (20, 30), (0, 10, 20, 26), tight_boxes=True)
    assert tight.boxes.tolist() == [[0, 2, 12, 4], [10, 8, 16, 19]]


def test_clip_drops_what_lies_outside():
    targets = Instances(
        (10, 20), torch.tensor([[-5.0, -5, 5, 5], [20, 0, 25, 5], [15, 8, 30, 12]]), torch.arange(3)
    )
    clipped = clip(targets)
    assert clipped.boxes.tolist() == [[0, 0, 5, 5], [15, 8, 20, 10]] and clipped.labels.tolist() == [0, 2]


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


def test_prepare_is_a_plain_resize():
    image, targets = scene()
    same, untouched = prepare(image, targets, AugmentConfig(scale=(0.1, 0.2), crop=3))
    assert torch.equal(same, image) and torch.equal(untouched.boxes, targets.boxes)
    larger, doubled = prepare(image, targets, AugmentConfig(test_scale=2.0))
    assert larger.shape == (3, 40, 60) and torch.equal(doubled.boxes, targets.boxes * 2)
    assert torch.equal(doubled.masks[:, ::2, ::2], targets.masks)


@pytest.mark.parametrize(
    "change",
    [{"scale": (2.0, 1.0)}, {"scale": (0.0, 1.0)}, {"crop": 0}, {"flip": 1.5}, {"colour": 1.0},
     {"test_scale": 0.0}, {"resize": (0, 5)}, {"min_visible": -0.1}, {"rotate90": float("nan")}],
)  # fmt: skip
def test_impossible_settings_are_refused(change):
    with pytest.raises(InputError, match=rf"augment\.{next(iter(change))} is .*"):
        AugmentConfig(**change)
