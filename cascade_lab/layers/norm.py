"""The norms of the box head's convolutions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import distributed, nn

Norm = Literal["none", "batch", "sync_batch", "group"]


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Return a norm for maps (N, C, H, W).

    ``"sync_batch"`` is what the published models train with. In a single process it is the same
    arithmetic as ``"batch"``, which stands in for it; so it does in several processes on CPUs, where
    PyTorch has no synchronised form: each then has statistics of its own.
    """
    if norm == "none":
        return nn.Identity()
    if norm == "group":
        most = min(32, max(1, channels // 4))
        groups = next(groups for groups in range(most, 0, -1) if channels % groups == 0)
        return nn.GroupNorm(groups, channels)
    if norm == "sync_batch" and _several_gpus():
        return nn.SyncBatchNorm(channels)
    return nn.BatchNorm2d(channels)


def _several_gpus() -> bool:
    return torch.cuda.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
