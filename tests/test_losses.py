"""Losses against closed forms, and against sums written out."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab import losses


def test_class_loss_is_minus_the_log_of_the_right_share():
    logits = torch.tensor([[0.0, 0, 0, 0], [math.log(3), 0, -50, -50]])
    loss = losses.class_loss(logits, torch.tensor([2, 1]))
    assert_close(loss, torch.tensor(math.log(4) + math.log(4)))  # shares 1/4 and 1/(3 + 1)


def test_objectness_loss():
    logits = torch.tensor([0.0, math.log(3), -math.log(3)])  # sigmoid 1/2, 3/4, 1/4
    assert_close(losses.objectness_loss(logits, True), -torch.tensor(1 / 2 * 3 / 4 * 1 / 4).log())
    assert_close(losses.objectness_loss(logits, False), -torch.tensor(1 / 2 * 1 / 4 * 3 / 4).log())
    mixed = losses.objectness_loss(logits, torch.tensor([True, True, False]))
    assert_close(mixed, -torch.tensor(1 / 2 * 3 / 4 * 3 / 4).log())


def test_giou_loss():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]])
    targets = torch.tensor([[0.0, 0, 4, 4], [8, 0, 12, 4]])  # the same; a gap of 4 in a hull of 12
    assert_close(losses.giou_loss(boxes, targets), torch.tensor(0 + 1 + 1 / 3))


def test_giou_loss_pulls_boxes_that_do_not_touch():
    box = torch.tensor([[0.0, 0, 4, 4]], requires_grad=True)
    losses.giou_loss(box, torch.tensor([[8.0, 0, 12, 4]])).backward()
    assert box.grad is not None and box.grad[0, 2] < 0  # to grow x2 lowers the loss


def test_smooth_l1_loss():
    deltas, targets = torch.tensor([[0.0, 0.05, -2, 3]]), torch.tensor([[0.0, 0, 0, 1]])
    by_hand = 0.05**2 / (2 / 9) + 2 * (2 - 1 / 18)
    assert_close(losses.smooth_l1_loss(deltas, targets), torch.tensor(by_hand))
    assert_close(losses.smooth_l1_loss(deltas, targets, beta=4.0), torch.tensor((0.05**2 + 4 + 4) / 8))


def test_l1_loss():
    assert losses.l1_loss(torch.tensor([[1.0, -2, 3, 0]]), torch.tensor([[0.0, 1, 3, 4]])).item() == 8


def test_mask_loss_sums_pixels():
    logits = torch.full((2, 3, 3), math.log(3))  # sigmoid 3/4
    masks = torch.zeros(2, 3, 3, dtype=torch.bool)
    masks[0] = True
    assert_close(losses.mask_loss(logits, masks), torch.tensor(-9 * math.log(3 / 4) - 9 * math.log(1 / 4)))


def empty_cases():
    rows = torch.zeros(0, 4)
    yield "class", lambda x: losses.class_loss(x[:0], torch.zeros(0, dtype=torch.int64))
    yield "objectness", lambda x: losses.objectness_loss(x[:0, 0], True)
    yield "giou", lambda x: losses.giou_loss(x[:0], rows)
    yield "smooth_l1", lambda x: losses.smooth_l1_loss(x[:0], rows)
    yield "l1", lambda x: losses.l1_loss(x[:0], rows)
    yield "mask", lambda x: losses.mask_loss(x[:0, None], rows[:, None])


@pytest.mark.parametrize(("name", "loss_of"), list(empty_cases()))
def test_a_sum_over_nothing_is_zero_and_in_the_graph(name: str, loss_of):
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = loss_of(x)
    loss.backward()
    assert loss.item() == 0 and x.grad is not None and not x.grad.any(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype):
    # 5000 times log 2 = 3465.7 does not exist in either half type; and a logit of 100 must not become inf.
    logits = torch.zeros(5000, dtype=dtype)
    loss = losses.objectness_loss(logits, True)
    assert loss.dtype == torch.float32
    assert_close(loss, torch.tensor(5000 * math.log(2)))
    wide = losses.class_loss(torch.tensor([[100.0, 0]], dtype=dtype), torch.tensor([1]))
    assert wide.item() == 100


def test_global_mean_of_one_process_is_the_count_itself_without_gradient():
    count = torch.tensor(7.0, requires_grad=True)
    mean = losses.global_mean(count * 2)
    assert mean.item() == 14 and not mean.requires_grad


def test_global_mean_averages_processes(monkeypatch: pytest.MonkeyPatch):
    def add_the_other(value: Tensor) -> None:
        value += 9

    monkeypatch.setattr(losses.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(losses.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(losses.dist, "all_reduce", add_the_other)
    count = torch.tensor(5.0)
    assert losses.global_mean(count).item() == 7
    assert count.item() == 5
