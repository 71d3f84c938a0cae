"""How pictures become one batch."""

import torch
from torch.testing import assert_close

from cascade_lab.structures import PIXEL_MEAN, PIXEL_STD, ImageBatch


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
