"""Detections followed back through the stages, with a detector whose boxes and IoUs are known by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.viz.stages import follow, stage_input_ious, stage_strip
from tests.fake_detector import IOUS, SHIFTS, FakeDetector

SIZE = (60, 90)
PICTURE = np.full((*SIZE, 3), 128, np.uint8)
TRUTH = Instances(
    SIZE,
    torch.tensor([[10.0, 5.0, 50.0, 45.0], [30.0, 20.0, 70.0, 55.0]]),
    torch.tensor([0, 1]),
    ignore=torch.tensor([False, False]),
)


def trace(masks: bool = True):
    """A trace in the frame of the original picture, of which the network saw a copy twice as large."""
    batch = ImageBatch.collate([torch.zeros(3, 120, 180)], [SIZE])
    return FakeDetector({SIZE: TRUTH}, 2, masks).predict(batch).trace.to_original()


def iou(shift: float) -> float:
    return (40 - shift) / (40 + shift)


def test_boxes_scores_and_ious_of_every_step():
    steps = follow(trace(), 0, top=5, targets=TRUTH)
    assert steps.boxes.shape == (4, 2, 4)
    assert steps.boxes[:, 0, 0] == pytest.approx([10 + shift for shift in SHIFTS])
    assert steps.truth is not None
    assert steps.truth == pytest.approx(np.array([[iou(shift)] * 2 for shift in SHIFTS]), abs=1e-5)
    # Logits (3 + k, 0, 0): softmax e^(3 + k) / (e^(3 + k) + 2).
    expected = [np.exp(3 + k) / (np.exp(3 + k) + 2) for k in range(3)]
    assert steps.scores[:, 0] == pytest.approx(expected)
    assert steps.final_scores == pytest.approx([0.9, 0.6])
    assert steps.masks is not None and steps.masks.shape == (2, *SIZE)
    assert steps.masks[0].sum() == pytest.approx(40 * 40, rel=0.03)


def test_best_first_and_only_above_the_score():
    given = trace()
    found = given.detections
    turned = replace(found, scores=[found.scores[0].flip(0)])
    assert follow(replace(given, detections=turned), 0, top=1).labels.tolist() == [1]
    assert follow(given, 0, top=5, score=0.7).labels.tolist() == [0]
    assert follow(given, 0, top=0).boxes.shape == (4, 0, 4)


def test_rows_lead_back_to_the_right_proposal():
    given = trace()
    found = given.detections
    swapped = replace(found, rows=[torch.tensor([1, 0])])
    assert follow(replace(given, detections=swapped), 0, top=1).boxes[0, 0, 0] == pytest.approx(38)


def test_iou_with_objects_of_another_class_is_zero():
    other = replace(TRUTH, labels=torch.tensor([1, 1]))
    steps = follow(
        trace(), 0, top=1, targets=replace(other, boxes=TRUTH.boxes[[0, 0]], labels=torch.tensor([1, 1]))
    )
    assert steps.truth is not None and steps.truth.max() == 0


def test_trace_of_training_is_refused():
    with pytest.raises(ValueError, match="predict"):
        follow(replace(trace(), detections=None), 0, top=1)


def test_strip_has_a_column_a_step_and_a_row_a_closeup():
    figure = stage_strip(PICTURE, trace(), ["nut", "bolt"], targets=TRUTH)
    assert len(figure.axes) == 5 * 3
    titles = [axes.get_title(loc="left") for axes in figure.axes[:5]]
    assert titles[0] == f"mean IoU {iou(8):.2f}"
    assert titles[1:4] == [
        f"trained at IoU {u:g} · mean IoU {iou(shift):.2f}" for u, shift in zip(IOUS, SHIFTS[1:], strict=True)
    ]
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {"proposals", "stage 1", "stage 2", "stage 3", "detections", "nut 90", "bolt 60"} <= set(texts)
    assert f"score 99 · IoU {iou(1):.2f}" in texts
    FigureCanvasAgg(figure).draw()


@pytest.mark.parametrize("masks", [False, True])
def test_strip_without_truth_masks_or_detections(masks):
    figure = stage_strip(PICTURE, trace(masks), ["nut", "bolt"], closeups=1)
    assert len(figure.axes) == 10
    figure = stage_strip(PICTURE, trace(masks), ["nut", "bolt"], score=0.99)
    assert len(figure.axes) == 5
    assert figure.axes[1].get_title(loc="left") == "trained at IoU 0.5"
    FigureCanvasAgg(figure).draw()


def test_closeups_stay_inside_the_picture():
    figure = stage_strip(PICTURE, trace(), ["nut", "bolt"], targets=TRUTH)
    for axes in figure.axes[5:]:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert left >= 0 and right <= 90 and top >= 0 and bottom <= 60
        assert right - left == pytest.approx(bottom - top)


def test_input_ious_leave_out_added_targets():
    given = trace()
    ious = stage_input_ious(given.stages, [TRUTH])
    assert [values.tolist() for values in ious] == [pytest.approx([iou(s)] * 2, abs=1e-5) for s in SHIFTS[:3]]
    added = replace(given.stages[0], is_target=[torch.tensor([True, False])])
    assert len(stage_input_ious([added], [TRUTH])[0]) == 1
    nothing = Instances(SIZE, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert stage_input_ious([given.stages[0]], [nothing])[0].tolist() == [0, 0]
