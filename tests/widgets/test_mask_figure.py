"""The still picture shows the same numbers as the viewer."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cascade_lab.widgets.mask_figure import draw_masks, outline
from cascade_lab.widgets.mask_view import averaged, mask_iou, mask_view, pasted
from tests.widgets import made_up


def make_view():
    picture, trace, _, targets = made_up.made_up_prediction(0, objects=4, copies=2)
    return mask_view(picture, trace, targets, made_up.CLASSES)


def test_one_panel_for_the_picture_each_stage_the_mean_and_the_result():
    view = make_view()
    figure = draw_masks(view, 1, votes=[1, 3], threshold=0.4)
    FigureCanvasAgg(figure).draw()
    first, *stages, mean, last = figure.axes
    assert first.get_title() == f"{view.class_name(1)} {view.scores[1]:.2f}"
    assert [axes.get_title() for axes in stages] == [
        "stage 1: logits",
        "stage 2: logits, no vote",
        "stage 3: logits",
    ]
    for row, axes in enumerate(stages):
        np.testing.assert_array_equal(axes.images[0].get_array(), view.logits[row, 1])
    np.testing.assert_allclose(mean.images[0].get_array(), averaged(view, 1, [1, 3]).numpy())
    mask = pasted(view, 1, [1, 3], 0.4)
    assert last.get_title() == f"pasted, {mask.sum()} pixels, IoU {mask_iou(view, 1, mask):.2f}"


def test_outline_surrounds_the_cells():
    axes = draw_masks(make_view()).axes[-2]
    before = len(axes.collections)
    outline(axes, np.array([[False, True], [False, False]]))
    drawn = {
        tuple(map(tuple, path.vertices)) for one in axes.collections[before:] for path in one.get_paths()
    }
    assert drawn == {((1, 0), (2, 0)), ((1, 1), (2, 1)), ((1, 0), (1, 1)), ((2, 0), (2, 1))}
