"""Detections drawn on pictures: pixel values, places and sizes."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cascade_lab.structures import Instances
from cascade_lab.viz.boxes import draw_detections, overlay_masks, picture_figure
from cascade_lab.viz.palette import class_colour


def rendered(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def detections(masks: bool = True) -> Instances:
    boxes = torch.tensor([[10.0, 20.0, 50.0, 60.0], [0.0, 0.0, 30.0, 10.0], [5.0, 5.0, 9.0, 9.0]])
    inside = torch.zeros(3, 80, 100, dtype=torch.bool)
    inside[0, 20:60, 10:50] = True
    scores = torch.tensor([0.876, 0.5, 0.1])
    return Instances((80, 100), boxes, torch.tensor([1, 0, 0]), scores, inside if masks else None)


def test_picture_fills_the_figure():
    picture = np.zeros((40, 64, 3), np.uint8)
    picture[:, 32:] = 255
    image = rendered(picture_figure(picture)[0])
    assert image.shape[:2] == (640, 1024)  # the short side grows to 640
    assert image[:, :500].max() == 0 and image[:, 530:].min() == 255


@pytest.mark.parametrize("size, drawn", [((1500, 2000), (1200, 1600)), ((700, 900), (700, 900))])
def test_large_pictures_shrink_and_others_keep_their_size(size, drawn):
    figure, _ = picture_figure(np.zeros((*size, 3), np.uint8))
    assert rendered(figure).shape[:2] == drawn


def test_boxes_tags_and_scores():
    figure = draw_detections(np.zeros((80, 100, 3), np.uint8), detections(), ["nut", "bolt"], score=0.3)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["nut 50", "bolt 88"]  # the best is drawn last
    outlines = {patch.get_bbox().bounds for patch in axes.patches if isinstance(patch, Rectangle)}
    assert outlines == {(10, 20, 40, 40), (0, 0, 30, 10)}
    image = rendered(figure)
    colour = [int(class_colour(1)[i : i + 2], 16) for i in (1, 3, 5)]
    left_edge = image[8 * 40, 8 * 10 - 1 : 8 * 10 + 2]  # 80 pixels are drawn 640 high: a factor of 8
    assert np.abs(left_edge.astype(int) - colour).sum(1).min() < 12


def test_one_class_shows_scores_only_and_truth_shows_names_only():
    found = detections()
    figure = draw_detections(np.zeros((80, 100, 3), np.uint8), found, ["nut", "bolt"], score=0.6)
    assert [text.get_text() for text in figure.axes[0].texts] == ["bolt 88"]
    single = Instances((80, 100), found.boxes[:1], torch.tensor([0]), torch.tensor([0.5]))
    figure = draw_detections(np.zeros((80, 100, 3), np.uint8), single, ["nut"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["50"]
    truth = Instances((80, 100), found.boxes[:1], torch.tensor([0]))
    figure = draw_detections(np.zeros((80, 100, 3), np.uint8), truth, ["nut"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["nut"]


def test_nothing_detected():
    image = rendered(draw_detections(np.full((80, 100, 3), 7, np.uint8), detections()[:0], ["nut", "bolt"]))
    assert (image == 7).all()


def test_masks_tint_the_inside_and_trace_the_edge():
    mask = np.zeros((1, 9, 9), bool)
    mask[0, 2:7, 2:7] = True
    blended = overlay_masks(np.zeros((9, 9, 3), np.uint8), mask, ["#C80000"], opacity=0.5)
    assert (blended[~mask[0]] == 0).all()
    assert blended[4, 4].tolist() == [100, 0, 0]  # half of 200
    assert blended[2, 4].tolist() == [190, 0, 0]  # and nine tenths of the rest on the edge
    assert (blended[3:6, 3:6, 0] == 100).all()


def test_mask_at_the_border_of_the_picture_has_no_edge_there():
    blended = overlay_masks(np.zeros((5, 5, 3), np.uint8), np.ones((1, 5, 5), bool), ["#C80000"], opacity=0.5)
    assert (blended[..., 0] == 100).all()


def test_figures_leave_pyplot_alone():
    import matplotlib.pyplot as plt

    before, settings = plt.get_fignums(), dict(matplotlib.rcParams)
    draw_detections(np.zeros((80, 100, 3), np.uint8), detections(), ["nut", "bolt"])
    assert plt.get_fignums() == before and dict(matplotlib.rcParams) == settings


def test_two_names_for_one_object_are_both_readable():
    boxes = torch.tensor([[20.0, 20.0, 60.0, 60.0], [21.0, 20.0, 60.0, 61.0]])
    found = Instances((80, 100), boxes, torch.tensor([0, 1]), torch.tensor([0.9, 0.6]))
    figure = draw_detections(np.zeros((80, 100, 3), np.uint8), found, ["nut", "bolt"], tag_size=12)
    rendered(figure)
    worse, better = (text.get_window_extent() for text in figure.axes[0].texts)
    assert not worse.overlaps(better)
