"""The still pictures of a training show the numbers of its story."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from cascade_lab.widgets.moments import FILE, StageScores
from cascade_lab.widgets.training_figure import draw_picture_through_time, draw_training
from cascade_lab.widgets.training_story import NO_MOMENTS, read_story
from tests.widgets import made_up_run
from tests.widgets.test_training_story import moment_line


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    torch.set_num_threads(1)
    run = made_up_run.write_run(tmp_path_factory.mktemp("figure"), pictures=2)
    (run / FILE).write_text("".join(moment_line(10 * k, 4.0 * k) for k in (1, 2, 3)))
    return read_story(run)


def test_a_panel_for_each_part_and_one_for_ap(story):
    figure = draw_training(story)
    FigureCanvasAgg(figure).draw()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["total", "proposals", "classification", "boxes", "box AP"], "no mask losses in this log"
    boxes, ap = figure.axes[3], figure.axes[-1]
    assert len(boxes.lines) == 6, "three stages, as logged and smoothed"
    np.testing.assert_allclose(boxes.lines[0].get_ydata(), 0.1 + np.arange(1, 31) / 100)
    drawn = [tuple(line.get_ydata()) for line in ap.lines]
    assert drawn == [(4, 8, 12), (5, 9, 13), (6, 10, 14), (8, 12, 16)], "without 1~2"
    assert draw_training(story, log=True).axes[3].get_yscale() == "log"


def test_names_of_lines_do_not_overlap(story):
    ends = [StageScores(mode=mode, ap=40.0, ap50=40.0, ap75=40.0, mask_ap=None) for mode in ("1", "2", "1~2")]
    figure = draw_training(replace(story, moments=(replace(story.moments[-1], scores=tuple(ends)),)))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert figure.axes[-1].get_subplotspec().get_gridspec().nrows == 2
    names = [Text.get_window_extent(text, canvas.get_renderer()) for text in figure.axes[-1].texts]
    assert len(names) == 3
    # Text.get_window_extent leaves out the arrow of an annotation.
    below = sorted(names, key=lambda one: one.y0)
    assert all(first.y1 <= second.y0 + 1 for first, second in zip(below, below[1:], strict=False))


def test_a_story_without_checkpoints_can_be_drawn(story):
    figure = draw_training(replace(story, moments=()))
    FigureCanvasAgg(figure).draw()
    assert not figure.axes[-1].lines
    strip = draw_picture_through_time(replace(story, moments=(), pictures=()))
    assert [text.get_text() for text in strip.texts] == [NO_MOMENTS]


def test_one_picture_at_several_steps(story):
    figure = draw_picture_through_time(story, threshold=0.4, most=2)
    FigureCanvasAgg(figure).draw()
    assert [axes.get_title() for axes in figure.axes] == ["step 10: 1 found", "step 30: 1 found"]
    boxes = [
        patch.get_bbox().extents.tolist() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)
    ]
    assert [1, 2, 30, 40] in boxes
    assert len(boxes) == 2 * (len(story.pictures[0].targets) + 1), "each with its dark rim"
    assert draw_picture_through_time(story, threshold=0.6).axes[0].get_title() == "step 10: 0 found"
