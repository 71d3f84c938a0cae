"""Best and worst pictures, counted by hand."""

import pytest

from cascade_lab.evaluation.coco import load_ground_truth, run_cocoeval
from cascade_lab.evaluation.matches import flat_matches
from cascade_lab.evaluation.ranking import picture_scores, worst_first
from tests.evaluation.scenes import box, found, truth


def test_by_hand():
    annotations = truth(
        box(0, 0, 20, 20), box(40, 0, 20, 20), box(0, 0, 20, 20, image_id=2),
        box(0, 0, 60, 60, image_id=4, iscrowd=1), images=5,
    )  # fmt: skip
    detections = [
        found(0, 0, 20, 20, 0.9), found(70, 0, 20, 20, 0.8),  # one right, one wrong
        found(40, 0, 20, 20, 0.1),  # right, and unsure
        found(4, 0, 20, 20, 0.9, image_id=2),  # IoU 16 / 24 = .67
        found(10, 10, 20, 20, 0.9, image_id=4),  # in the crowd
        found(10, 10, 20, 20, 0.9, image_id=5),  # on nothing
    ]  # fmt: skip
    matches = flat_matches(run_cocoeval(load_ground_truth(annotations), detections))
    assert picture_scores(matches) == pytest.approx([0.5, 1, 1, 1, 0])  # 1 / (1 + (1 + 1) / 2)
    assert picture_scores(matches, least_score=0.0) == pytest.approx([2 / 2.5, 1, 1, 1, 0])
    assert picture_scores(matches, iou=4) == pytest.approx([0.5, 0, 1, 1, 0])  # at .70
    assert worst_first(picture_scores(matches)).tolist() == [4, 0, 1, 2, 3]
