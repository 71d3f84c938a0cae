"""RoIAlign: the fast one against its readable twin, and both against features whose mean is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.ops.roi_align import roi_align, roi_align_reference

BOTH = pytest.mark.parametrize("function", [roi_align, roi_align_reference])

# Ordinary, sticking out on two sides, off the picture, thin, without width, smaller than one cell.
ROIS = torch.tensor(
    [
        [0.0, 3, 5, 29, 31],
        [1, -9, -7, 20, 50],
        [1, 300, 300, 320, 310],
        [0, 10, 2, 11, 40],
        [1, 8, 8, 8, 20],
        [0, 17.3, 9.1, 17.9, 9.6],
    ]
)


def features(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 3, 9, 11, dtype=dtype, generator=torch.Generator().manual_seed(0))


@BOTH
def test_a_slope_is_read_at_the_middle_of_each_bin(function: Callable[..., Tensor]):
    # The value is the x of the cell's centre in pixels (stride 4), so a bin reads its own centre exactly.
    slope = (torch.arange(16.0) * 4 + 2).expand(1, 1, 16, 16)
    pooled = function(slope, torch.tensor([[0.0, 8, 8, 48, 40]]), 4, 0.25)
    assert_close(pooled[0, 0], torch.tensor([13.0, 23, 33, 43]).expand(4, 4))


@BOTH
def test_one_cell_is_itself(function: Callable[..., Tensor]):
    maps = torch.arange(12.0).view(1, 1, 3, 4)
    pooled = function(maps, torch.tensor([[0.0, 2, 1, 3, 2]]), 1, 1.0)
    assert pooled.flatten().tolist() == [6]


@BOTH
def test_off_the_map_is_zero(function: Callable[..., Tensor]):
    ones = torch.ones(1, 1, 4, 4)
    assert not function(ones, torch.tensor([[0.0, 40, 40, 48, 48]]), 2, 1.0).any()
    # The left bin samples at -4, -3, -2 and -1 (in cell centres); only the last is near enough to count.
    half = function(ones, torch.tensor([[0.0, -4, 0, 4, 4]]), 2, 1.0)[0, 0]
    assert half.tolist() == [[0.25, 1], [0.25, 1]]


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_twin(size: int, ratio: int):
    a, b = features().requires_grad_(), features().requires_grad_()
    rois = ROIS.double()
    fast, slow = roi_align(a, rois, size, 0.25, ratio), roi_align_reference(b, rois, size, 0.25, ratio)
    assert_close(fast, slow, atol=1e-12, rtol=0)
    assert_close(roi_align(a.detach(), rois, size, 0.25, ratio), slow, atol=1e-12, rtol=0)
    upstream = torch.randn(fast.shape, dtype=fast.dtype, generator=torch.Generator().manual_seed(1))
    (fast * upstream).sum().backward()
    (slow * upstream).sum().backward()
    assert_close(a.grad, b.grad, atol=1e-12, rtol=0)


def test_half_features_are_summed_in_float32():
    narrow = features().bfloat16()
    # In bfloat16 the coordinate 1001 would be 1000.
    rois = torch.tensor([[0.0, 1001, 1001, 1013, 1013]])
    pooled = roi_align(narrow, rois, 2, 1 / 128)
    assert pooled.dtype == torch.bfloat16
    assert_close(pooled, roi_align_reference(narrow.float(), rois, 2, 1 / 128).bfloat16())


def test_no_rois_stay_in_the_graph():
    maps = features(torch.float32).requires_grad_()
    pooled = roi_align(maps, torch.zeros(0, 5), 7, 0.25)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert maps.grad is not None and not maps.grad.any()
