"""Curves give the AP that the library reports, and hand-worked steps."""

import numpy as np
import pytest

from cascade_lab.evaluation.coco import IOU_PERCENT, coco_scores, load_ground_truth, run_cocoeval
from cascade_lab.evaluation.curves import Curves, precision_recall
from tests.evaluation.scenes import box, found, random_scene, truth


def curves_of(annotations: dict, detections: list[dict]) -> Curves:
    return precision_recall(run_cocoeval(load_ground_truth(annotations), detections))


def test_steps_by_hand():
    # Right, wrong, right, with two objects: precision 1 up to recall .5, then 2/3.
    two = truth(box(0, 0, 20, 20), box(40, 0, 20, 20))
    curves = curves_of(two, [found(0, 0, 20, 20, 0.9), found(70, 70, 9, 9, 0.8), found(40, 0, 20, 20, 0.7)])
    expected = np.where(np.arange(101) <= 50, 1, 2 / 3)
    np.testing.assert_allclose(curves.precision_at(0, 0), expected)
    np.testing.assert_allclose(curves.scores[0, :, 0], np.where(np.arange(101) <= 50, 0.9, 0.7))
    np.testing.assert_allclose(curves.precision_at(0), expected)  # the other classes have no objects
    assert np.isnan(curves.precision_at(0, 1)).all() and np.isnan(curves.ap(1)).all()
    assert curves.ap(0)[0] == pytest.approx(100 * expected.mean())


def test_recall_that_is_never_reached():
    curves = curves_of(truth(box(0, 0, 20, 20), box(40, 0, 20, 20)), [found(0, 0, 20, 20)])
    assert curves.precision_at(0) == pytest.approx([1] * 51 + [0] * 50)


@pytest.mark.parametrize("seed", range(4))
def test_ap_is_that_of_the_library(seed):
    annotations, detections = random_scene(seed)
    curves, scores = curves_of(annotations, detections), coco_scores(annotations, detections, "bbox")
    assert scores is not None
    np.testing.assert_allclose(curves.ap(), [scores.summary[f"AP{t}"] for t in IOU_PERCENT])
    for label, score in enumerate(scores.per_class.values()):
        if score.objects:
            np.testing.assert_allclose(curves.ap(label), [score.summary[f"AP{t}"] for t in IOU_PERCENT])
