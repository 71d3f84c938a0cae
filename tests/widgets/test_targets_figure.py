"""The still pictures of the targets viewer show as many boxes, lines and points as the view has."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from cascade_lab.widgets import targets_figure as figures
from tests.widgets.course_view import course_view


@pytest.fixture(scope="module")
def view():
    return course_view()


def drawn(axes, colour: str) -> list[tuple[float, float, float, float]]:
    """Return the corners of the boxes of a colour, which stand over their dark halos."""
    patches = [
        p for p in axes.patches if isinstance(p, Rectangle) and to_hex(p.get_edgecolor()) == colour.lower()
    ]
    return [tuple(round(float(v), 3) for v in patch.get_bbox().extents) for patch in patches]


def corners(boxes: np.ndarray) -> list[tuple[float, ...]]:
    return [tuple(round(float(v), 3) for v in box) for box in boxes]


def test_anchors_of_a_cell_and_the_positives_of_its_level(view):
    figure = figures.draw_anchors(view, level=1, cell=0)
    FigureCanvasAgg(figure).draw()
    left, right = figure.axes
    negative = corners(view.anchors.boxes[view.anchors.level_boxes(1)][:3])
    assert drawn(left, figures.NEGATIVE.colour) == negative
    positive = (view.anchors.target_index >= 0) & (view.anchors.iou >= 0.7)
    rescued = (view.anchors.target_index >= 0) & (view.anchors.iou < 0.7)
    level = np.zeros(len(positive), bool)
    level[view.anchors.level_boxes(1)] = True
    assert drawn(right, figures.POSITIVE.colour) == corners(view.anchors.boxes[positive & level])
    assert drawn(right, figures.RESCUED.colour) == corners(view.anchors.boxes[rescued & level])
    assert drawn(left, figures.OBJECT.colour) == corners(view.targets)


def test_samples_one_panel_a_loss(view):
    figure = figures.draw_samples(view)
    FigureCanvasAgg(figure).draw()
    assert len(figure.axes) == 4
    for axes, sample in zip(figure.axes, view.samples, strict=True):
        assert drawn(axes, figures.POSITIVE.colour) == corners(sample.boxes[: sample.positives])
        assert drawn(axes, figures.NEGATIVE.colour) == corners(sample.boxes[sample.positives :])
        assert f"{sample.positives} positive" in axes.get_title()


def test_levels_draw_the_cells_that_are_read(view):
    figure = figures.draw_levels(view, box=0, zooms=(1.0, 4.0))
    FigureCanvasAgg(figure).draw()
    assert [axes.get_title() for axes in figure.axes] == [
        "picture × 1, 128 pixels wide:\nlevel 0 (P2, stride 4)",
        "picture × 4, 512 pixels wide:\nlevel 2 (P4, stride 16)",
    ]
    # 128 pixels in cells of 4, and 512 pixels in cells of 16: 33 lines each
    assert [len(axes.collections[0].get_segments()) for axes in figure.axes] == [33, 33]


def test_bins_hold_their_sample_points(view):
    figure = figures.draw_bins(view, box=0, bin=10, rounded=True)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    points = sum(len(line.get_xdata()) for line in axes.lines)
    assert points == np.isfinite(view.reading.rows[0]).sum() * np.isfinite(view.reading.columns[0]).sum()
    chosen, rounded = axes.patches
    x1, y1, x2, y2 = view.reading.boxes[0] / 4
    assert chosen.get_bbox().extents == pytest.approx(
        [x1 + 3 * (x2 - x1) / 7, y1 + (y2 - y1) / 7, x1 + 4 * (x2 - x1) / 7, y1 + 2 * (y2 - y1) / 7], rel=1e-5
    )
    assert rounded.get_bbox().extents.tolist() == [round(float(v)) for v in (x1, y1, x2, y2)]
    inside = next(line for line in axes.lines if line.get_marker() == "o")
    left, top, right, bottom = chosen.get_bbox().extents
    assert np.all((inside.get_xdata() > left) & (inside.get_xdata() < right))
    assert np.all((inside.get_ydata() > top) & (inside.get_ydata() < bottom))


def test_a_step_of_nms(view):
    figure = figures.draw_suppression(view, level=1, step=2)
    FigureCanvasAgg(figure).draw()
    nms = view.suppression[1]
    kept = nms.kept()
    (axes,) = figure.axes
    assert drawn(axes, figures.NOW.colour) == corners(nms.boxes[[kept[2]]])
    assert drawn(axes, figures.KEPT.colour) == corners(nms.boxes[kept[:2]])
    assert drawn(axes, figures.FALLEN.colour) == corners(nms.boxes[nms.by == kept[2]])
    before = np.isin(nms.by, kept[:3]).sum()
    assert len(drawn(axes, figures.WAITING.colour)) == len(nms.by) - 3 - before


def test_no_two_kinds_that_meet_differ_by_colour_alone():
    looks = figures.looks()
    for together in (
        ("object", "positive", "rescued", "negative", "unused"),
        ("now", "fallen", "waiting"),
    ):
        styles = [(tuple(looks[name]["dash"]), looks[name]["color"]) for name in together]
        assert len(set(styles)) == len(together)
    assert len({tuple(looks[name]["dash"]) for name in ("positive", "rescued", "negative", "unused")}) == 4
