"""Which level a box is read from, and that it is read there."""

import pytest
import torch
from torch.testing import assert_close

from cascade_lab.layers.roi_pooler import boxes_to_rois, level_of, pool_rois
from cascade_lab.ops.roi_align import roi_align


def square(side: float) -> list[float]:
    return [0.0, 0.0, side, side]


def test_levels_double_with_the_side():
    sides = [1, 55.9, 56, 111.9, 112, 224, 447, 448, 5000]
    boxes = torch.tensor([square(side) for side in sides])
    assert level_of(boxes, 4).tolist() == [0, 0, 0, 0, 1, 2, 2, 3, 3]
    assert level_of(boxes, 2).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_a_box_that_is_none_reads_the_finest_level():
    """Inverted or not a number; on a GPU nothing else would notice a level that is not there."""
    boxes = torch.tensor([[torch.nan] * 4, [30.0, 10.0, 10.0, 90.0], [0.0, 0.0, torch.inf, 9.0]])
    assert level_of(boxes, 4).tolist() == [0, 0, 3]
    ones = [torch.ones(1, 2, 16 >> level, 16 >> level) for level in range(4)]
    assert not pool_rois(ones, (4, 8, 16, 32), boxes_to_rois([boxes[:2]]), 2).any()


def test_level_goes_by_area_and_canonical_size():
    boxes = torch.tensor([[0.0, 0.0, 16.0, 64.0], [5.0, 5.0, 5.0, 90.0]])  # geometric mean 32; no area
    assert level_of(boxes, 4, canonical_size=16.0).tolist() == [1, 0]
    assert level_of(boxes[:0], 4).shape == (0,)


def test_rois_carry_the_number_of_the_picture():
    rois = boxes_to_rois([torch.ones(2, 4), torch.zeros(0, 4), torch.full((1, 4), 7.0)])
    assert rois.tolist() == [[0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [2, 7, 7, 7, 7]]


def test_corners_between_pixels_are_kept():
    """A box that slides over a ramp by a tenth of a pixel reads a fortieth more from a map of stride 4."""
    ramp = torch.arange(16.0).expand(1, 1, 16, 16).contiguous()
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0], [10.1, 10.0, 30.1, 30.0]])
    first, second = pool_rois([ramp], (4,), boxes_to_rois([boxes]), 1, canonical_size=16.0)[:, 0, 0, 0]
    assert first.item() == pytest.approx(20 / 4 - 0.5)
    assert (second - first).item() == pytest.approx(0.1 / 4, abs=1e-5)


def test_every_roi_reads_its_own_level():
    """Level l is filled with picture number + 10 l, so what is read tells where it was read."""
    number = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    pyramid = [
        (number + 10 * level).expand(2, 3, 64 >> level, 64 >> level).contiguous() for level in range(3)
    ]
    rois = torch.tensor([[1, *square(100)], [0, *square(17)], [1, *square(33)], [0, *square(1)]])
    read = pool_rois(pyramid, (1, 2, 4), rois, 2, canonical_size=16.0)
    assert read.shape == (4, 3, 2, 2)
    # A box larger than the map reads nothing beyond it, so only its first bin is full.
    assert_close(read[:, 0, 0, 0], torch.tensor([21.0, 0.0, 11.0, 0.0]))


def test_pooling_is_roi_align_on_the_level():
    torch.manual_seed(0)
    pyramid = [torch.randn(1, 2, 16, 16), torch.randn(1, 2, 8, 8)]
    rois = torch.tensor([[0, 3.0, 4.0, 40.0, 50.0], [0, 3.0, 4.0, 9.0, 12.0]])
    read = pool_rois(pyramid, (4, 8), rois, 7, canonical_size=16.0, sampling_ratio=2)
    assert_close(read[0], roi_align(pyramid[1], rois[:1], 7, 1 / 8, 2)[0])
    assert_close(read[1], roi_align(pyramid[0], rois[1:], 7, 1 / 4, 2)[0])


@pytest.mark.parametrize("count", [0, 1])
def test_every_level_has_a_gradient(count: int):
    """Also a level that no box is read from, and with no box at all."""
    pyramid = [torch.ones(1, 2, 8 >> level, 8 >> level, requires_grad=True) for level in range(3)]
    rois = torch.tensor([[0, *square(4)]])[:count]
    pool_rois(pyramid, (1, 2, 4), rois, 2, canonical_size=16.0).sum().backward()
    for level, features in enumerate(pyramid):
        assert features.grad is not None
        assert bool(features.grad.any()) == (level == 0 and count == 1)
