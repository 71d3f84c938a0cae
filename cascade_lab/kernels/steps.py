"""What a kernel told on its way: the values and addresses of its ``watch`` calls, in order.

As text a trace can be kept and shown where there is no compiler.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

Index = tuple[int, int, int]  # (x, y, z)


@dataclass(frozen=True)
class Address:
    """An element of what one argument of the kernel points to."""

    argument: str  # as the kernel calls it
    element: int  # counted from where the argument points


@dataclass(frozen=True)
class Step:
    """One ``watch(name, ...)`` of one thread."""

    block: Index
    thread: Index
    name: str
    values: tuple[float, ...]  # the numbers among what was watched
    addresses: tuple[Address, ...]  # the pointers


class _Value(ctypes.Structure):
    _fields_ = [("number", ctypes.c_double), ("address", ctypes.c_void_p), ("bytes", ctypes.c_longlong)]


class Seen(ctypes.Structure):
    """A step as ``host/emulator.h`` writes it down."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
        ("count", ctypes.c_int),
        ("values", _Value * 10),
    ]


def as_step(seen: Seen, arguments: Mapping[str, int]) -> Step:
    """Return it as Python has it; ``arguments`` are those that are addresses, by name.

    An address belongs to the argument that begins nearest before it.
    """

    def element(value: _Value) -> Address:
        address = value.address or 0
        before = [name for name, base in arguments.items() if base <= address]
        name = max(before, key=lambda name: arguments[name], default="")
        return Address(name, (address - arguments.get(name, 0)) // value.bytes)

    told = seen.values[: seen.count]
    (bx, by, bz), (x, y, z) = seen.block, seen.thread
    return Step(
        block=(bx, by, bz),
        thread=(x, y, z),
        name=seen.name.decode(),
        values=tuple(value.number for value in told if not value.bytes),
        addresses=tuple(element(value) for value in told if value.bytes),
    )


def steps_to_json(steps: Sequence[Step]) -> str:
    """Return the steps as JSON; numbers that JSON does not know ("nan", "inf") become text."""

    def number(value: float) -> float | str:
        return value if abs(value) < float("inf") else str(value)

    plain = [asdict(step) | {"values": [number(value) for value in step.values]} for step in steps]
    return json.dumps(plain, allow_nan=False)


def steps_from_json(text: str) -> list[Step]:
    """Return what ``steps_to_json`` was given."""
    return [
        Step(
            block=tuple(step["block"]),
            thread=tuple(step["thread"]),
            name=step["name"],
            values=tuple(float(value) for value in step["values"]),
            addresses=tuple(Address(**address) for address in step["addresses"]),
        )
        for step in json.loads(text)
    ]
