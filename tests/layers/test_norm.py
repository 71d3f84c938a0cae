"""The norms that a box head can choose from."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from cascade_lab.layers.norm import norm_layer


def test_none_is_the_identity():
    x = torch.randn(2, 8, 3, 3)
    assert norm_layer("none", 8)(x) is x


@pytest.mark.parametrize("norm", ["batch", "sync_batch"])
def test_batch_norms_are_the_same_in_one_process(norm):
    torch.manual_seed(0)
    layer, x = norm_layer(norm, 8).train(), 3 + 2 * torch.randn(6, 8, 5, 5)
    assert isinstance(layer, nn.BatchNorm2d)
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    assert_close(layer(x), (x - mean) / (var + 1e-5).sqrt(), atol=1e-5, rtol=1e-4)
    assert layer.running_mean is not None
    assert_close(layer.running_mean, 0.1 * mean.flatten())


def test_batch_norm_of_nothing_leaves_the_statistics_alone():
    layer = norm_layer("batch", 4).train()
    assert layer(torch.zeros(0, 4, 7, 7)).shape == (0, 4, 7, 7)
    assert torch.equal(layer.running_mean, torch.zeros(4)) and torch.equal(layer.running_var, torch.ones(4))


# Published widths are multiples of 32, laptop widths such as 36, 48 and 80 are not; 140 / 4 exceeds 32.
@pytest.mark.parametrize("channels", [1, 2, 4, 6, 8, 36, 48, 80, 140, 256])
def test_group_norm_fits_any_width(channels: int):
    torch.manual_seed(0)
    layer, x = norm_layer("group", channels), torch.randn(2, channels, 3, 3)
    assert isinstance(layer, nn.GroupNorm)
    grouped = x.view(2, layer.num_groups, -1)
    expected = (grouped - grouped.mean(-1, keepdim=True)) / (
        grouped.var(-1, keepdim=True, unbiased=False) + 1e-5
    ).sqrt()
    assert_close(layer(x), expected.view_as(x), atol=1e-4, rtol=1e-4)


def test_group_norm_of_the_usual_width_has_32_groups():
    assert norm_layer("group", 256).num_groups == 32
