"""The figure shows the scores that pycocotools gives and the boxes that pass the threshold."""

from dataclasses import replace

import pytest

from cascade_lab.errors import InputError
from cascade_lab.laboratory.crossed import read
from cascade_lab.widgets.what_if_figure import draw_what_if
from tests.laboratory.test_crossed import PICTURES
from tests.laboratory.test_scores import all_knowing

CLASSES = ("disc", "square", "star")


def test_one_panel_and_three_bars_for_each_choice():
    """Boxes off by 4 % are right at 9 of the 10 IoUs; without the added objects there is nothing to find."""
    crossed = all_knowing(0.04)
    added = replace(crossed.plain, targets_added=True)
    choices = [added, crossed.plain, replace(added, foreign=(1, 0))]
    figure = draw_what_if(crossed, choices, CLASSES, picture=2, threshold=0.2)
    *panels, bars = figure.axes
    assert len(panels) == 3 and len(bars.patches) == 9
    wanted = [90.0, 100.0, 100.0, 0.0, 0.0, 0.0, 90.0, 100.0, 100.0]
    assert [bar.get_height() for bar in bars.patches] == pytest.approx(wanted)
    texts = [text.get_text().split("\n") for text in bars.texts]
    assert [lines[0] for lines in texts] == list("AAABBBCCC")
    assert [float(lines[1]) for lines in texts] == pytest.approx(wanted, abs=0.051)
    assert [lines[2] for lines in texts[3:5]] == ["(-90.0)", "(-100.0)"]
    for axes, choice in zip(panels, choices, strict=True):
        shown = int((read(crossed, choice)[2].scores >= 0.2).sum())
        assert shown == (1 if choice.targets_added else 0)
        assert len(axes.patches) == 2 * (shown + len(PICTURES[2][1]))  # a halo and a line for every box


def test_what_cannot_be_drawn():
    crossed = all_knowing(0.0)
    with pytest.raises(InputError, match="0 given"):
        draw_what_if(crossed, [], CLASSES)
    with pytest.raises(InputError, match="5 given"):
        draw_what_if(crossed, [crossed.plain] * 5, CLASSES)
    with pytest.raises(InputError, match="there are 3"):
        draw_what_if(crossed, [crossed.plain], CLASSES, picture=3)
