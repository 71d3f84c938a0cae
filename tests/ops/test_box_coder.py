"""The box coder against numbers worked by hand, and against its own inverse."""

import math

import pytest
import torch
from torch.testing import assert_close

from cascade_lab.ops.box_coder import MAX_LOG_RATIO, decode_deltas, encode_deltas

ONE = (1.0, 1.0, 1.0, 1.0)
PROPOSAL = torch.tensor([[10.0, 20, 30, 60]])  # centre (20, 40), 20 wide, 40 high
TARGET = torch.tensor([[20.0, 40, 60, 60]])  # centre (40, 50), 40 wide, 20 high
DELTAS = torch.tensor([[1.0, 0.25, math.log(2), -math.log(2)]])


def test_by_hand():
    assert_close(encode_deltas(PROPOSAL, TARGET, ONE), DELTAS)
    assert_close(decode_deltas(DELTAS, PROPOSAL, ONE), TARGET)


def test_std_divides_what_is_learned():
    std = (0.1, 0.2, 0.5, 1.0)
    assert_close(encode_deltas(PROPOSAL, TARGET, std), DELTAS / torch.tensor([std]))
    assert_close(decode_deltas(DELTAS / torch.tensor([std]), PROPOSAL, std), TARGET)


def test_no_move():
    assert encode_deltas(PROPOSAL, PROPOSAL, ONE).tolist() == [[0, 0, 0, 0]]
    assert decode_deltas(torch.zeros(1, 4), PROPOSAL, ONE).tolist() == PROPOSAL.tolist()


@pytest.mark.parametrize("std", [ONE, (0.1, 0.1, 0.2, 0.2), (0.033, 0.033, 0.067, 0.067)])
def test_decode_undoes_encode(std: tuple[float, float, float, float]):
    generator = torch.Generator().manual_seed(0)
    corner, side = torch.rand(2, 2, 50, 2, generator=generator, dtype=torch.float64) * 80
    proposals, targets = torch.cat([corner, corner + side + 2], dim=-1)
    back = decode_deltas(encode_deltas(proposals, targets, std), proposals, std)
    assert back.dtype == torch.float64
    assert_close(back, targets, atol=1e-11, rtol=0)


def test_growth_is_limited_after_the_std():
    # 1000 / 16 = 62.5 times in one step; dw * std decides, so dw = 40 with std 0.1 is still below log 62.5.
    assert_close(math.exp(MAX_LOG_RATIO), 62.5)
    box = decode_deltas(torch.tensor([[0.0, 0, 100, -100]]), PROPOSAL, ONE)[0]
    assert_close(box[2] - box[0], torch.tensor(20 * 62.5))
    assert_close(box[3] - box[1], torch.tensor(40 / 62.5))
    box = decode_deltas(torch.tensor([[0.0, 0, 40, 0]]), PROPOSAL, (0.1,) * 4)[0]
    assert_close(box[2] - box[0], torch.tensor(20 * math.exp(4)))


def test_size_clips():
    assert_close(decode_deltas(DELTAS, PROPOSAL, ONE, (50, 45)), torch.tensor([[20.0, 40, 45, 50]]))


def test_classwise_deltas_broadcast():
    proposals = torch.cat([PROPOSAL, TARGET])
    deltas = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    together = decode_deltas(deltas, proposals[:, None], ONE)  # (2, 3, 4)
    for k in range(3):
        assert_close(together[:, k], decode_deltas(deltas[:, k], proposals, ONE))


def test_gradient_is_that_of_differences():
    deltas = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.autograd.gradcheck(
        lambda d: decode_deltas(d, PROPOSAL.double(), (0.1, 0.1, 0.2, 0.2)), deltas.requires_grad_()
    )


def test_half_deltas_give_float32_boxes():
    far = PROPOSAL + 3000.5
    box = decode_deltas(torch.zeros(1, 4, dtype=torch.bfloat16), far, ONE)
    assert box.dtype == torch.float32 and box.tolist() == far.tolist()


def test_a_proposal_without_area_stays_a_point():
    point = torch.tensor([[5.0, 6, 5, 6]])
    assert decode_deltas(torch.ones(1, 4), point, ONE).tolist() == point.tolist()


def test_no_boxes():
    none = torch.zeros(0, 4)
    assert encode_deltas(none, none, ONE).shape == decode_deltas(none, none, ONE, (3, 3)).shape == (0, 4)
    assert decode_deltas(torch.zeros(0, 7, 4), none[:, None], ONE).shape == (0, 7, 4)
