"""Resizing and cutting, against numbers worked by hand and against OpenCV."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade_lab.datasets.cut import clip, cut, nearest, resize_picture
from cascade_lab.datasets.picture import read_picture
from cascade_lab.structures import Instances
from tests.datasets.scene import extents, scene

PHOTOS = Path(__file__).parents[2] / "../shared/data/demo_images"


@pytest.fixture
def cv2():
    return pytest.importorskip("cv2", reason="OpenCV is not here: pip install -e '.[dev]'")


def difference_to_opencv(cv2, image: torch.Tensor, size: tuple[int, int], resampling="opencv") -> int:
    """Return the largest difference in grey levels between our picture (3, H, W) and OpenCV's."""
    theirs = cv2.resize(image.permute(1, 2, 0).numpy(), size[::-1], interpolation=cv2.INTER_LINEAR)
    ours = resize_picture(image, size, resampling)
    assert ours.dtype == torch.uint8 and ours.shape == (3, *size)
    return int((ours.int() - torch.from_numpy(theirs).permute(2, 0, 1).int()).abs().max())


@pytest.mark.parametrize("factor", [0.31, 0.5, 0.77, 0.999, 1.25, 1.667, 2.3])
def test_photographs_equal_opencv_within_one_grey_level(cv2, factor):
    files = sorted(PHOTOS.glob("*.jpg"))[:5]
    if not files:
        pytest.skip("no photographs in ../shared/data/demo_images")
    for file in files:
        image = read_picture(file)
        size = (int(image.shape[1] * factor) | 1, int(image.shape[2] * factor) | 1)  # odd
        assert difference_to_opencv(cv2, image, size) <= 1, file.name


def test_noise_equals_opencv_within_one_grey_level(cv2):
    """Black and white pixels side by side are the worst case of any rounding."""
    random = np.random.default_rng(0)
    for number in range(200):
        (h, w), size = random.integers(1, 90, 2), random.integers(1, 160, 2).tolist()
        levels = (0, 255) if number % 2 else range(256)
        image = torch.from_numpy(random.choice(np.array(levels, np.uint8), (3, h, w)))
        assert difference_to_opencv(cv2, image, (size[0], size[1])) <= 1, (h, w, size)


def test_antialiasing_differs_from_opencv_only_where_pictures_shrink(cv2):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 60, 90), np.uint8))
    assert difference_to_opencv(cv2, image, (90, 135), "antialias") <= 1
    assert difference_to_opencv(cv2, image, (30, 45), "antialias") > 30


def test_nearest_pixels_equal_opencv(cv2):
    """Some of these pairs tell OpenCV's two divisions from one and from integers."""
    lengths, new_lengths = [*range(1, 100, 3), 333, 427, 480, 640], [*range(1, 160, 7), 748, 800, 1067, 1333]
    for length in lengths:
        row = np.arange(length, dtype=np.float32)[None]
        for new in new_lengths:
            theirs = cv2.resize(row, (new, 1), interpolation=cv2.INTER_NEAREST)[0]
            assert nearest(length, new, "opencv").tolist() == theirs.tolist(), (length, new)


@pytest.mark.parametrize("length, new", [(20, 40), (20, 33), (33, 20), (7, 7), (1, 5)])
def test_nearest_pixels_lie_under_the_centre(length, new):
    expected = [(2 * i + 1) * length // (2 * new) for i in range(new)]
    assert nearest(length, new, "antialias").tolist() == expected


def test_the_filter_is_the_one_asked_for():
    image, targets = scene()
    image = image * 37  # wraps around, so that neighbours differ
    for resampling in ("antialias", "opencv"):
        pixels, found = cut(image, targets, (7, 11), (1, 2, 6, 9), resampling=resampling)
        whole = resize_picture(image, (7, 11), resampling)
        rows, columns = nearest(20, 7, resampling)[1:6], nearest(30, 11, resampling)[2:9]
        assert torch.equal(pixels, whole[:, 1:6, 2:9])
        assert torch.equal(found.masks, targets.masks[:, rows][:, :, columns])
    assert not torch.equal(*(resize_picture(image, (7, 11), name) for name in ("antialias", "opencv")))


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
