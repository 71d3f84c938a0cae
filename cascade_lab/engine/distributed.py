"""Several processes as one: every function here also works, and does nothing, in a single process.

On one machine with N GPUs, and on each of M machines that reach the first one as HOST:

    torchrun --standalone --nproc-per-node N -m cascade_lab.train RECIPE --output RUN
    torchrun --nnodes M --nproc-per-node N --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        -m cascade_lab.train RECIPE --output RUN

All machines must see the run folder. Neither the meeting point nor the traffic is protected: use a private
network. When a process dies, the others fail at their next sum, or after ``TIMEOUT`` where it only went
silent, and torchrun ends them all. The same command with ``--resume`` goes on, and may have another number
of processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cascade_lab.errors import InputError

Value = TypeVar("Value")
TIMEOUT = timedelta(minutes=15)  # a large checkpoint on a slow disk lets the other processes wait for minutes


def setup(timeout: timedelta = TIMEOUT) -> torch.device:
    """Join the other processes that torchrun started, if any, and return this one's device.

    Waiting for a process longer than ``timeout`` is an error in all others.

    Raises:
        InputError: there are fewer GPUs than processes.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    gpu = torch.cuda.is_available()
    if gpu and local_rank >= torch.cuda.device_count():
        raise InputError(
            f"torchrun --nproc-per-node: {torch.cuda.device_count()} GPUs here, too few for process"
            f" {local_rank}; start one process per GPU"
        )
    if gpu:
        torch.cuda.set_device(local_rank)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if gpu else "gloo", timeout=timeout)
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


def share(images_per_batch: int) -> int:
    """Return how many pictures of a batch each process gets; InputError where they do not divide."""
    if images_per_batch % world_size():
        raise InputError(
            f"data.images_per_batch: {images_per_batch} does not divide by the {world_size()} processes;"
            " take a multiple of them"
        )
    return images_per_batch // world_size()


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
    if not _in_group():
        return detector
    return nn.parallel.DistributedDataParallel(detector, gradient_as_bucket_view=True)


def averaging(model: nn.Module, now: bool) -> AbstractContextManager[object]:
    """Return a context for forward and backward; unless ``now``, gradients wait for a later backward pass."""
    if isinstance(model, nn.parallel.DistributedDataParallel) and not now:
        return model.no_sync()
    return nullcontext()


def from_main(decide: Callable[[], Value]) -> Value:
    """Let the main process decide, and return in every process what it decided."""
    decided = [decide() if is_main() else None]
    if _in_group():
        dist.broadcast_object_list(decided, src=0)
    return decided[0]  # type: ignore[return-value]


def from_all(values: Sequence[Value]) -> list[Value]:
    """Return the values of every process, one process after the other, in all of them."""
    parts: list[Any] = [list(values)]
    if _in_group():
        parts = [None] * world_size()
        dist.all_gather_object(parts, list(values))
    return [value for part in parts for value in part]


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
