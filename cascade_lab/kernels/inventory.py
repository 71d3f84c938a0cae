"""What this machine has for kernels, as plain values: processor, driver, GPUs, CuPy, compiler, cache."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

from cascade_lab.kernels import cupy_backend, host_compiler


def processor() -> dict[str, Any]:
    """Return the processor's name, the cores that this process may use, and whether it has AVX-512."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return {"name": name, "cores": cores(), "avx512": "avx512f" in host_compiler.processor().split()}


def cores() -> int:
    """Return how many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def driver() -> dict[str, Any]:
    """Return the NVIDIA driver's version and the newest CUDA that it runs; both None without a driver."""
    number = ctypes.c_int(0)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    cuda = f"{number.value // 1000}.{number.value % 1000 // 10}" if number.value else None
    seen = nvidia_smi("driver_version")
    return {"version": seen[0][0] if seen else None, "cuda": cuda}


def gpus() -> list[dict[str, Any]]:
    """Return the GPUs that torch sees; where it sees none, those that the driver's nvidia-smi lists."""
    if torch.cuda.is_available():
        seen = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
        return [_gpu(p.name, f"{p.major}.{p.minor}", p.total_memory / 2**30) for p in seen]
    listed = nvidia_smi("name", "compute_cap", "memory.total")
    return [_gpu(name, cap, float(mib) / 1024 if mib.isdigit() else None) for name, cap, mib in listed]


def nvidia_smi(*fields: str) -> list[list[str]]:
    """Return the fields of every GPU as nvidia-smi prints them; nothing where it is not there or fails."""
    path = shutil.which("nvidia-smi")
    if path is None:
        return []
    query = [path, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [[part.strip() for part in line.split(",")] for line in said.stdout.splitlines()]
    return [row for row in rows if len(row) == len(fields)] if said.returncode == 0 else []


def cupy() -> dict[str, Any]:
    """Return what CuPy says of itself, and the packages that bring it; more than one do not get along."""
    named = {(found.metadata["Name"] or "").lower() for found in distributions()}
    packages = sorted(name for name in named if name == "cupy" or name.startswith("cupy-"))
    return {"packages": packages, **cupy_backend.facts()}


def compiler() -> dict[str, Any]:
    """Return path and version of the C++ compiler, None where there is none, and what ``CXX`` asks for."""
    path = host_compiler.find()
    said = host_compiler.version(path).removeprefix(path).strip() if path else None
    return {"path": path, "version": said, "CXX": os.environ.get("CXX")}


def kernel_cache() -> dict[str, Any]:
    """Return the folder of compiled kernels and what is wrong with it, if anything."""
    try:
        path = host_compiler.cache_folder()  # refuses one that others may write to
    except (OSError, host_compiler.CompileError) as problem:
        return {"path": None, "writable": False, "private": False, "problem": str(problem)}
    writable = os.access(path, os.W_OK)
    problem = "" if writable else f"{path}: cannot be written to"
    return {"path": str(path), "writable": writable, "private": True, "problem": problem}


def cupy_extra(driver: dict[str, Any]) -> str:
    """Return the extra with a CuPy that the driver can run; empty where it is too old, or there is none.

    CUDA 13 needs a driver that was made for it; CUDA 12 runs on newer drivers too.
    """
    major = int((driver["cuda"] or "0").split(".")[0])
    return "cuda13" if major >= 13 else "cuda12" if major == 12 else ""


def _gpu(name: str, capability: str, memory_gib: float | None) -> dict[str, Any]:
    memory = None if memory_gib is None else round(memory_gib, 1)  # a GPU may share that of the processor
    return {"name": name, "compute_capability": capability, "memory_gib": memory}
