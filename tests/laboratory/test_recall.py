"""Recall of objects, where the heads halve a known shift."""

import numpy as np
import pytest
import torch

from cascade_lab.laboratory.observation import observe
from cascade_lab.laboratory.recall import recall
from cascade_lab.structures import Instances
from tests.known_heads import TRUTH, iou_of_shift, known, pictures, shifted
from tests.tiny_detector import SIZE

BOX = TRUTH.boxes[0].tolist()


def test_best_box_of_every_object(monkeypatch):
    """Of two boxes the nearer counts; an object that no box touches stays lost."""
    seen = observe(known((0.5, 0.5, 0.5), shifted(BOX, -12, 8), monkeypatch), pictures(1))
    lost = torch.cat([TRUTH.boxes, torch.tensor([[60.0, 60.0, 64.0, 64.0]])])
    seen[0].targets[0] = Instances(SIZE, lost, torch.tensor([1, 1]))
    result = recall(seen)
    assert result.best[:, 0] == pytest.approx([iou_of_shift(s) for s in (8, 4, 2, 1)], abs=1e-5)
    assert not result.best[:, 1].any()
    # .667, .818, .905, .951
    assert result.at((0.6, 0.9)).tolist() == [[50, 0], [50, 0], [50, 50], [50, 50]]
    assert result.text().splitlines()[5].split() == ["after", "stage", "3", *["50.0"] * 5]


def test_no_boxes_at_all(monkeypatch):
    seen = observe(known((0.5,), torch.zeros(0, 4), monkeypatch), pictures(2), batch_size=1)
    assert recall(seen).best.tolist() == [[0, 0], [0, 0]]


def test_no_object_at_all(monkeypatch):
    seen = observe(known((0.5,), shifted(BOX, 8), monkeypatch), pictures(1))
    seen[0].targets[0] = TRUTH[:0]
    result = recall(seen)
    assert result.best.shape == (2, 0) and np.isnan(result.at()).all()
    assert "nan" in result.text()
