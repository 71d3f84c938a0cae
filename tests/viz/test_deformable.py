"""The drawings of chapter 02 show the numbers and places that a pencil gives."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba

from cascade_lab.viz.deformable import draw_bilinear, draw_points, draw_sampling
from cascade_lab.viz.palette import SKY


def test_bilinear_states_the_shares_and_the_value():
    figure = draw_bilinear([[2, 4, 6], [8, 1, 5], [3, 7, 9]], [(1.25, 0.8), (-0.5, 1)])
    FigureCanvasAgg(figure).draw()
    inside, outside = figure.axes
    assert inside.get_xlabel() == "0.15·4 + 0.05·6\n+ 0.60·1 + 0.20·5 = 2.5"
    assert outside.get_xlabel() == "0.50·0 + 0.50·8\n+ 0.00·0 + 0.00·3 = 4"
    tinted = {
        tuple(np.add(patch.get_xy(), 0.5).round(6)): patch.get_alpha()
        for patch in inside.patches
        if patch.get_facecolor()[:3] == to_rgba(SKY)[:3]
    }
    assert tinted == pytest.approx({(1, 0): 0.1125, (2, 0): 0.0375, (1, 1): 0.45, (2, 1): 0.15})
    assert inside.collections[0].get_offsets().tolist() == [[1.25, 0.8]]


def test_points_carry_their_numbers():
    x = torch.tensor([2.0, 2, 2, 3, 3, 3, 4, 4, 6.5])
    y = torch.tensor([2.0, 3, 4, 2, 3, 4, 2, 3, 0.0])
    figure = draw_points([(x, y), (x, y)], ["one", "two"], size=(7, 7))
    FigureCanvasAgg(figure).draw()
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    numbers = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert numbers["8"] == (6.5, 0) and numbers["1"] == (2, 3) and len(numbers) == 9


def test_sampling_says_what_lies_outside_and_how_much_each_counts():
    picture = np.zeros((32, 48, 3), np.uint8)
    x = np.array([10.0, 20, 30, 40, 50, -3, 5, 6, 7])
    points = np.stack([x, x / 2], axis=1)
    weights = np.array([0.5, 0.5, 0, 0, 0, 0, 0, 0, 0])
    figure = draw_sampling([picture] * 2, (16.5, 8.5), 8, [points, points / 2], [weights] * 2, ["a", "b"])
    FigureCanvasAgg(figure).draw()
    assert [axes.get_title() for axes in figure.axes] == ["a, 2 outside", "b, 1 outside"]
    discs = figure.axes[0].collections[0]
    np.testing.assert_allclose(discs.get_offsets(), points)
    sizes = discs.get_sizes()
    assert sizes[0] == sizes[1] > 0 and not sizes[2:].any()
    *cells, own = [patch.get_bbox().extents.tolist() for patch in figure.axes[0].patches]
    assert own == [12.5, 4.5, 20.5, 12.5]
    assert len(cells) == 9 and min(cells) == [4.5, -3.5, 12.5, 4.5] and max(cells) == [20.5, 12.5, 28.5, 20.5]
