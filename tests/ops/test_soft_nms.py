"""Soft-NMS against numbers worked by hand, the paper's algorithm in plain Python, and its limits."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.ops.nms import batched_nms, nms
from cascade_lab.ops.soft_nms import remaining_share, soft_nms

# Neighbours 2 apart share 8 of 12 columns (IoU 2/3), 4 apart 6 of 14 (3/7).
ROW = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10], [50, 50, 60, 60]])
SCORES = torch.tensor([0.7, 0.9, 0.8, 0.1])


def crowd(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 60
    side = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 30 + 5
    scores = torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.cat([corner, corner + side], dim=1), scores, torch.arange(count) % 3


def one_group(scores: Tensor) -> Tensor:
    return torch.zeros(len(scores), dtype=torch.int64)


def test_linear_by_hand():
    """Box 1 leaves 1/3 to both neighbours; box 2 then leaves 4/7 of that to box 0, or all of it at 0.5."""
    keep, scores = soft_nms(ROW, SCORES, one_group(SCORES), "linear", iou=0.3)
    assert keep.tolist() == [1, 2, 0, 3]
    assert_close(scores, torch.tensor([0.9, 0.8 / 3, 0.7 / 3 * 4 / 7, 0.1]))
    _, scores = soft_nms(ROW, SCORES, one_group(SCORES), "linear", iou=0.5)
    assert_close(scores, torch.tensor([0.9, 0.8 / 3, 0.7 / 3, 0.1]))


def test_gaussian_by_hand():
    keep, scores = soft_nms(ROW, SCORES, one_group(SCORES), "gaussian", sigma=0.5)
    near, far = math.exp(-((2 / 3) ** 2) / 0.5), math.exp(-((3 / 7) ** 2) / 0.5)
    assert keep.tolist() == [1, 2, 0, 3]
    assert_close(scores, torch.tensor([0.9, 0.8 * near, 0.7 * near * far, 0.1]))


def test_a_lowered_box_may_come_after_a_worse_one():
    keep, scores = soft_nms(ROW, torch.tensor([0.7, 0.9, 0.8, 0.5]), one_group(SCORES), "linear", iou=0.3)
    assert keep.tolist() == [1, 3, 2, 0] and scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_at_the_threshold_linear_lowers():
    share = remaining_share(torch.tensor([0.4, 0.5, 0.75]), "linear", 0.5, sigma=1.0)
    assert share.tolist() == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("decay", ["linear", "gaussian"])
def test_what_falls_too_low_is_dropped(decay):
    keep, scores = soft_nms(ROW, SCORES, one_group(SCORES), decay, min_score=0.3)
    assert keep.tolist() == ([1] if decay == "linear" else [1, 2]) and (scores > 0.3).all()
    keep, _ = soft_nms(ROW[3:], SCORES[3:], one_group(SCORES[3:]), decay, min_score=float(SCORES[3]))
    assert len(keep) == 0  # must score above it


def by_the_paper(
    boxes: Tensor, scores: Tensor, decay: str, iou: float, sigma: float
) -> list[tuple[float, int]]:
    """Figure 2 of the paper in plain numbers, for one class: (final score, index) in order of selection."""
    rest = {i: float(s) for i, s in enumerate(scores)}  # B and S
    found = []  # D
    while rest:
        m = max(rest, key=lambda i: rest[i])
        found.append((rest.pop(m), m))
        ax1, ay1, ax2, ay2 = boxes[m].tolist()
        for i in rest:
            x1, y1, x2, y2 = boxes[i].tolist()
            shared = max(0.0, min(x2, ax2) - max(x1, ax1)) * max(0.0, min(y2, ay2) - max(y1, ay1))
            overlap = shared / ((x2 - x1) * (y2 - y1) + (ax2 - ax1) * (ay2 - ay1) - shared)
            if decay == "gaussian":
                rest[i] *= math.exp(-overlap * overlap / sigma)
            elif overlap >= iou:
                rest[i] *= 1 - overlap
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "decay, iou, sigma", [("linear", 0.3, 1.0), ("linear", 0.0, 1.0), ("gaussian", 0.9, 0.5)]
)
def test_against_the_papers_algorithm(seed: int, decay, iou: float, sigma: float):
    boxes, scores, groups = crowd(60, seed)
    expected = []
    for group in range(3):
        rows = (groups == group).nonzero().squeeze(1)
        expected += [(s, int(rows[i])) for s, i in by_the_paper(boxes[rows], scores[rows], decay, iou, sigma)]
    expected.sort(reverse=True)
    keep, lowered = soft_nms(boxes, scores, groups, decay, iou=iou, sigma=sigma, min_score=0.0)
    assert keep.tolist() == [i for _, i in expected]
    assert_close(lowered, torch.tensor([s for s, _ in expected], dtype=torch.float64))
    first, _ = soft_nms(boxes, scores, groups, decay, iou=iou, sigma=sigma, min_score=0.0, most=7)
    assert first.tolist() == keep[:7].tolist()


def test_limits():
    """Gaussian without width is hard NMS at IoU 0; endlessly wide, or linear above 1, only sorts."""
    boxes, scores, groups = crowd(80, 5)
    keep, unchanged = soft_nms(boxes, scores, groups, "gaussian", sigma=1e-9, min_score=1e-12)
    assert keep.tolist() == batched_nms(boxes, scores, groups, 0.0).tolist()
    assert torch.equal(unchanged, scores[keep])
    order = scores.argsort(descending=True)
    wide, same = soft_nms(boxes, scores, groups, "gaussian", sigma=1e12, min_score=0.0)
    assert torch.equal(wide, order)
    assert_close(same, scores[order])
    never, same = soft_nms(boxes, scores, groups, "linear", iou=1.01, min_score=0.0)
    assert torch.equal(never, order) and torch.equal(same, scores[order])


def test_equal_boxes_linear_is_hard():
    """Copies overlap by 1 and keep nothing, so linear agrees with hard NMS where there are only copies."""
    boxes, scores, _ = crowd(5, 1)
    apart = boxes + 200 * torch.arange(5, dtype=boxes.dtype)[:, None]
    copies, scores = apart.repeat(3, 1), torch.cat([scores, scores * 0.9, scores * 0.8])
    keep, _ = soft_nms(copies, scores, torch.zeros(15, dtype=torch.int64), "linear", iou=0.5, min_score=0.0)
    assert keep.tolist() == nms(copies, scores, 0.5).tolist() and len(keep) == 5


def test_equal_scores_and_the_input_stays():
    boxes, scores = ROW[:2].clone(), torch.tensor([0.5, 0.5])
    keep, _ = soft_nms(boxes, scores, one_group(scores), "linear")
    assert keep.tolist() == [0, 1] and scores.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("decay", ["linear", "gaussian"])
def test_half_precision_and_no_boxes(decay):
    keep, scores = soft_nms(ROW.half(), SCORES.half(), one_group(SCORES), decay)
    assert keep.dtype == torch.int64 and scores.dtype == torch.float32 and len(keep) == 4
    none = torch.zeros(0, 4)
    keep, scores = soft_nms(none, none[:, 0], none[:, 0].long(), decay)
    assert keep.shape == scores.shape == (0,) and keep.dtype == torch.int64
