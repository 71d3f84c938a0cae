"""The feature pyramid on maps of odd sizes."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch.testing import assert_close

from cascade_lab.necks.fpn import FPN
from cascade_lab.weights import from_official
from tests.oracle.golden_detector import numbered


def test_fpn(component: Callable[[str], Mapping[str, np.ndarray]]):
    golden = component("fpn.npz")
    maps = [torch.tensor(golden[key]) for key in numbered(golden, r"in(\d+)")]
    expected = [torch.tensor(golden[key]) for key in numbered(golden, r"out(\d+)")]
    state = {
        from_official("neck." + key.removeprefix("sd/")).removeprefix("neck."): torch.tensor(value)
        for key, value in golden.items()
        if key.startswith("sd/")
    }
    neck = FPN([m.shape[1] for m in maps], expected[0].shape[1])
    assert list(neck.state_dict()) == list(state)
    neck.load_state_dict(state)
    with torch.no_grad():
        found = neck(maps)
    assert len(found) == len(expected)
    for own, exact in zip(found, expected, strict=True):
        assert_close(own, exact, atol=1e-5, rtol=1e-5)
