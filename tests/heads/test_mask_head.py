"""The mask head: twice the resolution, a map per class."""

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from cascade_lab.heads.mask_head import MaskHead, MaskHeadConfig
from tests.tiny_detector import without_gradient


@pytest.mark.parametrize(("convs", "rows"), [(4, 2), (0, 2), (2, 0)])
def test_shapes_and_gradients(convs: int, rows: int):
    """Without boxes, too, every parameter is part of the answer."""
    torch.manual_seed(0)
    config = MaskHeadConfig(convs=convs, channels=6, pool_size=5)
    head = MaskHead(config, in_channels=3, num_classes=4)
    logits = head(torch.randn(rows, 3, 5, 5))
    assert logits.shape == (rows, 4, 10, 10) and config.mask_size == 10
    logits.square().sum().backward()
    assert without_gradient(head) == []


def test_published_sizes():
    config = MaskHeadConfig()
    head = MaskHead(config, in_channels=256, num_classes=80)
    assert config.mask_size == 28 and len(head.convs) == 4
    assert head.logits.weight.shape == (80, 256, 1, 1) and head.upsample.weight.shape == (256, 256, 2, 2)


def test_is_its_figure():
    torch.manual_seed(0)
    head, x = MaskHead(MaskHeadConfig(convs=1, channels=2, pool_size=3), 2, 3), torch.randn(2, 2, 3, 3)
    seen = functional.conv2d(x, head.convs[0].weight, head.convs[0].bias, padding=1).relu()
    seen = functional.conv_transpose2d(seen, head.upsample.weight, head.upsample.bias, stride=2).relu()
    assert_close(head(x), functional.conv2d(seen, head.logits.weight, head.logits.bias))
