"""AP of a reading where the answer is known in closed form."""

from dataclasses import replace

import pytest
import torch

from cascade_lab.heads.postprocess import PostprocessConfig
from cascade_lab.laboratory.box_ap import box_ap, truth_of
from cascade_lab.laboratory.crossed import Choice, Crossed, cross, read
from cascade_lab.trace import StageTrace
from tests.laboratory.test_crossed import PICTURES, build

CLASSES = ("disc", "square", "star")


@pytest.mark.parametrize("shift, ap", [(0.0, 100.0), (0.04, 90.0), (0.2, 40.0), (0.5, 0.0)])
def test_boxes_that_are_off_by_a_known_share(shift: float, ap: float):
    """Shifted by s of its height a box has IoU (1 - s) / (1 + s): 1, .923, .667, .333."""
    known = all_knowing(shift)
    assert ap_of(known, replace(known.plain, targets_added=True)) == pytest.approx(ap)
    assert ap_of(known, known.plain) == 0.0


def ap_of(known: Crossed, choice: Choice) -> float:
    return box_ap(read(known, choice), truth_of(known.truth, len(CLASSES)))["AP"]


def all_knowing(shift: float) -> Crossed:
    """Return a crossed cascade that finds exactly the objects, each moved up by a share of its height."""
    crossed = cross(build(), PICTURES)
    looks = tuple(tuple(_knowing(look, crossed, shift) for look in row) for row in crossed.looks)
    return replace(crossed, looks=looks, postprocess=PostprocessConfig())


def _knowing(look: StageTrace, crossed: Crossed, shift: float) -> StageTrace:
    """Return a look that knows the class of every added object, moves no box, and sees background else."""
    logits, boxes = [], []
    for i, truth in enumerate(crossed.truth):
        said = torch.full_like(look.logits[i], -20.0)
        said[:, -1] = 0.0
        rows = look.is_target[i].nonzero()[:, 0]
        said[rows, truth.labels] = 20.0
        entering = look.proposals[i].clone()
        height = truth.boxes[:, 3:4] - truth.boxes[:, 1:2]
        entering[rows] = truth.boxes - shift * height * torch.tensor([0.0, 1.0, 0.0, 1.0])  # up: none is cut
        logits.append(said)
        boxes.append(entering)
    return replace(look, logits=logits, deltas=[delta * 0 for delta in look.deltas], proposals=boxes)
