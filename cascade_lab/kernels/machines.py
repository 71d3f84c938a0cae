"""Where kernels can run, and whether they compute there what they should."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from cascade_lab.kernels import cpu_backend, cupy_backend, host_compiler
from cascade_lab.kernels.host_compiler import CompileError

Machine = Literal["cpu", "cuda", "emulator"]
ELEMENT = {  # what C++ calls the types that there are kernels for
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "__half",
    torch.bfloat16: "__nv_bfloat16",
}
GPU_THREADS = 256  # of a block

_off: ContextVar[bool] = ContextVar("kernels switched off", default=False)


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type of sums and coordinates, ``Accumulator<T>`` in C++."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@contextmanager
def switched_off() -> Iterator[None]:
    """Within it everything that is left to choose runs as plain PyTorch: to compare."""
    token = _off.set(True)
    try:
        yield
    finally:
        _off.reset(token)


def are_switched_off() -> bool:
    return _off.get()


def machine_for(device: str) -> Machine | None:
    """Return what runs the kernels for tensors of a device type; None where plain PyTorch has to."""
    if are_switched_off() or obstacle(device):
        return None
    return "cuda" if device == "cuda" else "cpu"


@lru_cache
def obstacle(device: str) -> str:
    """Return what keeps the kernels from running for tensors of a device type; empty where nothing does."""
    if device == "cuda":
        return cupy_backend.why_not()
    if device != "cpu":
        return f"there are no kernels for {device} tensors"
    try:
        cpu_backend.load("mask_paste.cu", (("paste_masks", "y"),))  # the smallest: does the compiler work?
    except CompileError as error:
        return str(error)
    return ""


def tried(
    device: str, dtype: torch.dtype, check: Callable[[Machine, torch.dtype], object]
) -> tuple[Machine | None, str]:
    """Return what runs kernels for tensors of this kind after ``check`` has passed there, and the reason.

    None, with what is missing, where plain PyTorch has to. Raises what ``check`` raises about wrong results.
    """
    reason = obstacle(device)
    if not reason and dtype not in ELEMENT:
        reason = f"there are no kernels for {dtype}"
    if reason:
        return None, reason
    machine: Machine = "cuda" if device == "cuda" else "cpu"
    try:
        # The first call may come from a checkpointed block, which counts what autograd saves, or from a model
        # that is being exported, which records every operation. Both look at their own thread only.
        with ThreadPoolExecutor(1) as aside:
            aside.submit(_on_device, _current_device(device), check, machine, dtype).result()
    except CompileError as error:
        return None, str(error)
    if machine == "cuda":
        return machine, "CuPy and a GPU are there"
    return machine, f"a C++ compiler is there: {host_compiler.find()}"


def largest_error(name: str, machine: Machine, found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return by how much of the largest value ``found`` differs from ``expected``, at most.

    Raises RuntimeError where that is more than rounding.
    """
    errors = [
        float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)
    ]
    allowed = 64 * torch.finfo(found[0].dtype).eps
    if not max(errors) < allowed:
        raise RuntimeError(
            f"the {name} kernels ({machine}, {found[0].dtype}) differ from the reference by {max(errors):.1e}"
            f" (allowed {allowed:.1e}): do not train with them; report it with the output of"
            " cascade-lab doctor --json"
        )
    return max(errors)


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which a tensor's GPU is the current one; it does nothing for other tensors."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _current_device(device: str) -> int | None:
    return torch.cuda.current_device() if device == "cuda" else None


def _on_device(index: int | None, check: Callable[[Machine, torch.dtype], object], *args: Any) -> None:
    with nullcontext() if index is None else torch.cuda.device(index):
        check(*args)
