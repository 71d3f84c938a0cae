"""IoU of stage inputs, where the heads halve a known shift."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade_lab.laboratory.input_overlaps import best_iou, input_overlaps
from cascade_lab.laboratory.observation import observe
from cascade_lab.structures import Instances
from tests.known_heads import TRUTH, iou_of_shift, known, pictures, shifted

BOX = TRUTH.boxes[0].tolist()
FAR = torch.tensor([[56.0, 54.0, 62.0, 62.0]])


@pytest.fixture
def seen(monkeypatch):
    proposals = torch.cat([shifted(BOX, 8.0), FAR])
    return observe(known((0.5, 0.5, 0.5), proposals, monkeypatch), pictures(3), batch_size=2)


def test_each_stage_enters_where_the_last_one_left(seen):
    result = input_overlaps(seen)
    assert result.thresholds == (0.5, 0.6, 0.7)
    for values, shift in zip(result.ious, (8, 4, 2, 1), strict=True):
        np.testing.assert_allclose(values, [iou_of_shift(shift), 0.0] * 3, atol=1e-5)
    # .667, .818, .905, .951: half of the boxes touch no object
    assert result.shares().tolist() == [[50, 50, 0], [50, 50, 50], [50, 50, 50], [50, 50, 50]]


def test_truths_among_the_boxes_are_left_out(seen):
    def mark(one):
        flags = [torch.tensor([True, False]) for _ in one.targets]
        stages = tuple(replace(stage, is_target=flags) for stage in one.trace.stages)
        return replace(one, trace=replace(one.trace, stages=stages))

    result = input_overlaps([mark(one) for one in seen])
    assert all(len(values) == 3 and not values.any() for values in result.ious)


def test_ignored_regions_are_no_objects():
    target = Instances((64, 64), TRUTH.boxes, TRUTH.labels, ignore=torch.tensor([True]))
    assert best_iou(TRUTH.boxes, TRUTH).tolist() == [1]
    assert best_iou(TRUTH.boxes, target).tolist() == [0]


def test_no_boxes_at_all(monkeypatch):
    result = input_overlaps(observe(known((0.5,), torch.zeros(0, 4), monkeypatch), pictures(1)))
    assert [len(values) for values in result.ious] == [0, 0] and np.isnan(result.shares()).all()
    assert "nan" in result.text()


def test_text_stands_beside_figure_4(seen):
    lines = input_overlaps(seen).text().splitlines()
    assert [float(word) for word in lines[4].replace("|", " ").split()[3:]] == [50, 50, 50, 28, 25.1, 21.7]
    assert lines[5].split()[2:5] == ["50.0", "50.0", "50.0"] and "paper" in lines[1]
