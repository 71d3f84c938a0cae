"""The text of a kernel is whole, and what its parameters are is read from it as a C++ compiler would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cascade_lab.errors import InputError
from cascade_lab.kernels import source

STRUCTS = """
struct Small { bool flag; int a, b; };          // 12 bytes: 3 of padding after the flag
struct Mixed {
    int first;                                  // 4 of padding after it; second, not this
    double second;
    long long third;
    float fourth, fifth; unsigned sixth;        // 4 of padding at the end
};
struct Nested { Small head; Mixed body; };
"""
KERNELS = """
template <typename T, int N> struct Other { int x; };
template <typename T>
__global__ void many(const T* __restrict__ input, typename Other<T>::type * output,
                     const float *const weights, const int count, unsigned long_name_1,
                     long long total, const double scale, bool flag, Small by_value) {
    if (count > 0) { output[0] = 0; }
}
__global__ void __launch_bounds__(256, 4) bounded(float* out) {}
__device__ void helper(int a) {}
__global__ void many_more(int only) {}
__global__ void strange(Unknown thing) {}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A folder of sources of one's own; writing forgets what was read, as a new process would."""

    def write(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        source.read.cache_clear()

    monkeypatch.setattr(source, "PLACES", (tmp_path / "nowhere", tmp_path))
    write(floats_cuh="#pragma once\nfloats\n")
    yield write
    source.read.cache_clear()


def test_headers_are_put_in_once(write: Callable[..., None]):
    write(
        a_cu='#include "b.cuh"\n#include "c.cuh"  // again\n#include <cuda_fp16.h>\nint a;\n',
        b_cuh='#pragma once\n#include "c.cuh"\nint b;\n',
        c_cuh="#pragma once\nint c;\n",
    )
    text = source.read("a.cu")
    assert [line for line in text.splitlines() if line] == [
        "int c;",
        "int b;",
        "#include <cuda_fp16.h>",
        "int a;",
    ]


def test_another_header_instead(write: Callable[..., None]):
    write(
        a_cu='#include "b.cuh"\n#include "floats.cuh"\n',
        b_cuh='#include "floats.cuh"\nint b;\n',
        host__floats_h="host floats\n",
    )
    assert source.read("a.cu").split("\n")[:3] == ["floats", "", "int b;"]
    instead = source.read("a.cu", (("floats.cuh", "host/floats.h"),))
    assert "host floats\n" in instead and instead.count("floats") == 1


def test_edit_of_a_header_changes_the_text(write: Callable[..., None]):
    write(a_cu='#include "b.cuh"\n', b_cuh='#include "c.cuh"\n', c_cuh="int c = 1;\n")
    before = source.read("a.cu")
    write(c_cuh="int c = 2;\n")
    assert before.strip() == "int c = 1;"
    assert source.read("a.cu").strip() == "int c = 2;"


def test_first_place_that_has_sources_counts(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert source.folder() == tmp_path
    (tmp_path / "nowhere").mkdir()
    assert source.folder() == tmp_path
    (tmp_path / "nowhere" / "floats.cuh").touch()
    assert source.folder() == tmp_path / "nowhere"


def test_missing_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source, "PLACES", (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'a'}: missing; install cascade_lab again")):
        source.folder()


def test_parameters_by_hand():
    assert source.parameters(STRUCTS + KERNELS, "many") == [
        ("input", None),
        ("output", None),
        ("weights", None),
        ("count", np.dtype("i4")),
        ("long_name_1", np.dtype("u4")),
        ("total", np.dtype("i8")),
        ("scale", np.dtype("f8")),
        ("flag", np.dtype("?")),
        ("by_value", np.dtype([("flag", "?"), ("a", "i4"), ("b", "i4")], align=True)),
    ]
    assert source.parameters(KERNELS, "bounded") == [("out", None)]
    assert source.parameters(KERNELS, "many_more") == [("only", np.dtype("i4"))]


@pytest.mark.parametrize(
    "kernel, message",
    [("absent", "no kernel absent"), ("helper", "no kernel helper"), ("strange", "no struct Unknown")],
)
def test_parameters_that_cannot_be_read(kernel: str, message: str):
    with pytest.raises(ValueError, match=message):
        source.parameters(KERNELS, kernel)


def test_structures_by_hand():
    small, mixed = source.structure(STRUCTS, "Small"), source.structure(STRUCTS, "Mixed")
    assert places(small) == {"flag": 0, "a": 4, "b": 8} and small.itemsize == 12
    assert places(mixed) == {"first": 0, "second": 8, "third": 16, "fourth": 24, "fifth": 28, "sixth": 32}
    assert mixed.itemsize == 40
    nested = source.structure(STRUCTS, "Nested")
    assert places(nested) == {"head": 0, "body": 16} and nested.itemsize == 56
    with pytest.raises(ValueError, match="no struct Absent"):
        source.structure(STRUCTS, "Absent")


def test_struct_argument_is_filled_by_name():
    argument = source.as_argument(STRUCTS, "Small", {"b": 3, "flag": 1, "a": 2})
    assert argument.shape == () and argument.tobytes()[4:] == np.array([2, 3], np.int32).tobytes()
    assert argument["flag"]


@pytest.mark.parametrize("values", [{"flag": 1, "a": 2}, {"flag": 1, "a": 2, "b": 3, "c": 4}, {}])
def test_struct_argument_needs_every_field(values: dict[str, float]):
    with pytest.raises(ValueError, match="struct Small has .*'flag', 'a', 'b'.*, got "):
        source.as_argument(STRUCTS, "Small", values)


def test_layout_of_dcnv3():
    """As a C++ compiler for x86-64 and for the GPU has it: double, long long, 15 ints, 4 bytes to spare."""
    layout = source.structure(source.read("dcnv3.cu"), "Layout")
    names = layout.names or ()
    assert names[:4] == ("offset_scale", "group_step", "pixel_step", "height")
    assert places(layout) == {name: 8 * i if i < 2 else 8 + 4 * i for i, name in enumerate(names)}
    assert layout.itemsize == 16 + 15 * 4 + 4


@pytest.mark.parametrize("kernel, tensors", [("dcnv3_forward", 4), ("dcnv3_backward", 7)])
def test_parameters_of_dcnv3(kernel: str, tensors: int):
    *pointers, (name, layout) = source.parameters(source.read("dcnv3.cu"), kernel)
    assert [kind for _, kind in pointers] == [None] * tensors
    assert name == "layout" and layout == source.structure(source.read("dcnv3.cu"), "Layout")


@pytest.mark.parametrize("file", sorted(path.name for path in source.folder().glob("*.cu")))
def test_every_source_is_whole_and_readable(file: str):
    text = source.read(file)
    assert '#include "' not in text and "#pragma once" not in text
    kernels = re.findall(r"__global__\s+void\s+(?:__launch_bounds__\(.*?\)\s*)?(\w+)\s*\(", text)
    assert kernels
    for kernel in kernels:
        assert source.parameters(text, kernel)


def places(struct: np.dtype) -> dict[str, int]:
    """Where each field begins, in bytes."""
    fields = struct.fields or {}
    return {name: fields[name][1] for name in struct.names or ()}
