"""Arguments go over as the bytes that CuPy itself makes of them, and wrong ones are named before a launch."""

from __future__ import annotations

import ctypes
import importlib.util
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cascade_lab.kernels.signature import Signature, as_cupy_passes, pointers

needs_cupy = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None, reason="CuPy is not installed: nothing to compare with"
)

SHAPE = np.dtype([("scale", "f8"), ("height", "i4"), ("width", "i4")], align=True)
PADDED = np.dtype([("count", "i4"), ("scale", "f8")], align=True)  # 4 bytes of nothing after the count
SOURCE = """
struct Shape { double scale; int height, width; };
template <typename T> __global__ void scale(const T* __restrict__ input, T* output, float factor, int count,
                                            long long total, bool twice, Shape shape) {}
"""
ACCEPTED = [
    0, -1, 2**31, 2**63 - 1, -(2**63), True, False, 0.0, -2.5, 1e300, float("inf"), 1 + 2j,
    np.int8(-3), np.uint8(250), np.int16(-3), np.uint16(9), np.int32(-3), np.uint32(2**32 - 1), np.int64(-3),
    np.uint64(2**64 - 1), np.float16(1.5), np.float32(1.1), np.float64(1.1), np.complex64(1 + 2j),
    np.complex128(1 + 2j), np.bool_(True), None, np.array((0.5, 3, 4), SHAPE)[()],
    np.array(5), np.array([5]), np.array([[[1.5]]], np.float32), np.array((0.5, 3, 4), SHAPE),
    np.array([(7, 0.5)], PADDED), np.arange(6)[4:5],
]  # fmt: skip
REFUSED = ["1", b"1", [1], (1,), {}, object(), np.zeros(2), np.zeros((2, 2)), np.zeros(0), np.zeros(3, SHAPE)]
REFUSED += [torch.zeros(1), torch.tensor(1), torch.float32, ctypes.c_int(1), bytearray(8)]


def good() -> list[Any]:
    return [64, 128, np.float32(2), np.int32(3), 4, True, np.array((0.5, 3, 4), SHAPE)]


def bytes_in_cupy(value: Any) -> bytes:
    """What CuPy would hand to the driver: ``_pointer`` in cupy/cuda/function.pyx picks one of these three."""
    from cupy._core._scalar import CScalar
    from cupy.cuda import function

    if value is None:
        return ctypes.string_at(function.CIntptr(0).ptr, ctypes.sizeof(ctypes.c_void_p))
    passed = function.CNumpyArray(value) if isinstance(value, np.ndarray) else CScalar(value)
    size = value.itemsize if isinstance(value, (np.ndarray, np.generic)) else passed.dtype.itemsize
    return ctypes.string_at(passed.ptr, size)


def refused_by_cupy(value: Any) -> bool:
    """Let CuPy marshal for a launch that cannot happen: it stops at the second argument, of no known kind."""
    from cupy.cuda import function

    class Unknown:
        pass

    nothing = function.Function.__new__(function.Function)
    with pytest.raises(TypeError) as error:
        nothing((1,), (1,), (value, Unknown()), stream=SimpleNamespace(ptr=0))
    return "Unknown" not in str(error.value)


@needs_cupy
@pytest.mark.parametrize("value", ACCEPTED, ids=lambda value: f"{type(value).__name__}-{value}")
def test_same_bytes_as_cupy(value: Any):
    assert not refused_by_cupy(value)
    assert as_cupy_passes(value).tobytes() == bytes_in_cupy(value)


@needs_cupy
@pytest.mark.parametrize("value", [3, True, 2.5, 1j, np.int16(3), np.float32(3), np.bool_(True)])
def test_same_type_as_cupy(value: Any):
    from cupy._core._scalar import CScalar

    assert as_cupy_passes(value).dtype == CScalar(value).dtype


@needs_cupy
@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_refused_as_cupy_does(value: Any):
    assert refused_by_cupy(value)
    with pytest.raises(TypeError):
        as_cupy_passes(value)


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_refusal_names_the_type_and_the_way_out(value: Any):
    with pytest.raises(TypeError, match=rf"cannot take a {type(value).__name__}; .*data_ptr"):
        as_cupy_passes(value)


