"""The true boxes, handed in as detections, score 100; moved ones do not."""

from dataclasses import replace

import torch

from cascade_lab.evaluation.coco import coco_summary, detections_to_coco
from cascade_lab.evaluation.truth import truth_to_coco
from cascade_lab.structures import Instances


def picture(boxes: list[list[float]], labels: list[int]) -> Instances:
    return Instances((40, 60), torch.tensor(boxes), torch.tensor(labels), torch.ones(len(boxes)))


TRUTH = [
    picture([[1.0, 2.0, 11.0, 22.0], [20.0, 20.0, 50.0, 30.0]], [1, 0]),
    picture([[5.0, 5.0, 15.0, 15.0]], [1]),
]


def score(found: list[Instances]) -> float:
    rows = [row for i, one in enumerate(found, 7) for row in detections_to_coco(i, one, (4, 2))]
    summary = coco_summary(truth_to_coco(TRUTH, ("cup", "pot"), (4, 2), first=7), rows, "bbox")
    assert summary is not None and summary["AP"] is not None
    return summary["AP"]


def test_by_hand():
    content = truth_to_coco(TRUTH, ("cup", "pot"), (4, 2), first=7)
    assert content["images"] == [{"id": 7, "height": 40, "width": 60}, {"id": 8, "height": 40, "width": 60}]
    assert [row["bbox"] for row in content["annotations"]] == [
        [1, 2, 10, 20],
        [20, 20, 30, 10],
        [5, 5, 10, 10],
    ]
    assert [(row["id"], row["image_id"], row["category_id"]) for row in content["annotations"]] == [
        (1, 7, 2),
        (2, 7, 4),
        (3, 8, 2),
    ]


def test_the_truth_itself_is_perfect_and_moved_boxes_are_not():
    assert score(TRUTH) > 99.9
    assert score([replace(one, boxes=one.boxes + 2) for one in TRUTH]) < 60
    assert score([replace(one, labels=1 - one.labels) for one in TRUTH]) == 0


def test_ignored_regions_are_crowds():
    region = replace(TRUTH[0], ignore=torch.tensor([True, False]))
    rows = truth_to_coco([region], ("cup", "pot"))["annotations"]
    assert [(row["iscrowd"], row["category_id"], row["image_id"]) for row in rows] == [(1, 2, 1), (0, 1, 1)]
