"""Several processes as one: every function here also works, and does nothing, in a single process.

Start with ``torchrun --nproc-per-node N -m cascade_lab.train ...``.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn


def setup() -> torch.device:
    """Join the other processes that torchrun started, if any, and return this one's device."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(local_rank)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if gpu else "gloo")
    return torch.device("cuda", local_rank) if gpu else torch.device("cpu")


def cleanup() -> None:
    """Leave the group of processes."""
    if _in_group():
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if _in_group() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _in_group() else 1


def is_main() -> bool:
    """Say whether this process is the one that writes files and talks."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process has come this far."""
    if _in_group():
        dist.barrier()


def wrap(detector: nn.Module) -> nn.Module:
    """Return a module that averages the gradients of all processes in ``backward``.

    The loss must touch every parameter in every process; ``find_unused_parameters`` would only hide that
    it does not. Batches are moved by the caller, hence no ``device_ids``.
    """
    return nn.parallel.DistributedDataParallel(detector) if _in_group() else detector


def all_reduce_sum(value: Tensor) -> Tensor:
    """Return the sum of ``value`` over all processes, detached."""
    total = value.detach().clone()
    if _in_group():
        dist.all_reduce(total)
    return total


def any_process(flag: bool) -> bool:
    """Say whether ``flag`` is set in at least one process, with the same answer in all."""
    if not _in_group():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return bool(all_reduce_sum(torch.tensor(float(flag), device=device)) > 0)


def _in_group() -> bool:
    return dist.is_available() and dist.is_initialized()
