"""Stochastic depth: whole samples fall out, and the mean stays."""

import pytest
import torch

from cascade_lab.layers.drop_path import DropPath


def test_drops_whole_samples_and_scales_the_others():
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    kept = out[:, 0, 0] > 0
    assert torch.equal(out, (kept / 0.75)[:, None, None].expand(4000, 2, 3))
    # 4000 draws of 0.75 have a standard deviation of 0.007.
    assert abs(kept.float().mean() - 0.75) < 0.03


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_does_nothing_otherwise(rate: float, training: bool):
    branch = torch.ones(8, 2)
    assert DropPath(rate).train(training)(branch) is branch


def test_chance_is_that_of_the_global_generator():
    layer, branch = DropPath(0.5).train(), torch.ones(64, 1)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(layer(branch))
    assert torch.equal(*drawn)


def test_keeps_the_type():
    assert DropPath(0.5).train()(torch.ones(4, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_outside_the_range_are_refused(rate: float):
    with pytest.raises(ValueError, match="drop path rate"):
        DropPath(rate)


def test_says_its_rate():
    assert "rate=0.125" in repr(DropPath(0.125))
