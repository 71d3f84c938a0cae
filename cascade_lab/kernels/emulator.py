"""The kernels of ``cuda_src`` on a CPU exactly as a GPU would run them: slow, strict, and it can be watched.

Every CUDA thread is really there, with barriers, shared memory and shuffles, see ``host/emulator.h``. So this
finds what the fast path for CPUs cannot: a missing barrier (``run_orders``), threads that wait for ever,
addresses that are not aligned, and with ``guard_pages`` reads and writes out of bounds.

It does not find a missing atomic, nor what happens only between blocks at the same time: one thread runs at a
time. A kernel that never ends does not end here either.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cascade_lab.kernels import guard_pages, host_compiler, source
from cascade_lab.kernels.signature import Signature, pointers
from cascade_lab.kernels.steps import Index, Seen, Step, as_step

# No contraction to fused multiply-add, so that the numbers are the same on every machine.
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-fno-exceptions", "-U_FORTIFY_SOURCE", "-pthread")

# Whose turn comes first among the threads that can go on; a number is the seed of a random order.
Order = Literal["ascending", "descending"] | int
ORDERS: tuple[Order, ...] = ("ascending", "descending", 1, 2)
NAMED = {"ascending": 0, "descending": 1}  # as host/threads.h counts them

MOST_THREADS, MOST_ALONG = 1024, (2**31 - 1, 65535, 65535)  # of a block, blocks along x, y, z: as on a GPU


class EmulatorError(RuntimeError):
    """A kernel did what CUDA forbids or leaves undefined; one line that says which thread did what."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How launches run, whoever makes them; changed by ``emulating`` and ``recording``."""

    order: Order = "ascending"
    architecture: int = 800  # what __CUDA_ARCH__ says
    watched: tuple[tuple[Index, Index], ...] = ()  # (block, thread)
    steps: list[Step] | None = None


USUAL = Setup()
_setup: ContextVar[Setup] = ContextVar("setup", default=USUAL)
_one_at_a_time = threading.Lock()  # the signal handlers belong to the whole process


@contextmanager
def emulating(*, order: Order | None = None, architecture: int | None = None) -> Iterator[None]:
    """Within it, emulated kernels run in another order of threads, or are compiled for another GPU.

    Args:
        architecture: value of ``__CUDA_ARCH__``, such as 900 for the branches that only an H100 takes.
    """
    setup = _setup.get()
    order = setup.order if order is None else order
    with _set(replace(setup, order=order, architecture=architecture or setup.architecture)):
        yield


@contextmanager
def recording(*watched: tuple[Index, Index]) -> Iterator[list[Step]]:
    """Collect the ``watch`` calls of threads, given as (block, thread), of all launches within it.

    A pointer is told as an element of the argument that begins nearest before it.
    """
    steps: list[Step] = []
    with _set(replace(_setup.get(), watched=watched, steps=steps)):
        yield steps


