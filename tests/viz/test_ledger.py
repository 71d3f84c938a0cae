"""Bars are as long as their values, in the colour of their stage, and say what they are."""

import pytest
from matplotlib.colors import to_hex

from cascade_lab.viz.ledger import Bars, cost_bars
from cascade_lab.viz.palette import stage_look

PARTS = ["stem", "FPN", "stage 1 box head", "stage 2 mask head"]


def test_bars_are_the_values():
    values, again = [1.0, 2.0, 30.0, 4.5], [0.5, 1.0, 15.0, 1234.0]
    figure = cost_bars(
        PARTS, [Bars("time", "s", [values]), Bars("work", "s", [values, again], ("a", "b"))], "t"
    )
    one, two = figure.axes
    assert [bar.get_width() for bar in one.patches] == values
    assert [bar.get_width() for bar in two.patches] == values + again
    assert [bool(bar.get_hatch()) for bar in two.patches] == [False] * 4 + [True] * 4
    assert [label.get_text() for label in one.get_yticklabels()] == PARTS
    assert {text.get_text() for text in two.texts} >= {"30", "4.5", "1,234"}
    assert one.get_title(loc="left") == "time, s\n37.5"
    assert two.get_title(loc="left") == "work, s\na 37.5, b (hatched) 1,250"
    assert one.get_ylim()[0] > one.get_ylim()[1], "the first part stands on top"


def test_stages_have_their_own_colour():
    figure = cost_bars(PARTS, [Bars("time", "s", [[1.0, 1.0, 1.0, 1.0]])], "t")
    colours = [to_hex(bar.get_facecolor()).upper() for bar in figure.axes[0].patches]
    assert colours[2:] == [stage_look(0).colour.upper(), stage_look(1).colour.upper()]
    assert len(set(colours)) == 4


@pytest.mark.parametrize("panels", [1, 4])
def test_nothing_measured_is_drawn_too(panels):
    figure = cost_bars(["stem"], [Bars("time", "s", [[0.0]])] * panels, "t")
    assert len(figure.axes) == panels
