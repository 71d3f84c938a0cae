"""The kernels of ``cuda_src`` on a CPU: the same source, compiled by the host's C++ compiler.

A block is a loop over its threads and the blocks are shared out among a few workers, see ``host/cpu.h``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import torch

from cascade_lab.kernels import host_compiler, source
from cascade_lab.kernels.signature import Signature, pointers

# -mprefer-vector-width: GCC would use half of an AVX-512 register. The three -fno flags drop what no kernel
# looks at (errno, floating-point traps, the sign of zero) and leave infinities and NaN as they are.
FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-ffp-contract=fast",
    "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-pthread",
)  # fmt: skip
ENTRY = """
extern "C" void launch_{number}(const unsigned* grid, const unsigned* block, void** args, int workers) {{
    Launch<{kernel}, {owns_y}>::run(grid, block, args, workers);
}}
extern "C" void describe_{number}(char* kinds, int* sizes) {{
    Launch<{kernel}, {owns_y}>::describe(kinds, sizes);
}}"""
INSTEAD = (("floats.cuh", "host/floats.h"),)
THREADS_WORTH_A_WORKER = 2000  # with fewer CUDA threads each, starting workers takes longer than the work

# Which blocks may run side by side: any two that differ along x, or only those with different (y, z), because
# blocks of one (y, z) add to the same memory.
SharedOut = Literal["x", "y"]


class CpuKernel:
    """One compiled kernel; call it like CuPy's. Deterministic, whatever the number of threads."""

    def __init__(self, library: ctypes.CDLL, number: int, signature: Signature) -> None:
        self.signature = signature
        self._launch = getattr(library, f"launch_{number}")
        self._launch.restype = None
        signature.check_compiled(getattr(library, f"describe_{number}"))

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any]) -> None:
        passed = self.signature.marshal(args)
        sizes = [(ctypes.c_uint * 3)(*size, *(1,) * (3 - len(size))) for size in (grid, block)]
        threads = 1
        for length in (*grid, *block):
            threads *= length
        if threads:
            workers = max(1, min(torch.get_num_threads(), threads // THREADS_WORTH_A_WORKER))
            self._launch(*sizes, pointers(passed), ctypes.c_int(workers))


@lru_cache
def load(file: str, kernels: tuple[tuple[str, SharedOut], ...]) -> dict[str, CpuKernel]:
    """Compile kernels of a source file; each is named with its template arguments.

    Raises:
        CompileError: there is no compiler, or it failed.
    """
    text = source.read(file, INSTEAD)
    signatures = [Signature.read(text, name) for name, _ in kernels]
    entries = [
        ENTRY.format(number=i, kernel=name, owns_y="true" if shared_out == "y" else "false")
        for i, (name, shared_out) in enumerate(kernels)
    ]
    library = host_compiler.library("\n".join([source.read("host/cpu.h"), text, *entries]), FLAGS)
    return {name: CpuKernel(library, i, signatures[i]) for i, (name, _) in enumerate(kernels)}
