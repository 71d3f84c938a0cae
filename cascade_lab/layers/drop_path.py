"""Stochastic depth: leave out a whole residual branch, sample by sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero the branch of a sample with probability ``rate`` and scale the others by 1 / (1 - rate).

    Does nothing outside training. Source: Huang et al. 2016, "Deep Networks with Stochastic Depth".
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop path rate must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        one_per_sample = (len(branch),) + (1,) * (branch.ndim - 1)
        return branch * torch.empty(one_per_sample).bernoulli_(keep).to(branch) / keep

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"
