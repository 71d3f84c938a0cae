"""What the figure of a run over a published log shows."""

import numpy as np

from cascade_lab.viz.published_curves import curves_over_published

EPOCHS = np.linspace(0.1, 3, 30)
LOSSES = np.exp(-EPOCHS)
PUBLISHED = np.linspace(0.5, 12, 24)


def words(figure) -> set[str]:
    return {text.get_text() for axes in figure.axes for text in axes.texts} | {
        axes.get_title(loc="left") for axes in figure.axes
    }


def test_both_losses_on_one_axis_of_epochs():
    figure = curves_over_published(EPOCHS, LOSSES, PUBLISHED, 1 / PUBLISHED, {}, {})
    (axes,) = figure.axes
    assert axes.get_xlabel() == "finished epochs" and {"published", "this run", "loss"} <= words(figure)
    drawn = [np.asarray(line.get_xdata()) for line in axes.lines]
    assert sorted(len(x) for x in drawn) == [24, 24, 30, 30]
    assert axes.get_xlim()[1] >= 12


def test_ap_of_both():
    published = {
        "boxes": (np.arange(1.0, 4), np.array([30.0, 40, 47.2])),
        "masks": (np.arange(1.0, 4), np.ones(3)),
    }
    figure = curves_over_published(EPOCHS, LOSSES, PUBLISHED, 1 / PUBLISHED, {"boxes": 12.34}, published)
    axes = figure.axes[1]
    assert {"boxes, this run", "boxes, published", "masks, published", "AP"} <= words(figure)
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "D"]
    assert points == [(3.0, 12.34)]


def test_nan_and_nothing_are_passed_over():
    holes = np.where(np.arange(30) % 3 == 0, np.nan, LOSSES)
    holes[4] = np.inf
    figure = curves_over_published(EPOCHS, holes, np.zeros(0), np.zeros(0), {"boxes": 1.0}, {})
    assert all(np.isfinite(np.asarray(line.get_ydata(), float)).all() for line in figure.axes[0].lines)
    assert "published" not in words(figure) and "this run" in words(figure)
    curves_over_published(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0), {}, {})
