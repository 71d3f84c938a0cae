"""Mean and deviation of the deltas, by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade_lab.laboratory.delta_spread import delta_spread
from cascade_lab.laboratory.observation import observe
from tests.known_heads import TRUTH, known, pictures, shifted

BOX = TRUTH.boxes[0].tolist()


def test_shifts_and_their_halves(monkeypatch):
    # 40 wide; to the right by 4 and 8, to the left by 4: dx is -.1, -.2, +.1. A shift by 16 has IoU .43.
    detector = known((0.5, 0.5, 0.5), shifted(BOX, 4, 8, -4, 16), monkeypatch)
    spread = delta_spread(observe(detector, pictures(2)))
    assert spread.count.tolist() == [6, 8, 8]  # the fourth box joins when half of its way is done
    first = np.array([-0.1, -0.2, 0.1])
    second = np.array([-0.05, -0.1, 0.05, -0.2])
    for k, values in enumerate((first, second, second / 2)):
        assert spread.mean[k] == pytest.approx([values.mean(), 0, 0, 0], abs=1e-6)
        assert spread.deviation[k] == pytest.approx([values.std(), 0, 0, 0], abs=1e-6)
    assert spread.delta_std[1].tolist() == [0.05, 0.05, 0.1, 0.1]


def test_each_stage_asks_its_own_threshold(monkeypatch):
    # A shift by 8 is IoU .667: a positive of stages 1 and 2, and not of stage 3. Nobody moves it.
    spread = delta_spread(observe(known((0.0, 0.0, 0.0), shifted(BOX, 8), monkeypatch), pictures(1)))
    assert spread.count.tolist() == [1, 1, 0]
    assert np.isnan(spread.mean[2]).all() and np.isnan(spread.deviation[2]).all()
    assert "nan" in spread.text()


def test_sizes_and_truths_among_the_boxes(monkeypatch):
    x1, y1, x2, y2 = BOX
    wide = torch.tensor([[x1 - 4.0, y1, x2 + 4, y2], BOX])  # 48 wide: dw = log(40 / 48)
    seen = observe(known((0.0,), wide, monkeypatch), pictures(1))
    stage = replace(seen[0].trace.stages[0], is_target=[torch.tensor([False, True])])
    seen = [replace(seen[0], trace=replace(seen[0].trace, stages=(stage,)))]
    spread = delta_spread(seen)
    assert spread.count.tolist() == [1]
    assert spread.mean[0] == pytest.approx([0, 0, np.log(40 / 48), 0], abs=1e-6)
    assert spread.deviation[0] == pytest.approx([0, 0, 0, 0], abs=1e-6)


def test_text_stands_beside_figure_2(monkeypatch):
    spread = delta_spread(observe(known((0.5, 0.5, 0.5), shifted(BOX, 4, -4), monkeypatch), pictures(1)))
    title, deviation = spread.text().splitlines()[1:3]
    numbers = deviation.replace("|", " ").split()[1:]
    assert title == "stage 1, 2 positives"
    assert [float(word) for word in numbers] == [0.1, 0, 0, 0, 0.123, 0.130, 0.227, 0.226]
