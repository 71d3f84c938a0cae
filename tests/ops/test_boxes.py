"""Box arithmetic against numbers worked by hand, and against torchvision."""

import pytest
import torch
import torchvision.ops as vision
from torch.testing import assert_close

from cascade_lab.ops import boxes

# A square of 4, one of 4 moved by 2 (they share 2 x 2), one far away, and one that is only a point.
FOUR = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [10, 10, 12, 14], [3, 3, 3, 3]])


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner, side = torch.rand(2, count, 2, generator=generator) * 50
    return torch.cat([corner, corner + side], dim=1)


def test_mirror_by_hand_and_twice():
    boxes_of_ten = torch.tensor([[[0.0, 1, 3, 4]], [[10, 0, 10, 8]]])  # (2, 1, 4)
    assert boxes.mirror(boxes_of_ten, 10).tolist() == [[[7, 1, 10, 4]], [[0, 0, 0, 8]]]
    assert torch.equal(boxes.mirror(boxes.mirror(FOUR, 12), 12), FOUR)
    assert boxes.mirror(torch.zeros(0, 4), 12).shape == (0, 4)


def test_area():
    assert boxes.area(FOUR).tolist() == [16, 16, 8, 0]
    assert boxes.area(torch.zeros(0, 4)).shape == (0,)


def test_iou_by_hand():
    iou = boxes.pairwise_iou(FOUR, FOUR)
    # 4 shared of 16 + 16 - 4 = 28; a point shares nothing, not even with itself.
    expected = [[1, 1 / 7, 0, 0], [1 / 7, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert_close(iou, torch.tensor(expected))


def test_paired_iou_by_hand():
    assert_close(boxes.paired_iou(FOUR[[0, 0, 2, 3]], FOUR), torch.tensor([1, 1 / 7, 1, 0]))


def test_touching_boxes_do_not_overlap():
    assert boxes.pairwise_iou(FOUR[:1], torch.tensor([[4.0, 0, 8, 4]])).item() == 0


def test_share_of_own_area_by_hand():
    small, large = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 11, 10]])
    assert boxes.pairwise_ioa(small, large).item() == 0.5
    assert_close(boxes.pairwise_ioa(large, small).item(), 0.02)
    assert boxes.pairwise_ioa(FOUR[3:], FOUR).tolist() == [[0, 0, 0, 0]]


def test_giou_by_hand():
    # Row 2: 0 shared, union 16 + 8, hull 12 x 14 = 168. Row 3: the point adds nothing to union or hull.
    giou = boxes.giou(FOUR[[0, 0, 0, 0]], FOUR)
    expected = [1, 1 / 7 - (36 - 28) / 36, -(168 - 24) / 168, 0]
    assert_close(giou, torch.tensor(expected))


def test_giou_of_two_points_is_finite():
    points = FOUR[3:].clone().requires_grad_()
    boxes.giou(points, FOUR[3:]).sum().backward()
    assert points.grad is not None and points.grad.isfinite().all()


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_torchvision(seed: int):
    a, b = random_boxes(17, seed), random_boxes(9, seed + 100)
    assert_close(boxes.pairwise_iou(a, b), vision.box_iou(a, b))
    assert_close(boxes.paired_iou(a[:9], b), vision.box_iou(a[:9], b).diagonal())
    pairwise = vision.generalized_box_iou(a[:9], b)
    assert_close(boxes.giou(a[:9], b), pairwise.diagonal(), atol=1e-5, rtol=1e-5)
    assert_close(boxes.clip(a, (30, 40)), vision.clip_boxes_to_image(a, (30, 40)))
    assert_close(boxes.xyxy_to_xywh(a), vision.box_convert(a, "xyxy", "xywh"))
    assert_close(boxes.xywh_to_xyxy(a), vision.box_convert(a, "xywh", "xyxy"))


def test_clip_takes_height_first_and_any_shape():
    wide = torch.tensor([[-5.0, -5, 500, 500]])
    assert boxes.clip(wide, (30, 40)).tolist() == [[0, 0, 40, 30]]
    assert boxes.clip(wide.expand(2, 3, 4), (30, 40)).shape == (2, 3, 4)


def test_scale_takes_y_first():
    assert boxes.scale(FOUR[1], (10.0, 0.5)).tolist() == [1, 20, 3, 60]


def test_half_precision_is_computed_in_float32():
    # In float16 whole numbers end at 2048: the area 1000 x 1000 would be infinite.
    large = torch.tensor([[0.0, 0, 1000, 1000]])
    assert boxes.area(large.half()).item() == 1e6
    assert boxes.pairwise_iou(large.half(), large.bfloat16()).dtype == torch.float32
    assert boxes.pairwise_iou(large.double(), large.double()).dtype == torch.float64
    assert boxes.area(large.long()).dtype == torch.float32


def test_no_boxes():
    none = torch.zeros(0, 4)
    assert boxes.pairwise_iou(none, FOUR).shape == (0, 4)
    assert boxes.pairwise_ioa(FOUR, none).shape == (4, 0)
    assert boxes.giou(none, none).shape == (0,)
    assert boxes.clip(none, (3, 3)).shape == (0, 4)
