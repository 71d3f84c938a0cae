"""NMS: the fast one against its readable twin, and both against a case worked by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cascade_lab.ops import nms as module
from cascade_lab.ops.nms import batched_nms, nms, nms_reference


def crowd(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    side = torch.rand(count, 2, generator=generator) * 30 + 5
    return torch.cat([corner, corner + side], dim=1), torch.rand(count, generator=generator)


@pytest.mark.parametrize("function", [nms, nms_reference])
def test_by_hand(function: Callable[[Tensor, Tensor, float], Tensor]):
    # Neighbours 2 apart share 8 of 12 columns (IoU 2/3), 4 apart 6 of 14 (3/7).
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10], [50, 50, 60, 60]])
    scores = torch.tensor([0.7, 0.9, 0.8, 0.1])
    assert function(boxes, scores, 0.5).tolist() == [1, 3]
    assert function(boxes[[0, 2]], scores[[0, 2]], 0.5).tolist() == [1, 0]
    assert function(boxes, scores, 0.7).tolist() == [1, 2, 0, 3]


@pytest.mark.parametrize("function", [nms, nms_reference])
def test_a_fallen_box_fells_nobody(function: Callable[[Tensor, Tensor, float], Tensor]):
    # 0 fells 1; 1 would fell 2, but is gone; 0 and 2 share 4 of 16 columns.
    boxes = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]])
    assert function(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]


@pytest.mark.parametrize("function", [nms, nms_reference])
def test_exactly_at_the_threshold_survives(function: Callable[[Tensor, Tensor, float], Tensor]):
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])  # IoU 1/2
    scores = torch.tensor([0.5, 0.5])
    assert function(boxes, scores, 0.5).tolist() == [0, 1]
    assert function(boxes, scores, 0.49).tolist() == [0]  # equal scores: the earlier one is better


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_twin(seed: int, iou: float):
    boxes, scores = crowd(120, seed)
    assert torch.equal(nms(boxes, scores, iou), nms_reference(boxes, scores, iou))


def one_group_at_a_time(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> list[int]:
    keep = []
    for group in groups.unique():
        rows = (groups == group).nonzero().squeeze(1)
        keep += rows[nms_reference(boxes[rows], scores[rows], iou)].tolist()
    return sorted(keep, key=lambda row: -float(scores[row]))


@pytest.mark.parametrize("seed", range(4))
def test_groups_do_not_meet(seed: int):
    boxes, scores = crowd(150, seed)
    groups = torch.randint(0, 4, (150,), generator=torch.Generator().manual_seed(seed))
    keep = batched_nms(boxes, scores, groups, 0.5)
    assert keep.tolist() == one_group_at_a_time(boxes, scores, groups, 0.5)
    assert len(keep) > len(nms(boxes, scores, 0.5))


def test_groups_do_not_meet_left_of_and_above_the_picture_either():
    """Moved by the largest coordinate plus 1, group 1 would come to lie upon the box of group 0."""
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0], [-21.0, -21.0, -1.0, -1.0]])
    assert batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.5).tolist() == [0, 1]


def test_many_boxes_go_group_by_group(monkeypatch: pytest.MonkeyPatch):
    boxes, scores = crowd(150, 9)
    groups = torch.arange(150) % 3
    expected = batched_nms(boxes, scores, groups, 0.5)
    monkeypatch.setattr(module, "GROUPWISE_FROM", 150)
    assert torch.equal(batched_nms(boxes, scores, groups, 0.5), expected)


def test_half_precision_and_no_boxes():
    boxes, scores = crowd(20, 1)
    assert nms(boxes, scores.half(), 0.5).dtype == torch.int64
    none = torch.zeros(0, 4)
    for keep in (
        nms(none, none[:, 0], 0.5),
        nms_reference(none, none[:, 0], 0.5),
        batched_nms(none, none[:, 0], none[:, 0].long(), 0.5),
    ):
        assert keep.shape == (0,) and keep.dtype == torch.int64
