"""DCNv3 held to its closed form in float64: the readable reference, and its twin over grid_sample."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.ops.dcnv3 import dcnv3_grid_sample
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


def run(operator: Callable[..., Tensor], golden: Mapping[str, np.ndarray]) -> tuple[Tensor, ...]:
    """Return output and the gradients of input, offset and modulation."""
    leaves = [torch.tensor(golden[key]).requires_grad_() for key in ("input", "offset", "mask")]
    output = operator(*leaves, **settings(golden))
    output.backward(torch.tensor(golden["grad_output"]))
    return output.detach(), *(leaf.grad for leaf in leaves)


def close(actual: Tensor, golden: np.ndarray, tolerance: float) -> None:
    expected = torch.tensor(golden)
    largest = max(1.0, float(expected.abs().max()) if expected.numel() else 1.0)
    assert_close(actual, expected, atol=tolerance * largest, rtol=0)


def test_reference(oracle_file: Path):
    golden = load(oracle_file)
    assert golden["input"].dtype == np.float64
    output, *grads = run(dcnv3_reference, golden)
    close(output, golden["output"], 1e-9)
    for grad, name in zip(grads, ("grad_input", "grad_offset", "grad_mask"), strict=True):
        close(grad, golden[name], 1e-9)


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
