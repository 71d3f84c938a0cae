"""Batch norm over the boxes of all processes, written with nothing but sums: it also runs on CPUs."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncBatchNorm(nn.BatchNorm2d):
    """Normalise maps (N, C, H, W) with the mean and variance of all processes together.

    With n values a channel in all processes, and sums over all of them,

        mean = sum(x) / n,    var = sum((x - mean)^2) / n,    y = (x - mean) / sqrt(var + eps) * weight + bias

    and the running variance takes n / (n - 1) of var, as PyTorch's does. A process may bring another number
    of maps than its neighbours, or none at all: it still takes part in the sums, forward and backward.

    In evaluation, and in a single process, this is ``nn.BatchNorm2d``; parameters and buffers have its names.
    On GPUs ``nn.SyncBatchNorm`` does the same in its own kernels. Source: Ioffe and Szegedy 2015, "Batch
    Normalization", algorithm 1; the published InternImage box heads train with the synchronised form.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))  # half types cannot hold the sums
        count = x.new_tensor([float(x.numel() // self.num_features)])
        sums = SumOverProcesses.apply(torch.cat([x.sum((0, 2, 3)), count]))  # (C + 1,)
        n = sums[-1].detach().clamp(min=1)  # no map in any process: all sums are zero
        mean = (sums[:-1] / n).view(1, -1, 1, 1)
        centred = x - mean
        var = SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / n  # (C,)
        self._remember(mean.flatten().detach(), var.detach(), n, sums[-1] > 0)
        y = centred * (var + self.eps).rsqrt().view(1, -1, 1, 1)
        return (y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, n: Tensor, seen: Tensor) -> None:
        """Move the running statistics towards those of this batch, unless it was empty everywhere."""
        pairs = ((self.running_mean, mean), (self.running_var, var * n / (n - 1).clamp(min=1)))
        for running, new in pairs:
            if running is not None and self.momentum is not None:
                running += self.momentum * seen * (new - running)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


class SumOverProcesses(torch.autograd.Function):
    """Add up a tensor over all processes.

    Every process reads the sum, so what one brought acts on all their losses: the gradient is the sum of
    the gradients of all processes.
    """

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
