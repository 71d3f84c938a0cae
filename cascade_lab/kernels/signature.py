"""What CuPy makes of Python arguments, and whether that is what a kernel expects.

CuPy hands over whatever bytes an argument turns into, and checks neither their number nor their size: a
Python float is 8 bytes and reads as 0 in a ``float`` parameter. So every launch is checked here, on every
backend.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade_lab.kernels import source as sources
from cascade_lab.kernels.host_compiler import CompileError

POINTER = np.dtype(np.uintp)
KINDS = {"i": "i", "u": "i", "b": "i", "f": "f", "V": "s"}  # of numpy, and of host/signature.h


@dataclass(frozen=True)
class Signature:
    """The parameters of one kernel: name, and type or None for a pointer."""

    kernel: str
    parameters: tuple[tuple[str, np.dtype | None], ...]

    @classmethod
    def read(cls, source: str, kernel: str) -> Signature:
        """Read it from the C++ source; ``kernel`` may carry template arguments."""
        plain = kernel.split("<")[0].strip()
        return cls(plain, tuple(sources.parameters(source, plain)))

    def check_compiled(self, describe: Any) -> None:
        """Hold what was read from the text to what the host's compiler made of it (host/signature.h).

        Raises CompileError where the two differ.
        """
        count = len(self.parameters)
        kinds, sizes = ctypes.create_string_buffer(count + 64), (ctypes.c_int * (count + 64))()
        describe(kinds, sizes)
        read = [("p", 8) if t is None else (KINDS[t.kind], t.itemsize) for _, t in self.parameters]
        compiled = list(zip(kinds.value.decode(), sizes, strict=False))
        if read != compiled:
            raise CompileError(f"{self.kernel}: the source reads as {read}, compiled as {compiled}")

    def marshal(self, args: Sequence[Any]) -> list[np.ndarray]:
        """Return each argument as the bytes that CuPy would pass.

        Raises TypeError where number, kind, size or struct layout differ from the kernel's parameters.
        """
        if len(args) != len(self.parameters):
            raise TypeError(f"{self.kernel} takes {len(self.parameters)} arguments, got {len(args)}")
        passed = []
        for (name, kind), value in zip(self.parameters, args, strict=True):
            given = as_cupy_passes(value)
            if reason := _mismatch(kind, given):
                raise TypeError(f"{self.kernel}: argument {name} {reason}")
            passed.append(given)
        return passed


def as_cupy_passes(value: Any) -> np.ndarray:
    """Return the bytes that CuPy makes of an argument. Raises TypeError for what it refuses.

    Source: CuPy 14, cupy/cuda/function.pyx; tests/kernels/test_signature.py compares with CuPy itself.
    """
    if value is None:
        return np.array(0, dtype=POINTER)
    if isinstance(value, bool):
        return np.array(value)
    if isinstance(value, int):
        return np.array(value, dtype=np.int64)
    if isinstance(value, float):
        return np.array(value, dtype=np.float64)
    if isinstance(value, complex):
        return np.array(value, dtype=np.complex128)
    if isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, np.ndarray) and value.size == 1:
        return value.reshape(())
    raise TypeError(f"a kernel cannot take a {type(value).__name__}; pass tensors as data_ptr()")


def pointers(passed: Sequence[np.ndarray]) -> ctypes.Array[ctypes.c_void_p]:
    """Return the ``void**`` of cuLaunchKernel; ``passed`` must outlive it."""
    return (ctypes.c_void_p * len(passed))(*(value.ctypes.data for value in passed))


def _mismatch(wanted: np.dtype | None, given: np.ndarray) -> str:
    """Return what is wrong with an argument; empty where nothing is."""
    if wanted is None:
        whole = given.dtype.kind in "iu" and given.dtype.itemsize == POINTER.itemsize
        return "" if whole else f"must be an address (a Python int), got {given.dtype}"
    if wanted.names or given.dtype.names:
        return "" if wanted == given.dtype else f"must be a struct of {wanted}, got {given.dtype}"
    if wanted.kind != given.dtype.kind or wanted.itemsize != given.dtype.itemsize:
        return f"must be {wanted}, got {given.dtype}; pass numpy.{wanted.name}(value)"
    return ""
