"""The losses of a stage, worked by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.heads.box_head import BoxHeadConfig
from cascade_lab.heads.stage_losses import box_losses, mask_losses
from cascade_lab.heads.stage_targets import StageTargets

STD = (0.1, 0.1, 0.2, 0.2)
GIOU = BoxHeadConfig()
L1 = BoxHeadConfig(box_loss="delta_l1", box_loss_weight=1.0)


def wanted() -> StageTargets:
    """Two pictures: a positive of class 1 and a negative; a negative. The object is 2 px further right."""
    boxes = [
        torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 9.0, 9.0]]),
        torch.tensor([[0.0, 0.0, 4.0, 4.0]]),
    ]
    none = torch.zeros(0, dtype=torch.int64)
    return StageTargets(
        boxes=boxes,
        is_target=[torch.zeros(2, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)],
        iou=[torch.zeros(2), torch.zeros(1)],
        target_index=[torch.tensor([0]), none],
        sampled=[(torch.tensor([0]), torch.tensor([1])), (none, torch.tensor([0]))],
        labels=torch.tensor([1, 2, 2]),
        matched=torch.tensor([[2.0, 0.0, 12.0, 10.0]]),
    )


def nothing() -> StageTargets:
    none = torch.zeros(0, dtype=torch.int64)
    empty = torch.zeros(0, 4)
    flags = torch.zeros(0, dtype=torch.bool)
    return StageTargets([empty], [flags], [torch.zeros(0)], [none], [(none, none)], none, empty)


def losses(config: BoxHeadConfig, deltas: Tensor, logits: Tensor | None = None) -> dict[str, Tensor]:
    logits = torch.zeros(3, 3) if logits is None else logits
    return box_losses(logits, deltas, wanted(), config, STD)


def test_class_loss_is_a_mean_over_all_boxes():
    logits = torch.tensor([[0.0, math.log(3), 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, math.log(2)]])
    found = losses(GIOU, torch.zeros(3, 8), logits)
    # Probabilities of the right answers: 3 / 5, 1 / 3, 2 / 4.
    assert found["loss_cls"].item() == pytest.approx((math.log(5 / 3) + math.log(3) + math.log(2)) / 3)
    assert found["acc"].item() == pytest.approx(100 * 2 / 3)  # all equal counts as class 0


@pytest.mark.parametrize("class_aware", [True, False])
def test_giou_loss_by_hand(class_aware: bool):
    """Box and object share 8 of 12 columns and fill their hull: GIoU 80 / 120. Weight 10, three boxes."""
    found = losses(replace(GIOU, class_aware=class_aware), torch.zeros(3, 8 if class_aware else 4))
    assert found["loss_bbox"].item() == pytest.approx(10 * (1 - 8 / 12) / 3)


def test_the_right_deltas_cost_nothing():
    """2 px of 10, divided by 0.1, is dx = 2: in the slot of class 1, whatever the other slots say."""
    deltas = torch.full((3, 8), 7.0)
    deltas[0, 4:] = torch.tensor([2.0, 0.0, 0.0, 0.0])
    assert losses(GIOU, deltas)["loss_bbox"].item() == pytest.approx(0, abs=1e-6)
    assert losses(L1, deltas)["loss_bbox"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("kind", "loss"), [("delta_l1", 2.0), ("delta_smooth_l1", 1.5)])
def test_delta_losses_by_hand(kind, loss: float):
    """Off by 2 in one of four deltas; smooth L1 with beta 1 takes half a unit off."""
    found = losses(replace(L1, box_loss=kind), torch.zeros(3, 8))
    assert found["loss_bbox"].item() == pytest.approx(loss / 3)


def test_decoded_boxes_are_not_clipped():
    """A box far out of any picture still has a slope: 1 - GIoU exceeds 1."""
    deltas = torch.zeros(3, 8)
    deltas[0, 4] = 1000.0
    deltas.requires_grad_()
    found = losses(GIOU, deltas)
    found["loss_bbox"].backward()
    assert found["loss_bbox"].item() > 10 / 3
    assert deltas.grad is not None and deltas.grad[0, 4] > 0
    assert (
        not deltas.grad[1:].any() and not deltas.grad[0, :4].any()
    )  # negatives and other classes learn nothing


@pytest.mark.parametrize("config", [GIOU, L1, replace(L1, box_loss="delta_smooth_l1")])
def test_no_box_is_zero_and_still_in_the_graph(config: BoxHeadConfig):
    logits, deltas = torch.zeros(0, 3, requires_grad=True), torch.zeros(0, 8, requires_grad=True)
    found = box_losses(logits, deltas, nothing(), config, STD)
    (found["loss_cls"] + found["loss_bbox"]).backward()
    assert [value.item() for value in found.values()] == [0, 0, 0]
    assert logits.grad is not None and deltas.grad is not None


def test_mask_loss_by_hand():
    """Logit 0 costs log 2 and log 3 on a covered pixel log(4/3); only the own class is looked at."""
    logits = torch.full((2, 3, 2, 2), 50.0)
    logits[0, 1], logits[1, 2] = 0.0, math.log(3)
    found = mask_losses(logits, torch.tensor([1, 2]), torch.ones(2, 2, 2))
    assert_close(found["loss_mask"], torch.tensor((math.log(2) + math.log(4 / 3)) / 2))


def test_no_mask_is_zero_and_still_in_the_graph():
    logits = torch.zeros(0, 3, 2, 2, requires_grad=True)
    found = mask_losses(logits, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2, 2))
    found["loss_mask"].backward()
    assert found["loss_mask"].item() == 0 and logits.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_many_masks_are_counted_in_float32(dtype: torch.dtype):
    """100 masks of 28 x 28 are 78400 pixels: infinite in float16, which would make the loss zero."""
    logits = torch.zeros(100, 1, 28, 28, dtype=dtype)
    found = mask_losses(logits, torch.zeros(100, dtype=torch.int64), torch.ones(100, 28, 28))
    assert found["loss_mask"].item() == pytest.approx(math.log(2), rel=1e-6)
