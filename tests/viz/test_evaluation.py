"""The figures of an evaluation show the numbers that they were given."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from cascade_lab.evaluation.coco import coco_summary
from cascade_lab.viz.evaluation import (
    draw_confusion,
    draw_error_kinds,
    draw_in_question,
    draw_precision_recall,
    draw_staircase,
)
from tests.evaluation.scenes import box, found, truth


def drawn(figure):
    FigureCanvasAgg(figure).draw()  # warnings are errors: a label that does not fit would be one
    return figure.axes[0]


def test_staircase_has_the_ap_of_pycocotools():
    right = [True, True, False, True, False]
    axes = drawn(draw_staircase(right, objects=4))
    boxes = [found(40 * n if hit else -99 - 40 * n, 0, 20, 20, 0.9 - n / 10) for n, hit in enumerate(right)]
    summary = coco_summary(truth(*(box(40 * n, 0, 20, 20) for n in (0, 1, 3, 5))), boxes, "bbox")
    assert summary is not None and axes.get_title(loc="left").endswith(f"= {summary['AP50']:.1f}")
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("right, objects", [([False, False], 3), ([True], 1), ([False, True], 2)])
def test_staircase_of_short_lists(right, objects):
    axes = drawn(draw_staircase(right, objects))
    assert len(axes.texts) == len(right)


def test_precision_recall_names_every_reading_with_its_area():
    curves = {"1": np.linspace(1, 0, 101), "1~2": np.ones(101)}
    axes = drawn(draw_precision_recall(curves, "IoU .50"))
    assert {text.get_text() for text in axes.texts} == {"stage 1: 50.0", "1~2 together: 100.0"}
    assert axes.get_title(loc="left") == "IoU .50"
    styles = {(line.get_color(), str(line.get_linestyle()), line.get_linewidth()) for line in axes.lines}
    assert len(styles) == 2


def test_confusion_shows_counts_and_shares():
    axes = drawn(draw_confusion(np.array([[3, 1, 0], [0, 4, 0], [2, 0, 0]]), ("cup", "fork")))
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "0", "4", "0", "2", "0", "–"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cup", "fork", "missed"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cup", "fork", "background"]
    shades = np.asarray(axes.images[0].get_array()).sum(-1)
    assert shades[0, 2] == 3 and shades[1, 1] < shades[0, 0] < 3, "white is nothing, dark is the whole row"


def test_error_kinds_have_a_bar_for_every_reading():
    axes = drawn(draw_error_kinds({"wrong class": [5.0, 2.5], "missed": [-0.5, 0.0]}, ["1", "1~2"]))
    widths = [patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)]
    assert widths == [5.0, -0.5, 2.5, 0.0]
    assert [text.get_text() for text in axes.texts] == ["+5.0", "-0.5", "+2.5", "+0.0"]


def test_boxes_in_question_differ_by_more_than_colour():
    picture = np.zeros((60, 80, 3), np.uint8)
    boxes = [[10, 20, 30, 40], [40, 20, 60, 40]]
    axes = drawn(
        draw_in_question(picture, boxes, ["cup .9", "fork .4"], [True, False], missed=[[5, 5, 9, 9]])
    )
    assert {text.get_text() for text in axes.texts} == {"cup .9", "fork .4", "missed"}
    styles = [str(patch.get_linestyle()) for patch in axes.patches if patch.get_edgecolor()[:3] != (0, 0, 0)]
    assert len(set(styles)) == 3
    corners = {patch.get_bbox().bounds for patch in axes.patches}
    assert {(10, 20, 20, 20), (40, 20, 20, 20), (5, 5, 4, 4)} <= corners
