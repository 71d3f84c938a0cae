"""Where kernels can run."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from cascade_lab.kernels import cpu_backend, cupy_backend
from cascade_lab.kernels.host_compiler import CompileError

Machine = Literal["cpu", "cuda", "emulator"]


def machine_for(device: str) -> Machine | None:
    """Return what runs the kernels for tensors of a device type; None where plain PyTorch has to."""
    if obstacle(device):
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
