"""The type that products come out in."""

import torch

from cascade_lab.engine.precision import autocast


def test_float32_is_the_plain_computation():
    a = torch.rand(4, 4)
    with autocast("float32", "cpu"):
        assert torch.equal(a @ a, torch.mm(a, a))
        assert (a @ a).dtype == torch.float32


def test_bfloat16_only_inside_and_only_for_products():
    a = torch.rand(4, 4)
    with autocast("bfloat16", torch.device("cpu")):
        assert (a @ a).dtype == torch.bfloat16
        assert (a + a).dtype == torch.float32
    assert (a @ a).dtype == torch.float32