def run_orders(
    run: Callable[[], Mapping[str, Tensor | np.ndarray]],
    *,
    orders: Sequence[Order] = ORDERS,
    rounding: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Call ``run`` once for every order of threads and return the first outputs, by name.

    Args:
        rounding: by how much an output may differ that threads add to: their sums round differently.

    Raises:
        EmulatorError: an output is not the same, bit by bit, in every order; a barrier is missing.
    """
    first: dict[str, Tensor] = {}
    for order in orders:
        with emulating(order=order):
            outputs = {name: torch.as_tensor(output).clone() for name, output in run().items()}
        first = first or outputs
        for name, expected in first.items():
            differing = _differing(expected, outputs[name], (rounding or {}).get(name))
            if len(differing):
                at = tuple(differing[0].tolist())
                raise EmulatorError(
                    f"output `{name}` depends on the order of the threads: element {at} is"
                    f" {expected[at].item()} {_words(orders[0])}, {outputs[name][at].item()} {_words(order)};"
                    " a barrier or an atomic is missing"
                )
    return first


class EmulatedKernel:
    """One compiled kernel; call it like CuPy's."""

    def __init__(self, library: ctypes.CDLL, number: int, signature: Signature) -> None:
        self.signature = signature
        self._launch = getattr(library, f"launch_{number}")
        self._launch.restype = None
        signature.check_compiled(getattr(library, f"describe_{number}"))

    def __call__(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_mem: int = 0
    ) -> None:
        """Run all threads. Raises TypeError for wrong arguments, EmulatorError for what a GPU would not do.

        Args:
            shared_mem: bytes of ``extern __shared__`` memory.
        """
        passed = self.signature.marshal(args)
        sizes = [(*size, *(1,) * (3 - len(size))) for size in (grid, block)]
        _check_sizes(*sizes)
        chosen, report = _setup.get(), _Report()
        order, seed = (2, chosen.order) if isinstance(chosen.order, int) else (NAMED[chosen.order], 0)
        watched = np.array(chosen.watched, dtype=np.uint32)
        setup = _Setup(order, seed, shared_mem, len(watched), watched.ctypes.data)
        addresses = {
            name: int(value)
            for (name, kind), value in zip(self.signature.parameters, passed, strict=True)
            if kind is None
        }
        with _one_at_a_time:
            lengths = [(ctypes.c_uint * 3)(*size) for size in sizes]
            self._launch(*lengths, pointers(passed), ctypes.byref(setup), ctypes.byref(report))
            if chosen.steps is not None:
                chosen.steps.extend(as_step(report.seen[i], addresses) for i in range(report.seen_count))
        if report.message:
            raise EmulatorError(report.message.decode() + _where(report.touched, addresses))


def load(file: str, kernels: tuple[str, ...]) -> dict[str, EmulatedKernel]:
    """Compile kernels of a file of ``cuda_src``; each is named with its template arguments.

    Raises:
        CompileError: there is no compiler, or it failed.
    """
    return build(source.read(file), kernels)


def build(text: str, kernels: tuple[str, ...]) -> dict[str, EmulatedKernel]:
    """Compile kernels of CUDA source text, as ``load`` does."""
    return _build(text, kernels, _setup.get().architecture)


@lru_cache
def _build(text: str, kernels: tuple[str, ...], architecture: int) -> dict[str, EmulatedKernel]:
    entries = [
        f'extern "C" void launch_{i}(const unsigned* grid, const unsigned* block, void** args,\n'
        f"                           const emulator::Setup* setup, emulator::Report* report) {{\n"
        f"    emulator::launch(grid, block, args, emulator::Entry<{name}>::run, setup, report);\n}}\n"
        f'extern "C" void describe_{i}(char* kinds, int* sizes) {{\n'
        f"    emulator::Entry<{name}>::describe(kinds, sizes);\n}}\n"
        for i, name in enumerate(kernels)
    ]
    define = f"#define __CUDA_ARCH__ {architecture}"
    whole = [define, source.read("host/emulator.h"), _with_shared_memory(text), *entries]
    library = host_compiler.library("\n".join(whole), FLAGS)
    return {name: EmulatedKernel(library, i, Signature.read(text, name)) for i, name in enumerate(kernels)}


def _with_shared_memory(text: str) -> str:
    """Declare ``__shared__`` variables so that the emulator knows where they are.

    One variable per declaration; several in one are refused by the compiler, which knows no ``__shared__``.
    """
    text = re.sub(
        r"\bextern\s+__shared__\s+([^;=\[]+?)\s*\b(\w+)\s*\[\s*\]\s*;",
        r"\1* const \2 = emulator::dynamic_shared_memory<\1>();",
        text,
    )
    return re.sub(
        r"\b__shared__\s+([^;=\[]+?)\s*\b(\w+)\s*((?:\[[^\]]*\]\s*)*);",
        r'using shared_\2 = \1 \3; shared_\2& \2 = emulator::shared_memory<shared_\2, __COUNTER__>("\2");',
        text,
    )


def _check_sizes(grid: Sequence[int], block: Sequence[int]) -> None:
    threads = int(np.prod(block, dtype=object))
    if min(*grid, *block) < 1 or threads > MOST_THREADS or block[2] > 64:
        raise EmulatorError(f"no GPU launches blocks of {tuple(block)} threads in a grid of {tuple(grid)}")
    if any(length > most for length, most in zip(grid, MOST_ALONG, strict=True)):
        raise EmulatorError(f"no GPU launches a grid of {tuple(grid)} blocks; at most {MOST_ALONG}")


def _where(touched: int | None, addresses: Mapping[str, int]) -> str:
    """Finish the sentence about a touched address: where it lies, seen from an argument."""
    if not touched:
        return ""
    found = guard_pages.fenced_at(touched)
    if not found:
        return ", far from every fenced argument"
    begin, size = found
    name = next(
        (f"argument `{n}`" for n, base in addresses.items() if begin <= base < begin + size), "a tensor"
    )
    if touched < begin:
        return f", {begin - touched} bytes before the beginning of {name}"
    return f", {touched - begin - size} bytes after the end of {name}"


def _differing(expected: Tensor, found: Tensor, rounding: float | None) -> Tensor:
    """Return the indices at which two tensors differ, (D, dimensions); bit by bit without ``rounding``."""
    if rounding is not None:
        same = torch.isclose(found.double(), expected.double(), rtol=0, atol=rounding, equal_nan=True)
    else:
        bytes_of = [t.contiguous().view(-1).view(torch.uint8).view(*t.shape, -1) for t in (expected, found)]
        same = (bytes_of[0] == bytes_of[1]).all(-1)
    return (~same).nonzero()


def _words(order: Order) -> str:
    return f"in random order {order}" if isinstance(order, int) else f"in {order} order"


@contextmanager
def _set(setup: Setup) -> Iterator[None]:
    token = _setup.set(setup)
    try:
        yield
    finally:
        _setup.reset(token)


class _Setup(ctypes.Structure):  # as host/emulator.h has it
    _fields_ = [
        ("order", ctypes.c_int),
        ("seed", ctypes.c_uint),
        ("shared_bytes", ctypes.c_uint),
        ("watched_count", ctypes.c_int),
        ("watched", ctypes.c_void_p),
    ]


class _Report(ctypes.Structure):  # likewise
    _fields_ = [
        ("message", ctypes.c_char * 400),
        ("touched", ctypes.c_void_p),
        ("seen", ctypes.POINTER(Seen)),
        ("seen_count", ctypes.c_int),
    ]
