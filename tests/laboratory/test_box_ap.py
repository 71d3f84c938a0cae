"""Box AP and its paired bootstrap: against coco_scores on pictures that are really doubled."""

import numpy as np
import pytest
import torch

from cascade_lab.evaluation.coco import coco_scores
from cascade_lab.laboratory.box_ap import COLUMNS, box_ap, gain, truth_of
from cascade_lab.laboratory.interval import resamples
from cascade_lab.structures import Instances
from tests.known_heads import ap_of_iou, iou_of_shift, shifted

SIZE = (100, 100)


def scene(random: np.random.Generator, noise: float) -> tuple[Instances, Instances]:
    """Return three objects of two classes, and detections of them, some duplicated and some of nothing."""
    corner, side = random.uniform(0, 50, (3, 2)), random.uniform(15, 40, (3, 2))
    boxes = torch.from_numpy(np.hstack([corner, corner + side])).float()
    labels = torch.from_numpy(random.integers(0, 2, 3))
    chosen = torch.from_numpy(random.integers(0, 3, 6))
    found = boxes[chosen] + torch.from_numpy(random.normal(0, noise, (6, 4))).float()
    scores = torch.from_numpy(random.uniform(0, 1, 6)).float()
    return Instances(SIZE, boxes, labels), Instances(SIZE, found, labels[chosen], scores)


@pytest.fixture(scope="module")
def two():
    """One ground truth of nine pictures, and detections of it that are good and bad."""
    random = np.random.default_rng(0)
    targets, good = zip(*(scene(random, 1.0) for _ in range(9)), strict=True)
    noise = torch.Generator().manual_seed(1)
    bad = [
        Instances(SIZE, one.boxes + 3 * torch.randn(one.boxes.shape, generator=noise), one.labels, one.scores)
        for one in good
    ]
    truth = truth_of(targets, 2)
    return targets, good, bad, box_ap(good, truth), box_ap(bad, truth)


def test_columns_are_those_of_coco(two):
    targets, good, _, scored, _ = two
    boxes = shifted([0, 0, 40, 40], 0, 4)
    target = Instances(SIZE, boxes[:1], torch.tensor([1]))
    found = Instances(SIZE, boxes[1:], torch.tensor([1]), torch.tensor([0.5]))
    one = box_ap([found], truth_of([target], 3))
    assert one["AP"] == pytest.approx(ap_of_iou(iou_of_shift(4)))
    assert [one[column] for column in COLUMNS[1:]] == pytest.approx([100, 100, 100, 100, 100, 0])
    assert scored["AP50"] > scored["AP90"] > 0


def doubled(targets, found, rows, classes: int = 2) -> dict:
    """Score pictures that occur as often as ``rows`` says, as pictures of their own."""
    return box_ap([found[r] for r in rows], truth_of([targets[r] for r in rows], classes))


@pytest.mark.parametrize("column", ["AP", "AP75", "AP90"])
def test_interval_against_doubled_pictures(two, column):
    targets, good, bad, after, before = two
    change = gain(after, before, column, draws=12, seed=4)
    drawn = []
    for rows in resamples(9, 12, 4):
        drawn.append(doubled(targets, good, rows)[column] - doubled(targets, bad, rows)[column])
    assert change.value == pytest.approx(after[column] - before[column])
    assert [change.low, change.high] == pytest.approx(list(np.percentile(drawn, [2.5, 97.5])), abs=0.01)


def test_nothing_differs_from_itself(two):
    *_, after, _ = two
    change = gain(after, after, draws=5)
    assert (change.value, change.low, change.high) == (0, 0, 0) and not change.decided


def test_no_detections_and_ignored_regions():
    target = Instances(
        SIZE, shifted([0, 0, 40, 40], 0, 50), torch.tensor([0, 0]), ignore=torch.tensor([False, True])
    )
    truth = truth_of([target], 1)
    nothing = Instances(SIZE, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    none = box_ap([nothing], truth)
    assert none["AP"] == 0
    both = Instances(SIZE, target.boxes, torch.tensor([0, 0]), torch.tensor([0.5, 0.9]))
    assert box_ap([both], truth)["AP"] == pytest.approx(100)  # the surer one lies in the ignored region
    assert gain(box_ap([both], truth), none, draws=3).low == pytest.approx(100)
    rows = box_ap([both], truth).found
    assert coco_scores(truth, rows, "bbox").summary["AP"] == pytest.approx(100)


def test_pictures_without_objects_have_no_ap():
    truth = truth_of([Instances(SIZE, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))], 1)
    one = Instances(SIZE, torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0]), torch.tensor([0.5]))
    scores = box_ap([one], truth)
    change = gain(scores, scores, draws=3)
    assert np.isnan([scores["AP"], change.value, change.low, change.high]).all() and not change.decided


def test_pairs_need_one_ground_truth(two):
    targets, good, _, after, _ = two
    with pytest.raises(AssertionError, match="same ground truth"):
        gain(after, box_ap(good, truth_of(targets, 2)))
