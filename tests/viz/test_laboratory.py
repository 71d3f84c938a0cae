"""The laboratory's figures show the numbers that they are given, with the paper's beside them."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cascade_lab.viz.laboratory import (
    draw_ap_lines,
    draw_delta_spread,
    draw_gains,
    draw_head_by_stage,
    draw_input_shares,
    draw_localisation,
    draw_positives,
)
from cascade_lab.viz.palette import stage_look


def texts(figure: Figure) -> list[list[str]]:
    FigureCanvasAgg(figure).draw()
    return [[text.get_text() for text in axes.texts] for axes in figure.axes]


def heights(axes) -> list[float]:
    return [patch.get_height() for patch in axes.patches]


def test_positives_are_drawn_and_counted():
    boxes = np.array([[1.0, 1, 9, 9], [2, 2, 10, 10], [20, 20, 30, 30]])
    ious, picture = [np.array([0.75, 0.5, 0.0]), np.array([0.8, 0.7, 0.1])], np.zeros((40, 40, 3), np.uint8)
    figure = draw_positives(picture, [boxes, boxes + 1], ious, (0.5, 0.7), boxes[:1])
    titles = [axes.get_title(loc="left").split("\n") for axes in figure.axes]
    assert titles[1] == ["into stage 1, IoU >= 0.7", "1 of 3 boxes"]
    assert [title[1][0] for title in titles] == ["2", "1", "2", "2"]
    assert [len(axes.patches) for axes in figure.axes] == [3, 2, 3, 3]  # and the object
    corners = [patch.get_xy() for patch in figure.axes[3].patches if isinstance(patch, Rectangle)]
    assert corners == [(2, 2), (3, 3), (1, 1)]


def test_input_shares_with_and_without_the_paper():
    shares = np.array([[17.0, 3.0], [32.0, 19.0], [36.0, 26.0]])
    figure = draw_input_shares(shares, (0.5, 0.7), [(16.7, 2.9), (25.6, 17.3)])
    assert texts(figure) == [["17", "32", "36", "17", "26"], ["3", "19", "26", "3", "17"]]
    first, second = figure.axes
    assert heights(second) == [3, 19, 26, 2.9, 17.3]
    assert [p.get_hatch() for p in first.patches] == [None] * 3 + ["////"] * 2  # not by colour alone
    assert [t.get_text() for t in first.get_xticklabels()] == ["into 1", "into 2", "output"]
    assert len(draw_input_shares(shares, (0.5, 0.7)).axes[0].patches) == 3


def test_delta_spread():
    deviation = np.array([[0.1, 0.11, 0.2, 0.21], [0.05, 0.06, 0.1, 0.11]])
    figure = draw_delta_spread(deviation, [(0.12, 0.13, 0.23, 0.23)])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["dx", "dy", "dw", "dh"]
    assert texts(figure)[2] == [".20", ".10", ".23"]
    assert heights(figure.axes[3]) == pytest.approx([0.21, 0.11, 0.23])


def test_localisation_lines_and_bands():
    inputs, outputs = np.array([0.5, 0.7, 0.9]), np.array([[0.7, 0.8, 0.85], [0.6, 0.75, 0.92]])
    figure = draw_localisation(inputs, outputs, np.stack([outputs - 0.01, outputs + 0.01]), (0.5, 0.7))
    (axes,) = figure.axes
    diagonal, *lines = axes.lines
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert [np.asarray(line.get_ydata()).tolist() for line in lines] == outputs.tolist()
    assert [line.get_color() for line in lines] == [stage_look(k).colour for k in (0, 1)]
    assert len(axes.collections) == 2
    assert texts(figure)[0] == ["unchanged", "head 1, u = 0.5", "head 2, u = 0.7"]


def test_head_by_stage_writes_every_cell():
    figure = draw_head_by_stage(np.array([[10.0, 20.0], [5.0, 30.0]]), (0.5, 0.6), [(1.0, 2.0), (3.0, 4.0)])
    assert texts(figure) == [["10.0", "20.0", "5.0", "30.0"], ["1.0", "2.0", "3.0", "4.0"]]
    here = figure.axes[0]
    assert [t.get_text() for t in here.get_yticklabels()] == ["head 1\nu = 0.5", "head 2\nu = 0.6"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["this cascade", "the paper"]
    # dark ink on light cells and the other way round
    assert {text.get_color() for text in here.texts} == {"#000000", "#FFFFFF"}


def test_gains():
    figure = draw_gains([50, 40], [55, 70], (0.5, 0.7), ((34.9, 31.9), (39.4, 49.5)))
    assert texts(figure) == [["u = 0.5, +5.0", "u = 0.7, +30.0"], ["u = 0.5, +4.5", "u = 0.7, +17.6"]]
    assert [np.asarray(line.get_ydata()).tolist() for line in figure.axes[0].lines] == [[50, 55], [40, 70]]
    assert len(draw_gains([50], [55], (0.5,)).axes) == 1


def test_ap_lines():
    looks = {"once": stage_look(0), "twice": stage_look(1)}
    figure = draw_ap_lines({"once": range(60, 50, -1), "twice": range(70, 60, -1)}, looks)
    (axes,) = figure.axes
    assert [np.asarray(line.get_ydata())[-1] for line in axes.lines] == [51, 61]
    legend = axes.get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == ["once", "twice"]
