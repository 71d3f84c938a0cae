"""The confusion matrix by hand, and its marginals against plain counts."""

import numpy as np
import pytest

from cascade_lab.evaluation.coco import load_ground_truth, run_cocoeval
from cascade_lab.evaluation.confusion import Confusion, pair_all_classes
from cascade_lab.evaluation.matches import flat_matches
from tests.evaluation.scenes import box, found, random_scene, truth


def confusion_of(annotations: dict, detections: list[dict]) -> Confusion:
    return pair_all_classes(flat_matches(run_cocoeval(load_ground_truth(annotations), detections)))


def test_by_hand():
    three = truth(box(0, 0, 20, 20), box(40, 0, 20, 20, category_id=2), box(0, 40, 20, 20, category_id=3))
    detections = [
        found(0, 0, 20, 20, 0.5),  # the cup, but a fork has taken it
        found(1, 0, 20, 20, 0.9, category_id=2),  # a fork where the cup is
        found(41, 0, 20, 20, 0.8, category_id=2),  # the fork
        found(70, 70, 10, 10, 0.7, category_id=3),  # a spoon on nothing
    ]
    confusion = confusion_of(three, detections)
    #     said:             cup fork spoon missed
    assert confusion.matrix().tolist() == [
        [0, 1, 0, 0],  # cup
        [0, 1, 0, 0],  # fork
        [0, 0, 0, 1],  # spoon
        [0, 0, 1, 0],  # background
    ]
    assert [rows.tolist() for rows in confusion.cell(0, 1)] == [[1], [0]]
    assert [rows.tolist() for rows in confusion.cell(2, 3)] == [[], [2]]
    assert [rows.tolist() for rows in confusion.cell(3, 2)] == [[3], []]
    assert confusion.objects.tolist() == [-2, 0, 1, -1]  # a second opinion on the cup counts nowhere


def test_the_best_overlap_is_taken_and_half_is_enough():
    two = truth(box(0, 0, 20, 20), box(8, 0, 20, 20, category_id=2))
    assert confusion_of(two, [found(6, 0, 20, 20)]).objects.tolist() == [1]
    assert confusion_of(truth(box(0, 0, 20, 20)), [found(0, 0, 20, 10)]).objects.tolist() == [0]  # .5
    assert confusion_of(truth(box(0, 0, 20, 20)), [found(0, 0, 20, 9)]).objects.tolist() == [-1]


def test_crowds_are_left_out():
    crowd = truth(box(50, 50, 50, 50, iscrowd=1))
    assert confusion_of(crowd, [found(60, 60, 20, 20)]).matrix().sum() == 0
    assert confusion_of(crowd, [found(60, 60, 20, 20, category_id=2)]).matrix()[3, 1] == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("least", [0.0, 0.4, 1.1])
def test_every_object_and_every_detection_is_counted_once(seed, least):
    annotations, detections = random_scene(seed)
    confusion = confusion_of(annotations, detections)
    matches, matrix = confusion.matches, confusion.matrix(least)
    real = matches.object_labels[~matches.object_ignored]
    assert matrix[:3].sum(1).tolist() == np.bincount(real, minlength=3).tolist()
    counted = (matches.scores >= least) & (confusion.objects != -2)
    taken = confusion.objects[confusion.objects >= 0]
    assert len(set(taken.tolist())) == len(taken), "no object is taken twice"
    assert matrix[:, :3].sum(0).tolist() == np.bincount(matches.labels[counted], minlength=3).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_a_least_score_is_the_same_as_dropping_detections(seed):
    annotations, detections = random_scene(seed)
    kept = [d for d in detections if d["score"] >= 0.4]
    assert 0 < len(kept) < len(detections)
    ours, theirs = confusion_of(annotations, detections), confusion_of(annotations, kept)
    np.testing.assert_array_equal(ours.matrix(0.4), theirs.matrix())
