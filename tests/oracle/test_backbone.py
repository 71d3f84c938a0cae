"""InternImage in all its variants: maps, gradients, and the names and order of the official state dict."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.backbones.internimage import InternImage
from cascade_lab.weights import from_official, to_official
from tests.oracle.golden_detector import backbone_config, numbered

pytestmark = pytest.mark.oracle_files("backbone/*.npz")
PREFIX = "backbone."


@cache
def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def constructor_arguments(path: Path) -> dict:
    entries = json.loads((path.parent / "INDEX.json").read_text(encoding="utf-8"))
    found = [entry for entry in entries if entry["name"] == path.stem]
    assert found, f"INDEX.json has no entry for {path.stem}"
    return found[0]["kwargs"]


def official(name: str) -> str:
    return to_official(PREFIX + name).removeprefix(PREFIX)


def ours(name: str) -> str:
    return from_official(PREFIX + name).removeprefix(PREFIX)


def build(path: Path, dtype: torch.dtype = torch.float32) -> InternImage:
    backbone = InternImage(backbone_config(constructor_arguments(path)))
    state = {k.removeprefix("sd/"): torch.tensor(v) for k, v in load(path).items() if k.startswith("sd/")}
    backbone.load_state_dict({ours(key): value for key, value in state.items()})
    return backbone.eval().to(dtype)


def maps_of(golden: dict[str, np.ndarray], ending: str = "") -> list[Tensor]:
    return [torch.tensor(golden[key]) for key in numbered(golden, rf"out(\d+){ending}")]


def test_state_dict(oracle_file: Path):
    """Every name translates both ways, and the modules stand in the official order."""
    stored = [key.removeprefix("sd/") for key in load(oracle_file) if key.startswith("sd/")]
    backbone = InternImage(backbone_config(constructor_arguments(oracle_file)))
    own = backbone.state_dict()
    assert [official(key) for key in own] == stored
    assert list(own) == [ours(key) for key in stored]
    for key, value in own.items():
        assert value.shape == load(oracle_file)[f"sd/{official(key)}"].shape, key


def test_stem(oracle_file: Path):
    golden = load(oracle_file)
    if "stem_nhwc" not in golden:
        pytest.skip("this file holds no output of the stem")
    with torch.no_grad():
        out = build(oracle_file).stem(torch.tensor(golden["input"]))
    assert_close(out, torch.tensor(golden["stem_nhwc"]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_maps(oracle_file: Path, dtype: torch.dtype):
    golden = load(oracle_file)
    expected = maps_of(golden, "_f64") or maps_of(golden)
    with torch.no_grad():
        found = build(oracle_file, dtype)(torch.tensor(golden["input"]).to(dtype))
    assert len(found) == len(expected)
    for level, (own, exact) in enumerate(zip(found, expected, strict=True)):
        # Stored in float32, so float64 agrees to its last digits.
        bound = 1e-4 if dtype == torch.float32 else 1e-6 * max(1.0, float(exact.abs().max()))
        assert_close(
            own.double(), exact.double(), atol=bound, rtol=0, msg=lambda m, i=level: f"level {i}: {m}"
        )


def test_gradients(oracle_file: Path):
    golden = load(oracle_file)
    backbone = build(oracle_file, torch.float64)
    pixels = torch.tensor(golden["input"]).double().requires_grad_()
    weights = [torch.tensor(golden[key]).double() for key in numbered(golden, r"lossw(\d+)")]
    loss = torch.stack([(m * w).sum() for m, w in zip(backbone(pixels), weights, strict=True)]).sum()
    loss.backward()
    assert_close(loss.detach(), torch.tensor(golden["loss"]).double().reshape(()), atol=1e-5, rtol=1e-6)

    own = {official(name): parameter.grad for name, parameter in backbone.named_parameters()}
    stored = {key.removeprefix("grad/"): golden[key] for key in golden if key.startswith("grad/")}
    assert stored and pixels.grad is not None
    close_gradient("input", pixels.grad, golden["grad_input"])
    for name, expected in stored.items():
        grad = own[name]
        assert grad is not None, f"{name} has no gradient"
        close_gradient(name, grad, expected)


def close_gradient(name: str, own: Tensor, expected: np.ndarray) -> None:
    exact = torch.tensor(expected).double()
    bound = 1e-5 * float(exact.abs().max()) + 1e-8
    assert_close(own, exact, atol=bound, rtol=0, msg=lambda m: f"{name}: {m}")
