"""Stills of the evaluation viewer: boxes stand where the picture, stored smaller, shows them."""

import numpy as np
import pytest
import torch

from cascade_lab.evaluation.errors import ERRORS, find_errors
from cascade_lab.widgets.evaluation_cases import Case
from cascade_lab.widgets.evaluation_figure import draw_case, draw_kinds
from cascade_lab.widgets.stored_evaluation import evaluation_view
from tests.evaluation.scenes import box, found, truth
from tests.widgets.made_up_evaluation import made_up_evaluation


def test_boxes_follow_a_picture_that_is_stored_smaller():
    annotations = truth(box(100, 200, 100, 100), box(400, 400, 80, 80, category_id=2))
    picture = torch.zeros(3, 640, 640, dtype=torch.uint8)
    view = evaluation_view(annotations, {"1": [found(110, 200, 100, 100, 0.87)]}, [picture])
    axes = draw_case(view, "1", Case(picture=0, detections=(0,), objects=(1,))).axes[0]
    corners = {patch.get_bbox().bounds for patch in axes.patches}
    assert corners == {(55, 100, 50, 50), (200, 200, 40, 40), (50, 100, 50, 50)}  # all halved
    assert {text.get_text() for text in axes.texts} == {"cup 0.87", "missed"}


@pytest.mark.parametrize("modes, iou", [((), 0), (("1",), 5)])
def test_kinds_are_those_of_the_readings(modes, iou):
    view = made_up_evaluation()
    axes = draw_kinds(view, modes, iou).axes[0]
    errors = [find_errors(view.readings[mode].matches, iou) for mode in modes or ("1", "1~2")]
    gains = [[one.gain(kind) for kind in ERRORS] for one in errors]
    assert f"AP{50 + 5 * iou}" in axes.get_xlabel()
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], np.ravel(gains))
