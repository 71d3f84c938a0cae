"""Who votes, where the box is, and which detections stay."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.heads.postprocess import (
    PostprocessConfig,
    decode_classwise,
    ensemble_scores,
    pick_detections,
)
from cascade_lab.trace import StageTrace

LOG3 = math.log(3)


def stage(
    logits: list[float], deltas: Tensor | None = None, earlier: list[list[float]] | None = None
) -> StageTrace:
    """One picture, one box (0, 0, 10, 20)."""
    box = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    return StageTrace(
        iou_threshold=0.5,
        delta_std=(0.1, 0.1, 0.2, 0.2),
        proposals=[box],
        boxes=[box],
        logits=[torch.tensor([logits])],
        deltas=[torch.zeros(1, 8) if deltas is None else deltas],
        is_target=[torch.zeros(1, dtype=torch.bool)],
        earlier_logits=None if earlier is None else [[torch.tensor([row])] for row in earlier],
    )


# Two answers, one class and background: odds of 3 to 1 first, then 1 to 1.
STAGES = (stage([LOG3, 0.0]), stage([0.0, 0.0]), stage([0.0, LOG3], earlier=[[2 * LOG3, 0.0], [LOG3, 0.0]]))


@pytest.mark.parametrize(
    ("rule", "voters", "score"),
    [
        ("own_rois_logits", [0], 3 / 4),
        ("own_rois_logits", [0, 1], math.sqrt(3) / (math.sqrt(3) + 1)),  # mean logit log(3) / 2
        ("own_rois_logits", [0, 1, 2], 1 / 2),
        ("own_rois_probabilities", [0, 1], (3 / 4 + 1 / 2) / 2),
        ("own_rois_probabilities", [0, 1, 2], (3 / 4 + 1 / 2 + 1 / 4) / 3),
        ("last_rois_probabilities", [0, 1, 2], (9 / 10 + 3 / 4 + 1 / 4) / 3),
        ("last_rois_probabilities", [0, 2], (9 / 10 + 1 / 4) / 2),
        ("last_rois_probabilities", [2], 1 / 4),
    ],
)
def test_ensembles_by_hand(rule, voters: list[int], score: float):
    found = ensemble_scores(STAGES, voters, 0, rule)
    assert_close(found, torch.tensor([[score, 1 - score]]))


def test_an_ensemble_that_the_trace_cannot_answer():
    with pytest.raises(ValueError, match="no earlier heads"):
        ensemble_scores(STAGES, [0, 1], 0, "last_rois_probabilities")


def test_every_class_has_its_own_box():
    """Class 0 moves right by 0.1 of the width, class 1 grows to twice the height; both are clipped."""
    deltas = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, math.log(2) / 0.2]])
    boxes = decode_classwise(stage([0.0, 0.0, 0.0], deltas), 0, (25, 100))
    assert_close(boxes, torch.tensor([[[1.0, 0.0, 11.0, 20.0], [0.0, 0.0, 10.0, 25.0]]]))


def test_class_agnostic_deltas_give_one_box():
    boxes = decode_classwise(stage([0.0, 0.0, 0.0], torch.tensor([[1.0, 0, 0, 0]])), 0, (100, 100))
    assert_close(boxes, torch.tensor([[[1.0, 0.0, 11.0, 20.0]]]))


# --- detections

BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [40, 40, 50, 50]])
CONFIG = PostprocessConfig(score_threshold=0.3, nms_iou=0.5, max_detections=10)


def pick(scores: list[list[float]], config: PostprocessConfig = CONFIG, boxes: Tensor = BOXES[:, None]):
    return pick_detections(boxes, torch.tensor(scores), config, (1.0, 1.0))


def test_nms_within_a_class():
    """IoU of the first two boxes is 0.8: the lower score goes, but only where the class is the same."""
    row, box, label, score = pick([[0.9, 0.0, 0.1], [0.6, 0.4, 0.0], [0.5, 0.0, 0.5]])
    assert row.tolist() == [0, 2, 1] and label.tolist() == [0, 0, 1]
    assert torch.equal(box, BOXES[[0, 2, 1]])
    assert_close(score, torch.tensor([0.9, 0.5, 0.4]))


@pytest.mark.parametrize(
    ("config", "lowered"),
    [
        (replace(CONFIG, nms="soft_linear"), 0.6 * (1 - 0.8)),
        (replace(CONFIG, nms="soft_gaussian", soft_sigma=0.4), 0.6 * math.exp(-0.64 / 0.4)),
    ],
)
def test_soft_nms_lowers_within_a_class(config: PostprocessConfig, lowered: float):
    """The case above: the second box stays, below the score threshold, which is asked before the NMS only."""
    row, box, label, score = pick([[0.9, 0.0, 0.1], [0.6, 0.4, 0.0], [0.5, 0.0, 0.5]], config)
    assert row.tolist() == [0, 2, 1, 1] and label.tolist() == [0, 0, 1, 0]
    assert torch.equal(box, BOXES[[0, 2, 1, 1]])
    assert_close(score, torch.tensor([0.9, 0.5, 0.4, lowered]))
    row, *_ = pick([[0.9, 0.0, 0.1], [0.6, 0.4, 0.0], [0.5, 0.0, 0.5]], replace(config, max_detections=2))
    assert row.tolist() == [0, 2]
    row, *_ = pick([[0.9, 0.0, 0.1], [0.6, 0.4, 0.0], [0.5, 0.0, 0.5]], replace(config, soft_min_score=0.2))
    assert row.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    "name, value",
    [
        ("soft_sigma", 0.0),
        ("soft_min_score", 1.0),
        ("soft_min_score", -0.1),
        ("score_threshold", 1.5),
        ("nms_iou", 1.5),
        ("max_detections", 0),
        ("max_detections", -1),  # elsewhere "no limit"; here it would drop the last one
    ],
)
def test_impossible_settings(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name} must .* got {value}"):
        replace(CONFIG, **{name: value})


def test_one_box_may_be_two_classes():
    row, _, label, _ = pick([[0.5, 0.4, 0.1], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert row.tolist() == [0, 0] and label.tolist() == [0, 1]


def test_the_threshold_is_exclusive_and_background_is_no_detection():
    half = PostprocessConfig(score_threshold=0.5)
    row, box, label, score = pick([[0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]], half)
    assert len(row) == len(box) == len(label) == len(score) == 0
    assert box.shape == (0, 4)


def test_the_best_stay():
    only = PostprocessConfig(score_threshold=0.1, max_detections=2)
    row, _, label, _ = pick([[0.3, 0.2, 0.5], [0.0, 0.6, 0.4], [0.8, 0.0, 0.2]], only)
    assert row.tolist() == [2, 1] and label.tolist() == [0, 1]


def test_classwise_boxes():
    """The second class of box 0 lies elsewhere, so each detection takes the box of its own class."""
    boxes = torch.stack([BOXES, BOXES + 20], dim=1)
    _, box, label, _ = pick([[0.4, 0.6, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]], boxes=boxes)
    assert label.tolist() == [1, 0] and torch.equal(box, torch.stack([BOXES[0] + 20, BOXES[0]]))


def test_a_resized_picture_has_the_same_detections():
    """Squeezed to a twentieth of its height: IoUs and so NMS stay, boxes stay in the network's frame."""
    squeezed = BOXES * torch.tensor([1.0, 0.05, 1.0, 0.05])
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    row, box, _, _ = pick_detections(squeezed[:, None], scores, CONFIG, (0.05, 1.0))
    assert row.tolist() == [0, 2] and torch.equal(box, squeezed[[0, 2]])


def test_no_proposal_is_no_detection():
    row, box, label, score = pick_detections(torch.zeros(0, 3, 4), torch.zeros(0, 4), CONFIG, (1.0, 1.0))
    assert row.shape == label.shape == score.shape == (0,) and box.shape == (0, 4)
