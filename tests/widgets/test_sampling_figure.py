"""The still pictures draw the points, bars and circles that the arrays say."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.patches import Circle
from matplotlib.quiver import Quiver

from cascade_lab.errors import InputError
from cascade_lab.widgets.sampling_figure import draw_receptive_fields, draw_sampling
from tests.widgets.made_up_sampling import made_up_fields, made_up_sampling


def test_points_bars_and_arrows():
    sampling = made_up_sampling()
    layer = sampling.layers[2]
    figure = draw_sampling(sampling, 1, (3, 5), group=1)
    FigureCanvasAgg(figure).draw()
    points, bars, field = figure.axes
    (discs,) = (c for c in points.collections if isinstance(c, PathCollection))
    np.testing.assert_allclose(discs.get_offsets(), layer.points[3, 5, 1] * 8 + 0.5, rtol=1e-5)
    share = layer.modulation[3, 5, 1]
    np.testing.assert_allclose(discs.get_sizes() / discs.get_sizes().sum(), share, rtol=1e-4)
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], share, rtol=1e-5)
    (arrows,) = (c for c in field.collections if isinstance(c, Quiver))
    at = 3 * layer.size[1] + 5
    mean = (layer.points[3, 5, 1] * share[:, None]).sum(0) - (5, 3)
    assert (arrows.U[at], arrows.V[at]) == pytest.approx(tuple(mean * 8), rel=1e-4)
    assert arrows.XY[at] == pytest.approx((5 * 8 + 0.5, 3 * 8 + 0.5))


def test_fields_and_their_circles():
    before, after = made_up_fields(2), made_up_fields(4)
    figure = draw_receptive_fields(made_up_sampling().picture, before[:2], after[:2])
    FigureCanvasAgg(figure).draw()
    for axes, field in zip(figure.axes, (*before[:2], *after[:2]), strict=True):
        (circle,) = (patch for patch in axes.patches if isinstance(patch, Circle))
        assert circle.get_radius() == pytest.approx(field.radius())
        assert circle.get_center() == (field.column * 4 + 0.5, field.row * 4 + 0.5)
        assert f"within {field.radius():.1f} pixels" in axes.get_title()
    assert "before" in figure.axes[0].get_title() and "after" in figure.axes[2].get_title()


def test_fields_of_different_pixels_are_not_compared():
    with pytest.raises(InputError, match="must be equal"):
        draw_receptive_fields(made_up_sampling().picture, made_up_fields(2)[:2], made_up_fields(4)[1:3])
    with pytest.raises(InputError, match="must be equal"):
        draw_receptive_fields(made_up_sampling().picture, [], [])
