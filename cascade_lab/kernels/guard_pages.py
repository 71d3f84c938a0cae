"""Memory with a fence: to touch what lies directly before or after a tensor is an error, not a wrong result.

A fence is memory that the system lets nobody read or write. Memory comes in pages, so a tensor can either end
exactly at the fence or begin exactly at it; a test runs both.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Side = Literal["before", "after"]
FENCE = 1 << 20  # bytes on either side, so that most wild addresses still hit it
NO_ACCESS = 0  # PROT_NONE

Values = TypeVar("Values", np.ndarray, Tensor)
_fenced: dict[
    int, tuple[int, range]
] = {}  # first byte -> bytes, all addresses with the fences; of what is alive


def fence(values: Values, side: Side = "after") -> Values:
    """Return a copy with the fence exactly at its first byte ("before") or behind its last ("after").

    With "after" the copy is aligned to 16 bytes only if its size is a multiple of 16 bytes.

    Raises OSError where the system does not protect memory.
    """
    memory: Any = _allocate(values.nbytes, side)
    if isinstance(values, np.ndarray):
        made: Any = np.frombuffer(memory, values.dtype, values.size).reshape(values.shape)
        made[...] = values
    else:
        made = torch.frombuffer(memory, dtype=values.dtype, count=values.numel()).view(values.shape)
        made.copy_(values)
    return cast(Values, made)


class FencedOutputs(TorchFunctionMode):
    """Within it the empty tensors that code makes for its results are fenced, and NaN until they are written.

    Covers ``new_empty``, ``empty_like`` and ``zeros_like`` (fenced, but zero). Whole numbers start as the
    least there is.
    """

    def __init__(self, side: Side = "after") -> None:
        super().__init__()
        self.side: Side = side

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.zeros_like:
            return fence(made, self.side)
        if func in (torch.empty_like, Tensor.new_empty):
            real = made.is_floating_point()
            return fence(made.fill_(float("nan") if real else torch.iinfo(made.dtype).min), self.side)
        return made


def is_fenced(values: np.ndarray | Tensor) -> bool:
    """Say whether ``values`` begin where fenced memory does."""
    address = values.ctypes.data if isinstance(values, np.ndarray) else values.data_ptr()
    return address in _fenced


def fenced_at(address: int) -> tuple[int, int] | None:
    """Return first byte and size of the fenced memory that an address belongs to, its fences included."""
    return next(((begin, size) for begin, (size, around) in _fenced.items() if address in around), None)


def _allocate(size: int, side: Side) -> ctypes.Array[ctypes.c_char]:
    room = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, room + 2 * FENCE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for fenced in (start, start + FENCE + room):
        if protect(ctypes.c_void_p(fenced), ctypes.c_size_t(FENCE), NO_ACCESS):
            raise OSError(ctypes.get_errno(), f"mprotect: {os.strerror(ctypes.get_errno())}")
    offset = FENCE if side == "before" else FENCE + room - size
    _fenced[start + offset] = size, range(start, start + len(memory))
    weakref.finalize(memory, _fenced.pop, start + offset)
    return (ctypes.c_char * size).from_buffer(memory, offset)
