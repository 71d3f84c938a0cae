"""A run opened again at its newest step, or at another that is still there."""

import json

import pytest
import torch

from cascade_lab.datasets.shapes import CLASSES
from cascade_lab.detector import Detector
from cascade_lab.engine import checkpoint
from cascade_lab.errors import InputError
from cascade_lab.recipes import pico, to_dict
from cascade_lab.runs import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    facts = {"recipe": to_dict(pico()), "classes": list(CLASSES), "category_ids": [1, 2, 3, 4]}
    (run / "recipe.json").write_text(json.dumps(facts))
    for step in (5, 7):
        torch.manual_seed(step)
        state = {"step": step, "detector": Detector(pico().detector).state_dict(), "ema": None}
        checkpoint.save(run / "checkpoints", state)
    return run


def weights_of(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return Detector(pico().detector).state_dict()["neck.lateral.0.weight"]


@pytest.mark.parametrize("asked, step", [(None, 7), (5, 5), (7, 7)])
def test_opens_the_newest_or_the_step_that_is_asked_for(run, asked, step):
    opened = load_run(run, asked)
    assert opened.step == step
    assert torch.equal(opened.detector.state_dict()["neck.lateral.0.weight"], weights_of(step))


def test_a_step_without_a_checkpoint(run):
    with pytest.raises(InputError, match="step_00000006"):
        load_run(run, 6)
