"""The drawings of the course say the numbers that a pencil gives, and show the cells where they are."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from cascade_lab.viz.lessons import draw_grids, draw_overlaps


def test_overlaps_state_areas_and_iou():
    figure = draw_overlaps([([0, 0, 10, 10], [5, 0, 15, 10]), ([0, 0, 4, 4], [6, 6, 8, 9])])
    FigureCanvasAgg(figure).draw()
    first, second = figure.axes
    assert first.get_xlabel().split("\n") == ["area a 100, area b 100", "shared 50, union 150", "IoU 0.33"]
    assert second.get_xlabel().split("\n") == ["area a 16, area b 6", "shared 0, union 22", "IoU 0.00"]
    hatched = [p.get_bbox().bounds for p in first.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert hatched == [(5, 0, 5, 10)]
    assert not [patch for patch in second.patches if patch.get_hatch()]


def test_overlaps_share_one_frame_in_which_y_grows_downwards():
    figure = draw_overlaps([([0, 0, 10, 10], [5, 0, 15, 10]), ([0, 0, 1, 1], [0, 0, 1, 1])])
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    low, high = first.get_ylim()
    assert low > 10 and high < 0
    assert first.patches[1].get_linestyle() != first.patches[2].get_linestyle()  # not by colour alone


@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_grids_keep_cells_and_count_from_the_left_upper_corner(of):
    cells = np.array([[True, False, False], [False, False, True]])
    picture = np.full((5, 4, 3), 9, np.uint8)
    figure = draw_grids([of(cells), picture], ["cells", "picture"])
    FigureCanvasAgg(figure).draw()
    left, right = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["cells", "picture"]
    assert left.images[0].get_extent() == [0, 3, 2, 0] and right.images[0].get_extent() == [0, 4, 5, 0]
    shades = left.images[0].to_rgba(left.images[0].get_array())[..., :3].sum(-1)
    np.testing.assert_array_equal(shades < 2.9, cells)  # 1 is dark, 0 is the paper
    assert len(left.collections) == 2 and not right.collections  # lines between cells, none over a picture
