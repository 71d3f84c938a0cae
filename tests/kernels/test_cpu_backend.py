"""The kernels on processors that this one is not: without AVX-512, and without any vectors worth the name."""

import platform

import pytest
import torch

from cascade_lab.kernels import cpu_backend, host_compiler
from cascade_lab.ops import dcnv3, roi_align

pytestmark = [
    pytest.mark.skipif(host_compiler.find() is None, reason="no C++ compiler on the PATH"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="these are processors of the x86-64 family"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("processor", ["x86-64-v3", "x86-64"])
def test_older_processors_compute_the_same(processor: str, dtype: torch.dtype, monkeypatch):
    flags = tuple(flag.replace("native", processor) for flag in cpu_backend.FLAGS)
    assert flags != cpu_backend.FLAGS
    monkeypatch.setattr(cpu_backend, "FLAGS", flags)
    cpu_backend.load.cache_clear()
    try:
        dcnv3.self_check("cpu", dtype)  # both raise where the error is more than rounding
        roi_align.self_check("cpu", dtype)
    finally:
        cpu_backend.load.cache_clear()


def test_a_kernel_that_nobody_wrote_is_named():
    with pytest.raises(ValueError, match="no kernel nothing"):
        cpu_backend.load("mask_paste.cu", (("nothing", "x"),))
