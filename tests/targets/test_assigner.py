"""The assigner on boxes whose overlaps are fractions of small numbers."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.structures import Instances
from cascade_lab.targets.assigner import Assigner

STAGE = Assigner(positive_iou=0.5, negative_iou=0.5, min_positive_iou=0.5, match_low_quality=False)
RPN = Assigner(positive_iou=0.7, negative_iou=0.3, min_positive_iou=0.3, match_low_quality=True)


def bars(*spans: tuple[float, float]) -> Tensor:
    """Boxes 10 high that differ only in x, so that overlaps can be read off the line."""
    return torch.tensor([[left, 0.0, right, 10.0] for left, right in spans]).view(-1, 4)


def objects(*spans: tuple[float, float], ignore: list[bool] | None = None) -> Instances:
    mark = None if ignore is None else torch.tensor(ignore, dtype=torch.bool)
    return Instances((100, 100), bars(*spans), ignore=mark)


def test_threshold_belongs_to_the_positives():
    boxes = bars((0, 10), (0, 5), (0, 4), (50, 60))  # IoU 1, 1/2, 2/5, 0
    found = STAGE.assign(boxes, objects((0, 10)))
    assert found.target_index.tolist() == [0, 0, -1, -1]
    assert found.target_index.dtype == torch.int64
    assert_close(found.iou, torch.tensor([1, 0.5, 0.4, 0]))


def test_between_the_thresholds_is_unused():
    rule = Assigner(positive_iou=0.7, negative_iou=0.3, min_positive_iou=0.3, match_low_quality=False)
    boxes = bars((0, 8), (0, 6), (0, 2), (0, 3))  # IoU .8, .6, .2 and exactly the lower threshold
    assert rule.assign(boxes, objects((0, 10))).target_index.tolist() == [0, -2, -1, -2]


def test_a_higher_stage_asks_for_more():
    boxes, target = bars((0, 10), (0, 8), (0, 6.5), (0, 5.5)), objects((0, 10))
    counts = []
    for iou in (0.5, 0.6, 0.7):
        rule = Assigner(positive_iou=iou, negative_iou=iou, min_positive_iou=iou, match_low_quality=False)
        counts.append(int((rule.assign(boxes, target).target_index >= 0).sum()))
    assert counts == [4, 3, 2]


def test_best_object_wins_and_equal_ones_go_to_the_first():
    boxes = bars((0, 10), (20, 30), (20, 30))
    found = STAGE.assign(boxes, objects((0, 6), (0, 9), (20, 30), (20, 30)))
    assert found.target_index.tolist() == [1, 2, 2]


def test_rescue_takes_all_equally_good_boxes():
    # The best overlap with the object is 2/5: too little to be positive, enough to be rescued, twice.
    boxes = bars((0, 4), (6, 10), (0, 3.5))
    assert RPN.assign(boxes, objects((0, 10))).target_index.tolist() == [0, 0, -2]


def test_rescue_needs_a_minimum():
    assert RPN.assign(bars((0, 2.9)), objects((0, 10))).target_index.tolist() == [-1]
    assert RPN.assign(bars((0, 3.1)), objects((0, 10))).target_index.tolist() == [0]


def test_an_object_that_no_box_touches_is_not_rescued():
    """With a minimum of 0 it would get every box there is, since all overlap it equally little."""
    rule = Assigner(positive_iou=0.7, negative_iou=0.3, min_positive_iou=0.0, match_low_quality=True)
    assert rule.assign(bars((0, 1), (20, 30)), objects((0, 10), (50, 60))).target_index.tolist() == [0, -1]


def test_rescue_of_a_later_object_overrides_a_better_match():
    # The only box is object 0 exactly, and also the best that object 1 has (IoU 1/2).
    assert RPN.assign(bars((0, 10)), objects((0, 10), (0, 20))).target_index.tolist() == [1]
    assert RPN.assign(bars((0, 10)), objects((0, 20), (0, 10))).target_index.tolist() == [1]


def test_boxes_that_are_not_allowed_rescue_nobody():
    boxes, target = bars((0, 9), (0, 4), (50, 60)), objects((0, 10))
    assert RPN.assign(boxes, target).target_index.tolist() == [0, -2, -1]
    found = RPN.assign(boxes, target, torch.tensor([False, True, True]))
    assert found.target_index.tolist() == [-2, 0, -1]
    assert_close(found.iou, torch.tensor([0, 0.4, 0]))
    assert RPN.assign(boxes, target, torch.zeros(3, dtype=torch.bool)).target_index.tolist() == [-2] * 3


def test_ignored_regions_hide_background_but_not_objects():
    rule = Assigner(
        positive_iou=0.5, negative_iou=0.5, min_positive_iou=0.5, match_low_quality=False, ignore_ioa=0.5
    )
    target = objects((40, 90), (0, 10), ignore=[True, False])
    boxes = bars((0, 9), (50, 60), (35, 45), (36, 47), (20, 30))  # shares in the region: 0, 1, 1/2, 7/11, 0
    found = rule.assign(boxes, target)
    assert found.target_index.tolist() == [0, -2, -1, -2, -1]  # and 0 counts objects only
    assert_close(found.iou[1], torch.tensor(0.0))

    over_the_object = objects((0, 50), (0, 10), ignore=[True, False])
    assert rule.assign(bars((0, 10)), over_the_object).target_index.tolist() == [0]


def test_without_the_rule_ignored_regions_are_background():
    target = objects((40, 90), (0, 10), ignore=[True, False])
    assert STAGE.assign(bars((40, 90), (0, 10)), target).target_index.tolist() == [-1, 0]


@pytest.mark.parametrize("rule", [STAGE, RPN])
def test_nothing_to_match(rule: Assigner):
    found = rule.assign(bars((0, 10), (5, 9)), objects())
    assert found.target_index.tolist() == [-1, -1] and found.iou.tolist() == [0, 0]
    found = rule.assign(bars(), objects((0, 10)))
    assert found.target_index.shape == found.iou.shape == (0,)
    assert rule.assign(bars(), objects()).target_index.shape == (0,)


def test_impossible_thresholds():
    with pytest.raises(ValueError, match="negative_iou <= positive_iou"):
        Assigner(positive_iou=0.3, negative_iou=0.7, min_positive_iou=0.3, match_low_quality=True)
    with pytest.raises(ValueError, match="min_positive_iou"):
        Assigner(positive_iou=0.7, negative_iou=0.3, min_positive_iou=3, match_low_quality=True)


def by_the_words(rule: Assigner, boxes: Tensor, targets: Tensor) -> list[int]:
    """Match with plain loops, in the words of the rule."""

    def overlap(a: Tensor, b: Tensor) -> Tensor:
        wh = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
        both, of_a, of_b = wh[0] * wh[1], (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
        return both / (of_b + of_a - both)

    table = [[float(overlap(box, target)) for target in targets] for box in boxes]
    answer = []
    for row in table:
        best = max(row)
        positive, negative = best >= rule.positive_iou, best < rule.negative_iou
        answer.append(row.index(best) if positive else -1 if negative else -2)
    if rule.match_low_quality:
        for target in range(len(targets)):
            best = max(row[target] for row in table)
            for number, row in enumerate(table):
                if best >= rule.min_positive_iou and row[target] == best:
                    answer[number] = target
    return answer


@pytest.mark.parametrize("rule", [STAGE, RPN])
@pytest.mark.parametrize("seed", range(3))
def test_by_the_words(rule: Assigner, seed: int):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 20, (45, 2), generator=generator).float()
    boxes = torch.cat([corner, corner + torch.randint(4, 16, (45, 2), generator=generator)], dim=1)
    targets = boxes[40:] + 1.0
    found = rule.assign(boxes[:40], Instances((40, 40), targets))
    assert found.target_index.tolist() == by_the_words(rule, boxes[:40], targets)
