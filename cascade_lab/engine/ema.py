"""A running average of the weights: often better than the weights themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def momentum(step: int, final: float, warmup: int) -> float:
    """Return the share of the new weights at step ``step`` (from 0).

    Near 1 at first, so that the average forgets the random start, then ``final``.

    Source: mmdetection's ExpMomentumEMAHook.
    """
    if warmup == 0:
        return final
    return (1 - final) * math.exp(-(1 + step) / warmup) + final


class Ema:
    """The average of the whole state of a model, batch norm statistics included.

    Attributes:
        state: name -> tensor, detached; integers (counters) are copies of the newest value, which the
            official hook leaves at their first. Nothing reads them.
    """

    def __init__(self, model: nn.Module, final: float, warmup: int = 2000) -> None:
        self.final = final
        self.warmup = warmup
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights that step ``step`` (from 0) produced."""
        share = momentum(step, self.final, self.warmup)
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].mul_(1 - share).add_(value, alpha=share)
            else:
                self.state[name].copy_(value)

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved average.

        Raises:
            KeyError: a name is missing.
        """
        for name, value in self.state.items():
            value.copy_(state[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let ``model`` carry the average inside a ``with`` block, and its own weights again after it."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.state)
        try:
            yield
        finally:
            model.load_state_dict(own)
