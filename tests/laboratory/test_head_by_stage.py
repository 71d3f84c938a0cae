"""Figures 6 and 5 b, where every head goes a known share of the way."""

import numpy as np
import pytest

from cascade_lab.laboratory.crossed import cross
from cascade_lab.laboratory.head_by_stage import head_by_stage
from tests.known_heads import TRUTH, ap_of_iou, iou_of_shift, known, pictures, shifted
from tests.tiny_detector import CLASSES

BOX = TRUTH.boxes[0].tolist()
MOVES = (0.5, 0.75, 0.0)


@pytest.fixture
def result(monkeypatch):
    crossed = cross(known(MOVES, shifted(BOX, 12), monkeypatch), pictures(2))
    return head_by_stage(crossed, CLASSES)


def test_every_head_on_every_stage(result):
    entering = (12, 6, 1.5)  # pixels off, into stage 1, 2, 3
    wanted = [[ap_of_iou(iou_of_shift(shift * (1 - move))) for shift in entering] for move in MOVES]
    assert len(set(np.ravel(wanted))) > 4
    np.testing.assert_allclose(result.table(), wanted)
    assert result.thresholds == (0.5, 0.6, 0.7)


def test_with_the_truth_among_the_proposals_all_is_found(result):
    """A perfect box stays where it is, and is surer than the others."""
    np.testing.assert_allclose(result.table(with_truth=True), 100, rtol=1e-9)


def test_text_stands_beside_figures_6_and_5b(result):
    last = next(line for line in result.text(draws=10).splitlines() if line.startswith("head 3"))
    # head 3 stays: IoU .54, .74 and .93
    assert last.replace("|", " ").split()[5:] == ["10.0", "50.0", "90.0", "25.6", "35.5", "38.3"]
    assert "minus the proposals: +80.0 [+80.0, +80.0]" in result.text(draws=10)
    last = next(line for line in result.truth_text(draws=10).splitlines() if line.startswith("head 3"))
    assert last.replace("|", " ").split()[5:8] == ["10.0", "100.0", "+90.0"]
    assert last.split()[-3:] == ["31.9", "49.5", "+17.6"]
