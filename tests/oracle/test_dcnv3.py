"""DCNv3 held to its closed form in float64: the reference, its twin over grid_sample, and the kernels."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.kernels import cupy_backend, host_compiler
from cascade_lab.kernels.machines import Machine
from cascade_lab.ops.dcnv3 import dcnv3, dcnv3_grid_sample
from cascade_lab.ops.dcnv3_reference import dcnv3_reference, output_size, sampling_points

pytestmark = pytest.mark.oracle_files("dcnv3/*.npz")

# Nearer than this to a whole number, normalised coordinates may put a position on its other side.
WHOLE = 1e-6


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def settings(golden: Mapping[str, np.ndarray]) -> dict[str, Any]:
    names = {
        "groups": "group",
        "kernel": "kernel",
        "stride": "stride",
        "dilation": "dilation",
        "padding": "pad",
    }
    found = {ours: _whole(golden[theirs]) for ours, theirs in names.items()}
    return found | {"offset_scale": float(golden["offset_scale"])}


def run(
    operator: Callable[..., Tensor], golden: Mapping[str, np.ndarray], like: Tensor | None = None, **more: Any
) -> tuple[Tensor, ...]:
    """Return output and the gradients of input, offset and modulation, computed in the type of ``like``."""
    like = torch.zeros(0, dtype=torch.float64) if like is None else like
    leaves = [torch.tensor(golden[key]).to(like).requires_grad_() for key in ("input", "offset", "mask")]
    output = operator(*leaves, **settings(golden), **more)
    output.backward(torch.tensor(golden["grad_output"]).to(like))
    return output.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves)


def close(actual: Tensor, golden: np.ndarray | Tensor, tolerance: float) -> None:
    expected = torch.as_tensor(golden)
    largest = max(1.0, float(expected.abs().max()) if expected.numel() else 1.0)
    assert_close(actual.to(expected.dtype), expected, atol=tolerance * largest, rtol=0)


def test_reference(oracle_file: Path):
    golden = load(oracle_file)
    assert golden["input"].dtype == np.float64
    output, *grads = run(dcnv3_reference, golden)
    close(output, golden["output"], 1e-9)
    for grad, name in zip(grads, ("grad_input", "grad_offset", "grad_mask"), strict=True):
        close(grad, golden[name], 1e-9)


NO_COMPILER = pytest.mark.skipif(host_compiler.find() is None, reason="no C++ compiler on the PATH")
NO_GPU = pytest.mark.skipif(bool(cupy_backend.why_not()), reason=cupy_backend.why_not() or "-")
MACHINES = pytest.mark.parametrize(
    "machine",
    [
        pytest.param("cpu", marks=NO_COMPILER),
        pytest.param("emulator", marks=NO_COMPILER),
        pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU]),
    ],
)


@MACHINES
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_kernels(oracle_file: Path, machine: Machine, dtype: torch.dtype, tolerance: float):
    golden = load(oracle_file)
    like = torch.zeros(0, dtype=dtype, device="cuda" if machine == "cuda" else "cpu")
    output, *grads = run(dcnv3, golden, like, backend=machine)
    close(output, golden["output"], tolerance)
    for grad, name in zip(grads, ("grad_input", "grad_offset", "grad_mask"), strict=True):
        close(grad, golden[name], tolerance)


@MACHINES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_kernels_in_half_types(oracle_file: Path, machine: Machine, dtype: torch.dtype):
    """Against the closed form on the same rounded numbers: what is left is one rounding of each result."""
    golden = load(oracle_file)
    rounded = {name: torch.tensor(golden[name]).to(dtype).double().numpy() for name in
               ("input", "offset", "mask", "grad_output")}  # fmt: skip
    like = torch.zeros(0, dtype=dtype, device="cuda" if machine == "cuda" else "cpu")
    found = run(dcnv3, golden, like, backend=machine)
    for actual, expected in zip(found, run(dcnv3_reference, golden | rounded), strict=True):
        close(actual, expected, torch.finfo(dtype).eps)


def test_output_size(oracle_file: Path):
    golden = load(oracle_file)
    asked = settings(golden)
    size = golden["input"].shape[1], golden["input"].shape[2]
    sliding = [asked[name] for name in ("kernel", "stride", "dilation", "padding")]
    assert output_size(size, *sliding) == golden["output"].shape[1:3]


def test_grid_sample(oracle_file: Path):
    """The twin is the same function; only the offset's gradient at whole positions is left to chance."""
    golden = load(oracle_file)
    output, grad_input, grad_offset, grad_modulation = run(dcnv3_grid_sample, golden)
    close(output, golden["output"], 1e-10)
    close(grad_input, golden["grad_input"], 1e-9)
    close(grad_modulation, golden["grad_mask"], 1e-9)

    asked, offset = settings(golden), torch.tensor(golden["offset"])
    size = golden["input"].shape[1], golden["input"].shape[2]
    position = torch.stack(sampling_points(size, offset, **asked), dim=-1).reshape(offset.shape)
    between = (position - position.round()).abs() > WHOLE
    close(grad_offset[between], torch.tensor(golden["grad_offset"])[between].numpy(), 1e-9)


def _whole(value: np.ndarray) -> int | tuple[int, int]:
    return int(value) if value.size == 1 else (int(value[0]), int(value[1]))
