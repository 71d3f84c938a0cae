"""Winograd's convolution: PyTorch's, values and gradients, and the bilinear identity it rests on."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from cascade_lab.ops import winograd
from cascade_lab.ops.winograd import side, tile_matrices, tiles, winograd_conv3x3


def maps(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def both(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return PyTorch's answer and ours, both (R, O, H, W), for maps (R, C, H, W)."""
    found = winograd_conv3x3(x.permute(2, 3, 0, 1), weight).permute(2, 3, 0, 1)
    return functional.conv2d(x, weight, padding=1), found


@pytest.mark.parametrize("size", [(7, 7), (14, 14), (3, 8), (4, 6), (28, 3)], ids=str)
def test_is_the_convolution_and_its_gradients(size):
    x, weight = maps(3, 5, *size).requires_grad_(), maps(4, 5, 3, 3).requires_grad_()
    expected, found = both(x, weight)
    assert_close(found, expected)
    grad = maps(*expected.shape).flip(0)
    wanted = torch.autograd.grad(expected, (x, weight), grad)
    for got, want in zip(torch.autograd.grad(found, (x, weight), grad), wanted, strict=True):
        assert_close(got, want)


def test_parts_make_the_whole(monkeypatch):
    """One map at a time, with a rest, and all at once."""
    x, weight = maps(5, 3, 7, 7).requires_grad_(), maps(2, 3, 3, 3).requires_grad_()
    expected = both(x, weight)[1]
    wanted = torch.autograd.grad(expected.square().sum(), (x, weight))
    for at_once in (1, 2 * 121 * 3):
        monkeypatch.setattr(winograd, "AT_ONCE", at_once)
        found = both(x, weight)[1]
        assert_close(found, expected)
        assert_close(torch.autograd.grad(found.square().sum(), (x, weight)), wanted)


def test_rounding_in_float32_is_small():
    """256 channels, as in the published heads, on features that are not negative."""
    x, weight = maps(8, 256, 7, 7).relu(), maps(64, 256, 3, 3) * (2 / (9 * 256)) ** 0.5
    exact = functional.conv2d(x, weight, padding=1)
    plain, found = both(x.float(), weight.float())
    assert float((found - exact).abs().max() / exact.std()) < 3e-5
    assert float((found - exact).std()) < 12 * float((plain - exact).std())


def test_a_tile_takes_as_many_products_as_outputs_and_two():
    assert side(7, torch.float32).spread.shape == (11, 7)
    assert side(14, torch.float32).spread.shape == (22, 14)
    assert [tiles(length) for length in (1, 2, 5)] == [[], [], []]
    assert tiles(7) == [4, 3] and tiles(8) == [4, 4] and tiles(6) == [3, 3] and tiles(28) == [4] * 7


def test_multiplies_polynomials_where_it_says():
    """T is made for a filter that reads one output: row by row the value of the filter times the map's."""
    for outputs in (3, 4):
        evaluate, inverse = tile_matrices(outputs)
        for tap in range(3):
            kernel = np.eye(3)[tap]
            values = winograd.filter_matrix() @ kernel
            values = values if outputs == 4 else values[:5]
            moved = inverse @ np.diag(values) @ evaluate
            np.testing.assert_allclose(moved, np.eye(outputs, outputs + 2, tap), atol=1e-12)


def test_refuses_sides_that_cannot_be_cut():
    with pytest.raises(ValueError, match="a side of 5 cannot be cut"):
        winograd_conv3x3(maps(7, 5, 2, 3), maps(2, 3, 3, 3))


def test_no_map_has_a_gradient():
    x, weight = maps(0, 3, 7, 7).requires_grad_(), maps(2, 3, 3, 3).requires_grad_()
    found = both(x, weight)[1]
    assert found.shape == (0, 2, 7, 7)
    found.sum().backward()
    assert weight.grad is not None and not weight.grad.any()
