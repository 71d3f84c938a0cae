"""The boxes behind a bar, a cell or a point, counted again from the definitions."""

import numpy as np
import pytest

from cascade_lab.evaluation.errors import ERRORS
from cascade_lab.evaluation.ranking import picture_scores
from cascade_lab.widgets.evaluation_cases import Case, Choice, cases, count_items
from tests.widgets.made_up_evaluation import made_up_evaluation


@pytest.fixture(scope="module")
def view():
    return made_up_evaluation()


def rows(found: list[Case]) -> tuple[list[int], list[int]]:
    return sorted(d for c in found for d in c.detections), sorted(m for c in found for m in c.objects)


@pytest.mark.parametrize(
    "chart, item", [("errors", 0), ("errors", 5), ("confusion", 0), ("precision", 40), ("iou", 3)]
)
def test_pictures_own_their_boxes_and_the_fullest_comes_first(view, chart, item):
    reading = view.readings["1"]
    found = cases(view, "1", Choice(chart=chart, item=item, least_score=0.5))
    sizes = [len(case.detections) + len(case.objects) for case in found]
    assert sizes == sorted(sizes, reverse=True) and min(sizes) > 0
    assert len({case.picture for case in found}) == len(found)
    for case in found:
        assert (reading.matches.picture[list(case.detections)] == case.picture).all()
        assert (reading.matches.object_picture[list(case.objects)] == case.picture).all()


@pytest.mark.parametrize("label, iou", [(None, 0), (1, 0), (None, 6)])
def test_kinds_of_error_share_out_all_wrong_detections(view, label, iou):
    reading = view.readings["1"]
    every = [
        rows(cases(view, "1", Choice(chart="errors", item=e, label=label, iou=iou, least_score=0.3)))[0]
        for e in range(6)
    ]
    wrong = ~reading.matches.right[iou] & ~reading.matches.ignored[iou] & (reading.matches.scores >= 0.3)
    if label is not None:
        wrong &= reading.matches.labels == label
    assert sorted(d for part in every for d in part) == np.flatnonzero(wrong).tolist()


def test_missed_objects_of_a_class(view):
    found = rows(cases(view, "1", Choice(chart="errors", item=5, label=2, least_score=0.6)))
    assert found[0] == [] and found[1]
    assert (view.readings["1"].matches.object_labels[found[1]] == 2).all()
    assert ERRORS[5].name == "MISSED"


def test_cells_are_those_of_the_matrix(view):
    matrix = view.readings["1"].confusion.matrix(0.3)
    for item in range(count_items(view, "confusion")):
        detections, objects = rows(cases(view, "1", Choice(chart="confusion", item=item)))
        assert len(objects if item % 4 == 3 else detections) == matrix.flat[item]


def test_a_point_of_the_curve_shows_the_detection_that_reaches_the_recall(view):
    reading = view.readings["1"]
    label = 0
    for recall in (10, 30, 50):
        least = reading.curves.scores[0, recall, label]
        assert reading.curves.precision[0, recall, label] > 0
        detections, _ = rows(cases(view, "1", Choice(chart="precision", item=recall, label=label)))
        scores = reading.matches.scores[detections]
        assert scores.min() == least and len(detections) <= 6
        (reaching,) = [d for d in detections if reading.matches.scores[d] == least]
        assert reading.matches.right[0, reaching], "recall rises only with a right detection"


def test_a_recall_that_is_never_reached_shows_what_was_not_found(view):
    matches = view.readings["1"].matches
    detections, objects = rows(cases(view, "1", Choice(chart="precision", item=100, iou=9)))
    found = set(matches.matched[9][matches.right[9]].tolist())
    assert not detections
    assert objects == [
        m for m in range(len(matches.object_labels)) if m not in found and not matches.object_ignored[m]
    ]


def test_a_point_of_ap_and_iou_shows_what_the_next_iou_refuses(view):
    right = view.readings["1"].matches.right
    seen = [rows(cases(view, "1", Choice(chart="iou", item=t)))[0] for t in range(10)]
    assert seen[4] == np.flatnonzero(right[4] & ~right[5]).tolist()
    assert seen[9] == np.flatnonzero(right[9]).tolist()


def test_pictures_are_ranked_and_complete(view):
    matches = view.readings["1~2"].matches
    scores = picture_scores(matches, 0.5, 2)
    found = [cases(view, "1~2", Choice(chart="pictures", item=i, iou=2, least_score=0.5)) for i in range(6)]
    pictures = [case.picture for (case,) in found]
    assert sorted(pictures) == list(range(6)) and (np.diff(scores[pictures]) >= 0).all()
    for (case,) in found:
        right = sum(matches.right[2, list(case.detections)])
        wrong = len(case.detections) - right
        total = right + (wrong + len(case.objects)) / 2
        assert scores[case.picture] == pytest.approx(right / total if total else 1)
