"""Parameter groups by hand on a model of six parameters, and clipping by Pythagoras."""

import math

import pytest
import torch
from torch import nn

from cascade_lab.engine.optim import (
    OptimConfig,
    build_optimizer,
    clip_gradients,
    gradient_norm,
    set_lr,
)
from cascade_lab.errors import InputError


class Model(nn.Module):
    num_layers = 2

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm1 = nn.LayerNorm(4)
        self.gamma = nn.Parameter(torch.ones(4))
        self.head = nn.Linear(4, 2)
        self.frozen = nn.Linear(4, 2, bias=False).requires_grad_(False)

    def layer_of(self, name: str) -> int:
        return {"stem": 0, "norm1": 1, "gamma": 2, "head": 3}[name.split(".")[0]]


def test_groups_by_depth_and_weight_decay():
    optimizer = build_optimizer(Model(), OptimConfig(lr=1.0, weight_decay=0.05, layer_decay=0.5))
    found = {
        name: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    # 0.5 ** (2 + 1 - layer): the stem lies three steps below the heads
    assert found == {
        "stem.weight": (0.125, 0.05),
        "stem.bias": (0.125, 0.0),
        "norm1.weight": (0.25, 0.0),
        "norm1.bias": (0.25, 0.0),
        "gamma": (0.5, 0.0),
        "head.weight": (1.0, 0.05),
        "head.bias": (1.0, 0.0),
    }


@pytest.mark.parametrize("name", ["relative_position_table", "sampling_offsets", "post_norms"])
def test_no_decay_by_name_even_for_matrices(name):
    model = Model()
    model.layer_of = lambda _: 3
    model.register_parameter(name, nn.Parameter(torch.ones(2, 2)))
    groups = build_optimizer(model, OptimConfig(lr=1.0)).param_groups
    assert [g["weight_decay"] for g in groups if name in g["param_names"]] == [0.0]


def test_set_lr_keeps_the_share_of_every_group():
    optimizer = build_optimizer(Model(), OptimConfig(lr=1.0, layer_decay=0.5))
    set_lr(optimizer, 0.01)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.00125, 0.0025, 0.005, 0.01]


def test_one_step_is_the_closed_form_of_adamw():
    model = Model()
    optimizer = build_optimizer(model, OptimConfig(lr=0.1, weight_decay=0.05))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.full_like(p, 2.0)
    optimizer.step()
    # the first step of Adam has length lr whatever the gradient; decay shrinks weights by lr * 0.05
    torch.testing.assert_close(model.head.weight.detach(), before["head.weight"] * (1 - 0.005) - 0.1)
    torch.testing.assert_close(model.head.bias.detach(), before["head.bias"] - 0.1)
    assert torch.equal(model.frozen.weight, before["frozen.weight"])


def test_norm_and_clipping():
    model = Model()
    optimizer = build_optimizer(model, OptimConfig(lr=1.0))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    model.head.bias.grad = torch.tensor([3.0, 0.0])
    model.gamma.grad = torch.tensor([0.0, 4.0, 0.0, 0.0])
    norm = gradient_norm(optimizer)
    assert norm == pytest.approx(5.0)
    clip_gradients(optimizer, 1.0, norm)
    assert model.head.bias.grad.tolist() == pytest.approx([0.6, 0.0], abs=1e-6)
    assert model.gamma.grad.tolist() == pytest.approx([0, 0.8, 0, 0], abs=1e-6)
    clip_gradients(optimizer, 10.0, gradient_norm(optimizer))  # already short enough
    assert model.head.bias.grad.tolist() == pytest.approx([0.6, 0.0], abs=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_entry_makes_the_norm_not_finite(bad):
    model = Model()
    optimizer = build_optimizer(model, OptimConfig(lr=1.0))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    model.stem.weight.grad[1, 2, 0, 0] = bad
    assert not gradient_norm(optimizer).isfinite()


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"lr": 0}, "optim.lr"),
        ({"lr": math.nan}, "optim.lr"),
        ({"lr": 1, "weight_decay": -1}, "optim.weight_decay"),
        ({"lr": 1, "betas": (0.9, 1.0)}, "optim.betas"),
        ({"lr": 1, "layer_decay": 1.1}, "optim.layer_decay"),
        ({"lr": 1, "clip_norm": 0.0}, "optim.clip_norm"),
        ({"lr": 1, "lr_for_batch": 0}, "optim.lr_for_batch"),
        ({"lr": 1, "images_at_once": 0}, "optim.images_at_once"),
    ],
)
def test_refuses_what_makes_no_sense(fields, named):
    with pytest.raises(InputError, match=named):
        OptimConfig(**fields)