def test_parameters_by_hand():
    expected = [
        ("input", None),
        ("output", None),
        ("factor", np.dtype("f4")),
        ("count", np.dtype("i4")),
        ("total", np.dtype("i8")),
        ("twice", np.dtype("?")),
        ("shape", SHAPE),
    ]
    signature = Signature.read(SOURCE, "scale<__half>")
    assert signature == Signature("scale", tuple(expected))


def test_marshal_gives_every_argument_in_its_size():
    passed = Signature.read(SOURCE, "scale<float>").marshal(good())
    assert [value.nbytes for value in passed] == [8, 8, 4, 4, 8, 1, 16]
    assert [value.tobytes() for value in passed[:2]] == [
        (64).to_bytes(8, "little"),
        (128).to_bytes(8, "little"),
    ]
    assert passed[6].tobytes() == np.float64(0.5).tobytes() + np.array([3, 4], np.int32).tobytes()


def test_pointers_point_at_the_bytes():
    passed = Signature.read(SOURCE, "scale<float>").marshal(good())
    for address, value in zip(pointers(passed), passed, strict=True):
        assert ctypes.string_at(address, value.nbytes) == value.tobytes()


def test_none_is_the_null_pointer():
    passed = Signature.read(SOURCE, "scale<float>").marshal([None, *good()[1:]])
    assert passed[0].tobytes() == bytes(8)


@pytest.mark.parametrize("count", [0, 6, 8])
def test_wrong_number(count: int):
    args = [*good(), 1][:count]
    with pytest.raises(TypeError, match=f"scale takes 7 arguments, got {count}"):
        Signature.read(SOURCE, "scale<float>").marshal(args)


@pytest.mark.parametrize(
    "place, value, message",
    [
        (0, 1.0, "input must be an address .* got float64"),
        (0, np.int32(64), "input must be an address .* got int32"),
        (0, True, "input must be an address .* got bool"),
        (1, np.array((0.5, 3, 4), SHAPE), "output must be an address"),
        (2, 2.0, r"factor must be float32, got float64; pass numpy.float32\(value\)"),  # CuPy would pass a 0
        (2, 2, "factor must be float32, got int64"),
        (2, np.int32(2), "factor must be float32, got int32"),  # of the right size
        (2, None, "factor must be float32"),
        (3, 3, r"count must be int32, got int64; pass numpy.int32\(value\)"),
        (3, np.uint32(3), "count must be int32, got uint32"),
        (3, np.float32(3), "count must be int32, got float32"),
        (4, np.int32(4), "total must be int64, got int32"),
        (4, 4.0, "total must be int64, got float64"),
        (5, 1, "twice must be bool, got int64"),
        (5, np.int8(1), "twice must be bool, got int8"),
        (6, 5, "shape must be a struct"),
        (6, np.zeros((), "V16"), "shape must be a struct"),  # of the right size
        (6, np.array((0.5, 3), [("scale", "f8"), ("height", "i4")]), "shape must be a struct"),
        (
            6,
            np.array((0.5, 4, 3), [("scale", "f8"), ("width", "i4"), ("height", "i4")]),
            "shape must be a struct",
        ),
        (
            6,
            np.array((3, 4, 0.5), [("height", "i4"), ("width", "i4"), ("scale", "f8")]),
            "shape must be a struct",
        ),
        (
            6,
            np.array((0.5, 3, 4), [("scale", "f8"), ("height", "u4"), ("width", "i4")]),
            "shape must be a struct",
        ),
    ],
)
def test_wrong_argument_is_named(place: int, value: Any, message: str):
    args = good()
    args[place] = value
    with pytest.raises(TypeError, match=f"scale: argument {message}"):
        Signature.read(SOURCE, "scale<float>").marshal(args)


def test_struct_with_other_padding_is_refused():
    text = "struct Pair { int count; double scale; }; __global__ void f(Pair pair) {}"
    packed = np.dtype([("count", "i4"), ("scale", "f8")])
    assert (packed.itemsize, PADDED.itemsize) == (12, 16)
    signature = Signature.read(text, "f")
    assert signature.marshal([np.array((7, 0.5), PADDED)])[0].nbytes == 16
    with pytest.raises(TypeError, match="argument pair must be a struct"):
        signature.marshal([np.array((7, 0.5), packed)])
