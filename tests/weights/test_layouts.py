"""Every way in which the same weights lie in a file."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from cascade_lab.engine import checkpoint
from cascade_lab.errors import InputError
from cascade_lab.weights import load_file, official_state_dict, read_weights
from tests.tiny_detector import tiny

NAMES = ("cat", "dog", "cow")


def official() -> dict[str, Tensor]:
    return official_state_dict(tiny(seed=1))


def backbone() -> dict[str, Tensor]:
    full = official()
    return {
        key.removeprefix("backbone."): value for key, value in full.items() if key.startswith("backbone.")
    }


def head() -> dict[str, Tensor]:
    return {
        "conv_head.0.weight": torch.zeros(8, 4, 1, 1),
        "conv_head.1.0.num_batches_tracked": torch.tensor(3),
        "head.weight": torch.zeros(10, 8),
        "head.bias": torch.zeros(10),
    }


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def ema() -> dict[str, Tensor]:
    return {"ema_" + key.replace(".", "_"): torch.zeros_like(value) for key, value in official().items()}


DETECTORS = {
    "state_dict": lambda: {"meta": {"CLASSES": NAMES, "epoch": 12}, "state_dict": OrderedDict(official())},
    "with ema": lambda: {"meta": {"CLASSES": NAMES}, "state_dict": official() | ema(), "optimizer": {}},
    "mmdetection 3": lambda: {"meta": {"dataset_meta": {"classes": NAMES}}, "state_dict": official()},
    "wrapped": lambda: {"meta": {"CLASSES": list(NAMES)}, "state_dict": prefixed(official(), "module.")},
    "bare": official,
    "our names": lambda: {"state_dict": tiny(seed=1).state_dict()},
    "our checkpoint": lambda: {
        "step": 7,
        "detector": tiny(seed=1).state_dict(),
        "ema": None,
        "classes": [*NAMES],
    },
    "our average": lambda: {"detector": tiny(seed=2).state_dict(), "ema": tiny(seed=1).state_dict()},
}
BACKBONES = {
    "model": lambda: {"model": backbone() | head(), "optimizer": {"state": {}}, "epoch": 3},
    "bare": lambda: backbone() | head(),
    "backbone.": lambda: {"state_dict": prefixed(backbone(), "backbone.") | head()},
    "module.": lambda: {"model": prefixed(backbone() | head(), "module.")},
    "backbone.module.": lambda: prefixed(backbone(), "backbone.module."),
    "our names": lambda: {
        k.removeprefix("backbone."): v
        for k, v in tiny(seed=1).state_dict().items()
        if k.startswith("backbone.")
    },
}


def save(path: Path, content: object, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", DETECTORS)
def test_detectors(tmp_path: Path, layout: str, zipped: bool):
    path = save(tmp_path / "x.pth", DETECTORS[layout](), zipped)
    weights, detector = read_weights(path), tiny(seed=2)
    report = load_file(detector, path)
    expected = tiny(seed=1).state_dict()
    assert {name: bool(torch.equal(expected[name], v)) for name, v in detector.state_dict().items()} == (
        dict.fromkeys(expected, True)
    )
    assert not report.missing and not report.unexpected
    assert set(report.dropped) == (set(ema()) if layout == "with ema" else set())
    states_names = layout in ("state_dict", "with ema", "mmdetection 3", "wrapped", "our checkpoint")
    assert weights.classes == (NAMES if states_names else None)


@pytest.mark.parametrize("layout", BACKBONES)
def test_backbones(tmp_path: Path, layout: str):
    path = save(tmp_path / "x.pth", BACKBONES[layout](), zipped=True)
    detector, expected = tiny(seed=2), tiny(seed=1).state_dict()
    report = load_file(detector, path)
    loaded = {n for n, v in detector.state_dict().items() if torch.equal(v, expected[n])}
    own = {name for name in expected if name.startswith("backbone.")}
    assert own <= loaded and set(report.matched) == own and not report.unexpected
    heads = len(head()) if layout in ("model", "bare", "backbone.", "module.") else 0
    assert len(report.dropped) == heads and set(report.dropped.values()) <= {"head of the classifier"}


def test_safetensors(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(official(), path, {"classes": json.dumps(NAMES)})
    detector = tiny(seed=2)
    assert load_file(detector, path).is_empty
    assert torch.equal(detector.rpn.conv.weight, tiny(seed=1).rpn.conv.weight)
    assert read_weights(path).classes == NAMES


def test_a_checkpoint_of_a_run_states_its_recipe_and_category_ids(tmp_path: Path):
    state = {
        "step": 5,
        "detector": tiny(seed=1).state_dict(),
        "optimizer": {"state": {}, "param_groups": []},
        "ema": tiny(seed=3).state_dict(),
        "recipe": {"name": "nano"},
        "classes": list(NAMES),
        "category_ids": [4, 8, 9],
    }
    weights = read_weights(checkpoint.save(tmp_path, state))
    assert (weights.recipe, weights.classes, weights.category_ids) == ({"name": "nano"}, NAMES, (4, 8, 9))
    assert torch.equal(weights.state["rpn.conv.weight"], tiny(seed=3).rpn.conv.weight)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"state_dict": {"epoch": 3}}, "no tensors under state_dict"),
        ({"model": 7}, "no tensors under model"),
        ({}, "no tensors at the top of the file"),
        ([torch.zeros(2)], "holds a list where a dict"),
        ({"patch_embed.a": torch.zeros(1), "backbone.patch_embed.a": torch.zeros(1)}, "the file holds twice"),
        ({"a": torch.zeros(1, device="meta")}, "a: is not an ordinary tensor"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "a: is not an ordinary tensor"),
        ({"a": torch.zeros(1).expand(2**40)}, "a: claims 4,398,046,511,104 bytes"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content, message: str):
    with pytest.raises(InputError, match=message) as caught:
        read_weights(save(tmp_path / "x.pth", content, zipped=True))
    assert "\n" not in str(caught.value) and str(tmp_path / "x.pth") in str(caught.value)


def test_keys_that_are_no_tensors_are_named(tmp_path: Path):
    path = save(tmp_path / "x.pth", official() | {"epoch": 3, 5: "x"}, zipped=True)
    assert read_weights(path).dropped == {"epoch": "not a tensor", "5": "not a tensor"}
