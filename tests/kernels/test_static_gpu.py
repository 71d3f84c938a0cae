"""The CUDA kernels compile for every architecture, and the code is lean: all that can be said without a GPU.

The numbers are limits that a fast kernel must keep, not records of what there is: that is printed by
``python tests/kernels/sass.py``.
"""

from __future__ import annotations

import re

import pytest

from cascade_lab.kernels import dcnv3, source
from tests.kernels import sass
from tests.kernels.sass import Code

pytestmark = pytest.mark.skipif(bool(sass.why_not()), reason=sass.why_not())

MAIN, OTHERS = map(tuple, sass.instances())
REGISTERS = 64  # of a thread: 1024 threads of an SM's 65536 registers, half of the threads it can hold
RUN_PER_CHANNEL = 200  # instructions; InternImage's own kernel runs about 965
SOFTMAX_PER_CHANNEL = 60  # on top of that, for the nine exponentials; about 43 as written

INDEXES_AN_ARRAY = """
template <int N> __global__ void pick(const int* at, float* out) {
    float kept[N] = {};
    for (int i = 0; i < N; ++i) kept[at[i]] += out[i];
    for (int i = 0; i < N; ++i) out[i] = kept[i];
}
"""
LOOPS = """
template <int N> __global__ void loop(const float* in, float* out) {
    float sum = 0;
#pragma unroll 1
    for (int i = 0; i < N; ++i) sum = sum * in[i] + sqrtf(in[i + threadIdx.x]);
    out[threadIdx.x] = sum;
}
"""


def cases(quick: tuple[int, ...], architectures: tuple[int, ...] = sass.ARCHITECTURES):
    """Every architecture with every instance; what is not quick is marked slow."""
    return [
        pytest.param(arch, names, id=f"sm_{arch}-{kind}", marks=() if kind in now else (pytest.mark.slow,))
        for arch in architectures
        for now in (("main",) if arch in quick else (),)
        for kind, names in (("main", MAIN), ("others", OTHERS))
    ]


def compiled(arch: int, names: tuple[str, ...]) -> list[Code]:
    if arch not in sass.architectures():
        pytest.skip(f"this NVRTC does not compile for sm_{arch}")
    return list(sass.compile(source.read(dcnv3.FILE), names, arch).values())


def in_half_or_float(codes: list[Code]) -> list[Code]:
    """The instances that the networks use: 3x3 points, 16 channels, not in double."""
    return [code for code in codes if re.search(r"<(float|__half|__nv_bfloat16), 3, \d, \d, 16,", code.name)]


@pytest.mark.parametrize("arch, names", cases(quick=(80, 90)))
def test_nothing_lives_in_local_memory(arch: int, names: tuple[str, ...]):
    codes = compiled(arch, names)
    assert len(codes) == len(names)
    found = {
        code.name: (code.stack, code.spills, code.find("LDL|STL"))
        for code in codes
        if code.stack or code.spills or code.find("LDL|STL")
    }
    assert not found


@pytest.mark.parametrize("arch, names", cases(quick=(80, 90), architectures=(80, 86, 89, 90, 100, 120)))
def test_registers(arch: int, names: tuple[str, ...]):
    codes = in_half_or_float(compiled(arch, names))
    assert codes
    assert not {code.name: code.registers for code in codes if code.registers > REGISTERS}


@pytest.mark.parametrize("arch, names", cases(quick=(80, 90), architectures=(80, 86, 89, 90, 100, 120)))
def test_pixels_are_read_16_bytes_at_once(arch: int, names: tuple[str, ...]):
    codes = in_half_or_float(compiled(arch, names))
    assert codes
    for code in codes:
        assert len(code.find(r"LDG\..*\b128\b")) >= 4, code.name  # the four corners of a point
        # A narrow load brings an offset pair or a logit, read twice at most: once for the sum of the softmax.
        assert len(code.find(r"LDG(?!.*\b128\b)")) <= 4 * sass.POINTS, code.name


@pytest.mark.parametrize("arch, names", cases(quick=(90,), architectures=(90, 100, 120)))
def test_gradients_are_added_four_at_once(arch: int, names: tuple[str, ...]):
    codes = [code for code in in_half_or_float(compiled(arch, names)) if "backward" in code.name]
    assert codes
    for code in codes:
        added = code.find("RED|ATOM")
        assert added and all(re.search(r"F32x4|\bF32\.V4|\bV4\.F32", opcode) for opcode in added), code.name


def test_gradients_are_added_one_by_one_before_sm_90():
    code = {code.name: code for code in compiled(80, MAIN)}["dcnv3_backward<float, 3, 4, 4, 16, NONE>"]
    assert len(code.find(r"RED.*\bADD\.F32\b")) % (4 * code.vector) == 0


def test_instructions_of_the_forward(record_property):
    codes = {code.name: code for code in compiled(80, MAIN)}
    plain, fused = (codes[f"dcnv3_forward<float, 3, 4, 4, 16, {rule}>"] for rule in ("NONE", "SOFTMAX"))
    run = plain.executed() / plain.vector
    softmax = fused.executed() / fused.vector - run
    record_property("instructions per channel", round(run))
    record_property("instructions per channel for the softmax", round(softmax))
    print(f"forward, float, sm_80: {run:.0f} instructions per channel, the softmax {softmax:.0f} more")
    assert run <= RUN_PER_CHANNEL
    assert 0 < softmax <= SOFTMAX_PER_CHANNEL


def test_the_gate_sees_local_memory():
    code = sass.compile(INDEXES_AN_ARRAY, ("pick<32>",), 80)["pick<32>"]
    assert code.stack == 32 * 4
    assert code.find("LDL") and code.find("STL")


def test_the_gate_counts_loops():
    short, long = (sass.compile(LOOPS, (f"loop<{n}>",), 80)[f"loop<{n}>"] for n in (9, 100))
    once = short.executed(trips=1)
    turn = short.executed(trips=2) - once
    assert 5 <= turn < once <= len(short.instructions)
    assert short.executed(trips=9) == once + 8 * turn
    assert long.executed(trips=9) == short.executed(trips=9)
    # The square root of a rare number is a subroutine: it is there, and it is not counted.
    assert once + 10 < len(short.instructions)


def test_refused_source_says_why():
    with pytest.raises(RuntimeError, match="nowhere"):
        sass.compile("__global__ void f() { nowhere(); }", ("f",), 80)
