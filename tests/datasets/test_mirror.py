"""Mirroring and turning, against numbers worked by hand."""

import pytest

from cascade_lab.datasets.mirror import mirror, mirror_vertically, rotate_quarter
from tests.datasets.scene import extents, scene


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
