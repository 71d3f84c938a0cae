"""The kernels of ``cuda_src`` on an NVIDIA GPU, compiled by NVRTC through CuPy: no compiler to install.

The only file that imports CuPy, and only when a GPU is used: CuPy imports well on machines without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from cascade_lab.kernels import source
from cascade_lab.kernels.host_compiler import CompileError
from cascade_lab.kernels.signature import Signature

FLAGS = ("-std=c++17",)


class CupyKernel:
    """One compiled kernel, launched on torch's current stream and device."""

    def __init__(self, function: Any, signature: Signature) -> None:
        self.signature = signature
        self._function = function

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any]) -> None:
        import cupy  # pyright: ignore[reportMissingImports]  (an extra)

        self.signature.marshal(args)
        with cupy.cuda.Stream.from_external(torch.cuda.current_stream()):
            self._function(tuple(grid), tuple(block), tuple(args))


def is_available() -> bool:
    """Say whether CuPy is installed and finds a GPU that it can use."""
    return why_not() == ""


@lru_cache
def why_not() -> str:
    """Return what keeps CuPy from running kernels here; empty where nothing does."""
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    try:
        import cupy  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        return f"CuPy is not installed ({error}); install cascade_lab[cuda13] or cascade_lab[cuda12]"
    return "" if cupy.cuda.is_available() else "CuPy finds no CUDA device (cupy.cuda.is_available() is false)"


def facts() -> dict[str, Any]:
    """Return CuPy's version (None where it cannot be imported), whether it finds a GPU, NVRTC's version and
    the architectures that it compiles for, and what went wrong on the way."""
    found = {"version": None, "finds_gpu": False, "nvrtc": None, "architectures": [], "problem": ""}
    try:
        import cupy  # pyright: ignore[reportMissingImports]  (an extra)

        found |= {"version": cupy.__version__, "finds_gpu": bool(cupy.cuda.is_available())}
        found["nvrtc"] = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
        found["architectures"] = [int(architecture) for architecture in cupy.cuda.nvrtc.getSupportedArchs()]
    except (ImportError, OSError, RuntimeError) as error:
        found["problem"] = " ".join(str(error).split())[:300]
    return found


def load(file: str, kernels: tuple[str, ...]) -> dict[str, CupyKernel]:
    """Compile kernels of a source file for the current device; each is named with its template arguments.

    Raises CompileError where NVRTC refuses the source, for instance because it finds no CUDA headers.
    """
    return _load(file, kernels, torch.cuda.current_device())


@lru_cache
def _load(file: str, kernels: tuple[str, ...], device: int) -> dict[str, CupyKernel]:
    import cupy  # pyright: ignore[reportMissingImports]  (an extra)

    text = source.read(file)
    module = cupy.RawModule(code=text, options=FLAGS, name_expressions=kernels)
    try:
        functions = {name: module.get_function(name) for name in kernels}  # the first one compiles
    except cupy.cuda.compiler.CompileException as error:
        raise CompileError(f"NVRTC refused {file}: {str(error).strip().splitlines()[0]}") from error
    return {name: CupyKernel(function, Signature.read(text, name)) for name, function in functions.items()}
