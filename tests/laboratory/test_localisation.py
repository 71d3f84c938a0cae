"""Output IoU by input IoU, where every head goes a known share of the way."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from cascade_lab.laboratory.localisation import EDGES, crossing, jitter, localisation
from cascade_lab.laboratory.observation import observe
from cascade_lab.structures import Instances
from tests.known_heads import TRUTH, known, pictures
from tests.tiny_detector import SIZE

BOXES = torch.tensor([[8.0, 10.0, 48.0, 50.0], [40.0, 40.0, 60.0, 62.0]])


def test_jitters_fill_every_bin():
    made, rows = jitter(BOXES, SIZE, torch.Generator().manual_seed(0), per_bin=5)
    overlap = box_iou(made, BOXES)[torch.arange(len(made)), rows].numpy()
    assert rows.tolist() == [0] * 50 + [1] * 50
    for row in (0, 1):
        assert np.histogram(overlap[rows == row], EDGES)[0].tolist() == [5] * 10
    assert made.min() >= 0 and made.max() <= 64
    centres = (made[:, :2] + made[:, 2:])[rows == 0]
    assert (centres.std(0) > 1).all()  # both directions


def test_jitters_follow_the_seed():
    one, two, other = (jitter(BOXES, SIZE, torch.Generator().manual_seed(s), 3)[0] for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    none, rows = jitter(BOXES[:0], SIZE, torch.Generator(), 3)
    assert none.shape == (0, 4) and rows.shape == (0,)


def test_heads_that_stay_go_half_way_and_arrive(monkeypatch):
    seen = observe(known((0.0, 0.5, 1.0), BOXES[:1], monkeypatch), pictures(3), batch_size=2)
    result = localisation(seen, per_bin=6)
    assert result.count.tolist() == [[6] * 10] * 3
    assert result.outputs[0] == pytest.approx(result.inputs, abs=1e-5)
    assert result.outputs[2] == pytest.approx(np.ones(10), abs=1e-4)
    made, _ = jitter(TRUTH.boxes, SIZE, torch.Generator().manual_seed(0), 6)  # as of the first picture
    half = box_iou((made + TRUTH.boxes) / 2, TRUTH.boxes).view(10, 6).sum(1)
    assert result.after[1, 0] == pytest.approx(half.numpy(), abs=1e-3)
    assert result.crossings()[1:] == (1.0, 1.0)
    low, high = result.intervals()
    assert (low[1] <= result.outputs[1]).all() and (result.outputs[1] <= high[1]).all()
    value, low, high = result.difference(2, 0)
    assert value == pytest.approx(1 - result.inputs, abs=1e-4)
    assert (low <= value).all() and (value <= high).all() and (low > 0).all()


def test_boxes_move_as_their_true_class_says(monkeypatch):
    """A head whose deltas are right for class 1 only, and which takes every box for class 0."""
    detector = known((1.0,), BOXES[:1], monkeypatch)
    plain = detector.cascade.look

    def look(k, pyramid, boxes):
        logits, deltas = plain(k, pyramid, boxes)
        deltas = deltas.unflatten(1, (-1, 4)).clone()
        deltas[:, [0, 2]] = 0
        logits[:, 0] = 50
        return logits, deltas.flatten(1)

    monkeypatch.setattr(detector.cascade, "look", look)
    result = localisation(observe(detector, pictures(1)))
    assert result.outputs[0] == pytest.approx(np.ones(10), abs=1e-4)


def test_pictures_without_objects_count_nothing(monkeypatch):
    empty = Instances(SIZE, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    shown = [*pictures(1), (pictures(1)[0][0], empty)]
    result = localisation(observe(known((0.5,), BOXES[:1], monkeypatch), shown))
    assert result.count.tolist() == [[4] * 10, [0] * 10]
    nothing = localisation(observe(known((0.5,), BOXES[:1], monkeypatch), shown[1:]))
    assert np.isnan(nothing.outputs).all() and nothing.crossings() == (1.0,)


@pytest.mark.parametrize(
    "outputs, where",
    [
        ([0.7, 0.8, 0.8], 0.8),  # + .2, + .1, - .1: half way between .7 and .9
        ([0.7, 0.8, 0.9], 1.0),  # touches the diagonal and does not cross it
        ([0.4, 0.6, 0.8], 0.5),  # below from the start
        ([0.4, 0.8, 0.7], 0.7 + 0.2 / 3),  # above only in the middle: + .1, - .2
        ([0.7, np.nan, 0.8], 0.5 + 0.4 * 2 / 3),  # an empty bin is passed over: + .2, - .1
    ],
)
def test_crossing_by_hand(outputs, where):
    assert crossing(np.array([0.5, 0.7, 0.9]), np.array(outputs)) == pytest.approx(where)


def test_text(monkeypatch):
    seen = observe(known((0.0, 1.0), BOXES[:1], monkeypatch), pictures(1))
    lines = localisation(seen).text().splitlines()
    assert [row.split()[2:] for row in lines[2:12]] == [["1.000", "4"]] * 10
    assert "head 2 (u = 0.6) nowhere" in lines[12] and "0.85" in lines[13]
