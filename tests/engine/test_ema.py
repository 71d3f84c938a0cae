"""The average of the weights by hand; tests/oracle/test_optim.py has the official trace."""

import math

import pytest
import torch
from torch import nn

from cascade_lab.engine.ema import Ema, momentum


class Number(nn.Module):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.register_buffer("mean", torch.tensor(value))
        self.register_buffer("count", torch.tensor(0))

    def set(self, value: float, count: int) -> None:
        with torch.no_grad():
            self.value.fill_(value)
        self.mean.fill_(-value)
        self.count.fill_(count)


def test_momentum_starts_near_one_and_falls_to_its_end():
    assert momentum(0, 0.0001, 2000) == pytest.approx(0.9999 * math.exp(-1 / 2000) + 0.0001)
    assert momentum(10**6, 0.0001, 2000) == pytest.approx(0.0001)
    assert momentum(0, 0.01, 0) == momentum(500, 0.01, 0) == 0.01


def test_constant_momentum_by_hand():
    model = Number(8.0)
    average = Ema(model, final=0.25, warmup=0)
    model.set(4.0, 1)
    average.update(model, 0)
    model.set(0.0, 2)
    average.update(model, 1)
    # 8 -> 0.75 * 8 + 0.25 * 4 = 7 -> 0.75 * 7 + 0 = 5.25; the buffer: 8 -> 5 -> 3.75
    assert average.state["value"].item() == 5.25
    assert average.state["mean"].item() == 3.75
    assert average.state["count"].item() == 2


def test_applied_swaps_and_swaps_back_even_after_an_error():
    model = Number(1.0)
    average = Ema(model, final=0.1)
    model.set(3.0, 7)
    average.state["value"].fill_(2.0)

    def look_and_fail() -> None:
        with average.applied(model):
            assert model.value.item() == 2.0
            assert model.count.item() == 0
            raise KeyError

    with pytest.raises(KeyError):
        look_and_fail()
    assert (model.value.item(), model.mean.item(), model.count.item()) == (3.0, -3.0, 7)
    assert average.state["value"].item() == 2.0


def test_the_average_is_a_copy_and_loads_into_place():
    model = Number(1.0)
    average = Ema(model, final=0.1)
    model.set(5.0, 1)
    assert average.state["value"].item() == 1.0
    average.load(model.state_dict())
    model.set(6.0, 2)
    assert average.state["value"].item() == 5.0
