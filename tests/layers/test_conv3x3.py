"""The heads' convolution: when Winograd's form is taken, and that it is the same."""

import pytest
import torch
from torch.testing import assert_close

from cascade_lab.kernels import machines
from cascade_lab.layers.conv3x3 import conv3x3, pays


def features(count: int = 64, channels: int = 128, size: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(count, channels, size, size, generator=generator)
    return made.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("bias", [True, False])
def test_is_conv2d(bias):
    torch.manual_seed(0)
    layer, x = torch.nn.Conv2d(128, 128, 3, padding=1, bias=bias), features()
    assert pays(x, layer.weight)
    found = conv3x3(x, layer.weight, layer.bias)
    assert_close(found, layer(x), atol=1e-5, rtol=1e-4)
    assert found.permute(2, 3, 0, 1).is_contiguous()  # so the next one needs no copy


def test_where_it_does_not_pay():
    weight = torch.zeros(128, 128, 3, 3)
    assert not pays(features(63), weight)
    assert pays(features(16, size=14), weight)  # as many cells
    assert not pays(features(2, size=56), weight)
    assert not pays(features(size=5, count=200), weight)
    assert not pays(features(channels=64), weight[:, :64])
    assert not pays(features().double(), weight.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(features(), weight)
        assert conv3x3(features(), weight).dtype == torch.bfloat16
    with machines.switched_off():
        assert not pays(features(), weight)
