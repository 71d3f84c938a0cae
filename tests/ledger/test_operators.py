"""Counting operators: hand-worked cases, PyTorch's own counter, and no operator left out in silence."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cascade_lab.ledger import parts
from cascade_lab.ledger.operators import OperationCounter, typical_side
from cascade_lab.ops.dcnv3 import dcnv3
from cascade_lab.ops.roi_align import pyramid_roi_align
from tests.tiny_detector import SIZE, tiny


def count(call, side: float = 21.0) -> dict[str, int]:
    counter = OperationCounter(side)
    with torch.no_grad(), counter.part("here"):
        call()
    assert counter.by_part["here"] == sum(counter.by_kind.values())
    return dict(counter.by_kind)


@pytest.mark.parametrize(
    "layer, shape, kind, expected",
    [
        # 3x3 kernel, 4 to 6 channels, 5x5 positions: 25 * 6 * (9 * 4 + 1)
        (nn.Conv2d(4, 6, 3, padding=1), (1, 4, 5, 5), "convolution", 5550),
        (nn.Conv2d(4, 6, 3, padding=1, bias=False), (2, 4, 5, 5), "convolution", 10800),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (1, 4, 5, 5), "convolution", 900),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), (1, 4, 5, 7), "convolution", 3 * 4 * 216),
        # each of 4 inputs is spread over a 2x2 kernel; a bias for each of 16 outputs
        (nn.ConvTranspose2d(3, 5, 2, stride=2), (1, 3, 2, 2), "convolution", 4 * 60 + 16 * 5),
        (nn.Linear(7, 3), (1, 2, 5, 7), "linear", 10 * 3 * 8),
        (nn.Linear(7, 3, bias=False), (10, 7), "linear", 10 * 3 * 7),
        (nn.LayerNorm(8), (3, 8), "norm", 96),
        (nn.GroupNorm(2, 8), (1, 8, 3, 1), "norm", 96),
        (nn.BatchNorm2d(8).eval(), (1, 8, 3, 1), "norm", 48),
        (nn.ReLU(), (3, 8), "element-wise", 24),
        (nn.GELU(), (3, 8), "element-wise", 24),
    ],
)
def test_layers_by_hand(layer, shape, kind, expected):
    for device in ("cpu", "meta"):
        x = torch.ones(shape, device=device)
        assert count(partial(layer.to(device), x)) == {kind: expected}


@pytest.mark.parametrize("rule, each_point", [("softmax", 13), ("none", 10)])
def test_dcnv3_by_hand(rule, each_point):
    """6 positions, 2 groups of 4 channels, 9 points: 4 corners a channel, and the work on each point."""
    maps = [torch.empty(1, 2, 3, channels, device="meta") for channels in (8, 36, 18)]
    found = count(lambda: dcnv3(*maps, groups=2, rule=rule, backend="cpu"))
    assert found == {"DCNv3": 6 * 9 * (4 * 8 + each_point * 2)}


@pytest.mark.parametrize("ratio, side, samples", [(2, 21.0, 2), (0, 21.0, 3), (0, 22.0, 4), (0, 7.0, 1)])
def test_roi_align_by_hand(ratio, side, samples):
    """5 boxes, 6 channels, 7x7 bins, a square of samples in each, 4 corners a sample."""
    level, rois = torch.empty(1, 6, 9, 9, device="meta"), torch.empty(5, 5, device="meta")
    levels = torch.empty(5, dtype=torch.int64, device="meta")
    found = count(lambda: pyramid_roi_align([level], rois, levels, 7, [0.25], ratio, backend="cpu"), side)
    assert found == {"RoIAlign": 5 * 6 * 49 * samples**2 * 4}


def test_a_typical_box_lies_between_those_of_its_level():
    assert 56 / 4 < typical_side(56.0, 4) < 112 / 4


def test_interpolation_counts_and_moving_is_free():
    x = torch.empty(1, 3, 4, 4, device="meta")
    assert count(lambda: functional.interpolate(x, size=(8, 8))) == {"element-wise": 3 * 64}
    assert count(lambda: torch.cat([x, x]).permute(0, 2, 3, 1).contiguous().flatten(1)[:, ::2]) == {}


def test_an_operator_without_a_rule_is_named():
    with pytest.raises(NotImplementedError, match=r"aten\.sort.*no rule"):
        count(torch.ones(3).sort)


def test_convolutions_and_products_as_pytorch_counts_them():
    """Its counter counts a multiply-accumulate as two and no bias: so without biases ours is half of it.
    The doubling of the masks must have one, which is one operation for each of its outputs."""
    detector = tiny().eval()
    for module in detector.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.bias = None
    mask_head = detector.config.cascade.mask_head
    biases = len(detector.config.cascade.mask_stages) * 20 * mask_head.mask_size**2 * mask_head.channels
    pixels, counter = torch.rand(1, 3, *SIZE), OperationCounter(21.0)
    with FlopCounterMode(display=False) as theirs:
        parts.infer(detector, pixels, 30, 20, lambda name: nullcontext())
    detector.to("meta")
    for module in detector.backbone.modules():
        if hasattr(module, "backend"):
            module.backend = "cpu"
    parts.infer(detector, pixels.to("meta"), 30, 20, counter.part)
    own = counter.by_kind["convolution"] + counter.by_kind["linear"] - biases
    assert 2 * own == theirs.get_total_flops() > 0
