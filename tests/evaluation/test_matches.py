"""Flat arrays say what pycocotools says, in the order of the files."""

import numpy as np
import pytest

from cascade_lab.evaluation.coco import coco_scores, load_ground_truth, run_cocoeval
from cascade_lab.evaluation.matches import Matches, average_precision, flat_matches
from tests.evaluation.scenes import CLASSES, box, found, random_scene, truth


def matches_of(annotations: dict, detections: list[dict], **options) -> Matches:
    return flat_matches(run_cocoeval(load_ground_truth(annotations), detections, **options))


def test_rows_follow_the_files():
    annotations, detections = random_scene(3)
    matches = matches_of(annotations, detections)
    assert matches.classes == CLASSES and matches.ious == pytest.approx(np.arange(0.5, 1, 0.05))
    np.testing.assert_allclose(matches.scores, [d["score"] for d in detections])
    assert (matches.pictures[matches.picture] == [d["image_id"] for d in detections]).all()
    assert (matches.labels + 1 == [d["category_id"] for d in detections]).all()
    x1, y1, x2, y2 = matches.boxes.T
    np.testing.assert_allclose(np.stack([x1, y1, x2 - x1, y2 - y1], 1), [d["bbox"] for d in detections])
    objects = annotations["annotations"]
    assert (matches.object_labels + 1 == [o["category_id"] for o in objects]).all()
    assert (matches.object_ignored == [bool(o["iscrowd"]) for o in objects]).all()


def test_who_took_what_at_each_iou():
    # IoU .82 with the first cup, so it is right up to .80; the other lies in a crowd of forks.
    annotations = truth(box(0, 0, 40, 40), box(50, 50, 50, 50, category_id=2, iscrowd=1))
    matches = matches_of(annotations, [found(60, 60, 20, 20, category_id=2), found(4, 0, 40, 40)])
    assert matches.right[:, 1].tolist() == [True] * 7 + [False] * 3
    assert matches.matched[:, 1].tolist() == [0] * 7 + [-1] * 3
    assert (
        matches.ignored.all(1).any() is np.False_
        and matches.ignored[:, 0].all()
        and not matches.right[:, 0].any()
    )


def test_only_known_classes():
    annotations = truth(box(0, 0, 40, 40), box(50, 50, 40, 40, category_id=2))
    detections = [found(50, 50, 40, 40, category_id=2), found(0, 0, 40, 40)]
    matches = matches_of(annotations, detections, category_ids=[1])
    assert matches.classes == ("cup",) and matches.right[0].tolist() == [True]
    assert matches.matched[0].tolist() == [0] and len(matches.object_labels) == 1


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_the_whole_evaluation(seed):
    annotations, detections = random_scene(seed)
    matches = matches_of(annotations, detections)
    rows = np.flatnonzero(~matches.ignored[0])
    order = rows[np.argsort(matches.picture[rows], kind="stable")]
    asked = matches.object_labels[~matches.object_ignored]
    ours = average_precision(3, order, matches.labels, matches.scores, matches.right[0], asked)
    scores = coco_scores(annotations, detections, "bbox")
    assert scores is not None
    for value, score in zip(ours, scores.per_class.values(), strict=True):
        assert (
            np.isnan(value)
            if score.summary["AP50"] is None
            else value == pytest.approx(score.summary["AP50"])
        )
