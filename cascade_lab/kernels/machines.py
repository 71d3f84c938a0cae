"""Where kernels can run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Literal

from cascade_lab.kernels import cpu_backend, cupy_backend
from cascade_lab.kernels.host_compiler import CompileError

Machine = Literal["cpu", "cuda", "emulator"]


_off: ContextVar[bool] = ContextVar("kernels switched off", default=False)


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
