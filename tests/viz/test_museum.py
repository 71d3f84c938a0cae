"""Two readings in one figure: the numbers are said, and neither line is told by its colour alone."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cascade_lab.viz.museum import Curve, Picture, draw_readings, written


def curve(values: list[float], **changed) -> Curve:
    y = np.array(values)
    plain = {"x_label": "step", "y_label": "loss", "value": y[-1], "words": "at the end"}
    return Curve(x=np.arange(len(y)), y=y, **plain | changed)


def picture(boxes: list[list[float]]) -> Picture:
    pixels = np.zeros((8, 12, 3), np.uint8)
    return Picture(
        pixels=pixels,
        boxes=np.array(boxes, float).reshape(-1, 4),
        names=("cup",) * len(boxes),
        value=0.5,
        words="mean IoU",
    )


def test_curves_share_axes_and_say_their_numbers():
    figure = draw_readings(curve([3.0, 2.0]), curve([3.0, 4.123]))
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    first, second = axes.lines
    assert list(first.get_ydata()) == [3, 2] and list(second.get_ydata()) == [3, 4.123]
    assert first.get_linestyle() != second.get_linestyle()
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["as it should be: at the end 2", "what you see: at the end 4.12"]


def test_bars_stand_side_by_side():
    figure = draw_readings(curve([3.0, 2.0], kind="bars"), curve([1.0, 5.0], kind="bars"))
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in figure.axes[0].patches]
    ordered = sorted(spans)
    assert all(left[1] <= right[0] + 1e-9 for left, right in zip(ordered, ordered[1:], strict=False))
    assert [bar.get_height() for bar in figure.axes[0].patches] == [3, 2, 1, 5]


def test_points_lie_as_in_a_picture():
    figure = draw_readings(curve([3.0, 2.0], kind="points"), curve([1.0, 5.0], kind="points"))
    low, high = figure.axes[0].get_ylim()
    assert low > high  # y grows downwards
    first, second = figure.axes[0].lines
    assert first.get_marker() != second.get_marker()


def test_pictures_stand_side_by_side():
    figure = draw_readings(picture([[1, 1, 4, 4]]), picture([]))
    FigureCanvasAgg(figure).draw()
    left, right = figure.axes
    assert left.get_title() == "as it should be\nmean IoU 0.5" and right.get_title().startswith(
        "what you see"
    )
    assert [text.get_text() for text in left.texts] == ["cup"] and not right.texts


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(TypeError, match="same kind"):
        draw_readings(curve([1.0, 2.0]), picture([]))
    with pytest.raises(ValueError, match=r"both be \(P,\)"):
        Curve(x=np.zeros(2), y=np.zeros(3), x_label="", y_label="", value=0.0, words="")
    with pytest.raises(ValueError, match=r"boxes must be \(1, 4\)"):
        Picture(pixels=np.zeros((2, 2, 3)), boxes=np.zeros((0, 4)), names=("a",), value=0.0, words="")


def test_numbers_are_short():
    assert [written(value) for value in (2.4e-7, 0.12345, 36.22, 0.0)] == ["0", "0.123", "36.2", "0"]
