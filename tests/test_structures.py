"""How pictures become one batch, and which objects are refused."""

import pytest
import torch
from torch.testing import assert_close

from cascade_lab.structures import PIXEL_MEAN, PIXEL_STD, ImageBatch, Instances


def test_padding_is_zero_after_normalising():
    """A picture of 20 x 40 beside one of 40 x 20, each padded to 64 x 64: zero outside, normalised inside."""
    images = [torch.full((3, 20, 40), 150.0), torch.full((3, 40, 20), 30.0)]
    batch = ImageBatch.collate(images)
    assert batch.pixels.shape == (2, 3, 64, 64) and batch.sizes == [(20, 40), (40, 20)]
    assert batch.padded_sizes == [(32, 64), (64, 32)]
    for pixels, (height, width), value in zip(batch.pixels, batch.sizes, (150.0, 30.0), strict=True):
        expected = torch.tensor([(value - m) / s for m, s in zip(PIXEL_MEAN, PIXEL_STD, strict=True)])
        assert_close(pixels[:, :height, :width], expected[:, None, None].expand(3, height, width))
        assert not pixels[:, height:].any() and not pixels[:, :, width:].any()


def test_masks_are_in_the_frame_of_the_boxes():
    """Boxes that were resized without their masks would cut the wrong part out of them."""
    boxes, masks = torch.tensor([[0.0, 0.0, 8.0, 4.0]]), torch.ones(1, 20, 40, dtype=torch.bool)
    assert len(Instances((20, 40), boxes, masks=masks)) == 1
    with pytest.raises(ValueError, match=r"masks are \(20, 40\), the picture \(40, 20\)"):
        Instances((40, 20), boxes, masks=masks)


@pytest.mark.parametrize(
    "columns",
    [{"labels": torch.zeros(2, dtype=torch.int64)}, {"scores": torch.zeros(0)}],
    ids=["labels", "scores"],
)
def test_columns_have_a_row_for_each_box(columns):
    with pytest.raises(ValueError, match="rows, boxes has 1"):
        Instances((9, 9), torch.zeros(1, 4), **columns)
    with pytest.raises(ValueError, match=r"boxes must be \(R, 4\)"):
        Instances((9, 9), torch.zeros(4))
