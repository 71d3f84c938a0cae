"""The pyramid on maps of one channel, where it can be added up by hand."""

import torch
from torch import nn
from torch.testing import assert_close

from cascade_lab.necks.fpn import FPN
from tests.tiny_detector import without_gradient


def transparent(levels: int) -> FPN:
    """Return a pyramid of one channel whose convolutions hand their input through."""
    neck = FPN([1] * levels, 1)
    for conv in neck.lateral:
        nn.init.ones_(conv.weight)
    for conv in neck.output:
        nn.init.zeros_(conv.weight)
        conv.weight.data[0, 0, 1, 1] = 1.0
    return neck


def test_adds_the_coarse_maps_to_the_fine_ones():
    fine = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]).view(1, 1, 2, 4)
    coarse = torch.tensor([[10.0, 20.0]]).view(1, 1, 1, 2)
    first, second, extra = transparent(2)([fine, coarse])
    assert first[0, 0].tolist() == [[11.0, 12.0, 23.0, 24.0], [15.0, 16.0, 27.0, 28.0]]
    assert second[0, 0].tolist() == [[10.0, 20.0]]
    assert extra[0, 0].tolist() == [[10.0]]


def test_passes_through_every_level():
    """Each map is constant, so a level ends as the sum of itself and all coarser ones."""
    maps = [torch.full((1, 1, 16 >> level, 16 >> level), 10.0**level) for level in range(4)]
    pyramid = transparent(4)(maps)
    assert [m.unique().tolist() for m in pyramid] == [[1111.0], [1110.0], [1100.0], [1000.0], [1000.0]]


def test_odd_sizes_are_stretched_to_the_finer_map():
    """Three columns from two: columns 0, 1, 2 take their value from floor(column * 2 / 3) = 0, 0, 1."""
    fine, coarse = torch.zeros(1, 1, 1, 3), torch.tensor([10.0, 20.0]).view(1, 1, 1, 2)
    first, _, _ = transparent(2)([fine, coarse])
    assert first.flatten().tolist() == [10.0, 10.0, 20.0]


def test_extra_level_takes_every_second_pixel():
    coarse = torch.arange(15.0).view(1, 1, 3, 5)
    pyramid = transparent(2)([torch.zeros(1, 1, 6, 10), coarse])
    assert pyramid[-1][0, 0].tolist() == [[0.0, 2.0, 4.0], [10.0, 12.0, 14.0]]


def test_every_parameter_learns():
    torch.manual_seed(0)
    neck = FPN([2, 4, 6], 3)
    maps = [torch.randn(2, c, s, s) for c, s in ((2, 9), (4, 5), (6, 3))]
    pyramid = neck(maps)
    assert [tuple(m.shape) for m in pyramid] == [(2, 3, 9, 9), (2, 3, 5, 5), (2, 3, 3, 3), (2, 3, 2, 2)]
    torch.stack([m.square().sum() for m in pyramid]).sum().backward()
    assert without_gradient(neck) == []


def test_starts_as_published():
    """Xavier: uniform in +- sqrt(6 / (fan in + fan out)); no bias."""
    torch.manual_seed(0)
    neck = FPN([64], 64)
    bound = (6 / (64 + 64)) ** 0.5
    assert_close(neck.lateral[0].weight.abs().max(), torch.tensor(bound), atol=0.01, rtol=0)
    assert not neck.lateral[0].bias.any()
