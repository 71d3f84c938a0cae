"""The norms of the box head's convolutions."""

from __future__ import annotations

from typing import Literal

from torch import distributed, nn

from cascade_lab.layers.sync_batch_norm import SyncBatchNorm

Norm = Literal["none", "batch", "sync_batch", "group"]


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Return a norm for maps (N, C, H, W).

    ``"sync_batch"`` is what the published models train with: statistics over the boxes of all processes.
    PyTorch has it for GPUs only; on CPUs our own form computes the same. In a single process it is the same
    arithmetic as ``"batch"``, which stands in for it. All have parameters and buffers of the same names.
    """
    if norm == "none":
        return nn.Identity()
    if norm == "group":
        most = min(32, max(1, channels // 4))
        groups = next(groups for groups in range(most, 0, -1) if channels % groups == 0)
        return nn.GroupNorm(groups, channels)
    if norm == "sync_batch" and distributed.is_available() and distributed.is_initialized():
        gpus = distributed.get_backend() == "nccl"
        return nn.SyncBatchNorm(channels) if gpus else SyncBatchNorm(channels)
    return nn.BatchNorm2d(channels)
