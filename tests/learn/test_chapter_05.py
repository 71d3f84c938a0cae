"""Chapter 05: solutions agree with other code, and each likely mistake is caught and named."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou, nms

from cascade_lab.learn.chapter_05 import ANCHORS, ASSIGN, NMS, RECALL
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.ops.anchors import base_anchors, grid_anchors
from cascade_lab.structures import Instances
from cascade_lab.targets.assigner import Assigner
from tests.learn.mistakes import assert_caught


def random_boxes(seed: int, count: int, spread: float = 20) -> torch.Tensor:
    random = np.random.default_rng(seed)
    corner, size = random.uniform(0, spread, (count, 2)), random.uniform(4, 20, (count, 2))
    return torch.from_numpy(np.hstack([corner, corner + size]))


def test_anchors_are_those_of_the_library():
    ratios = [0.5, 1.0, 2.0]
    expected = grid_anchors(base_anchors(16, [4.0], ratios), (3, 5), 16).numpy()
    mine = [ANCHORS.solve()(row, column, 16, 4, ratios) for row in range(3) for column in range(5)]
    np.testing.assert_allclose(np.concatenate(mine), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_assignments_are_those_of_the_library(seed: int):
    anchors, objects = random_boxes(seed, 60), random_boxes(seed + 100, 5)
    anchors = torch.cat([anchors, anchors[:3]])  # equal anchors are rescued together
    assigner = Assigner(positive_iou=0.6, negative_iou=0.3, min_positive_iou=0.2, match_low_quality=True)
    expected = assigner.assign(anchors, Instances((40, 40), objects)).target_index.tolist()
    ious = box_iou(anchors, objects).tolist()
    assert {-1, -2} < set(expected)
    assert ASSIGN.solve()(ious, 0.6, 0.3, 0.2) == expected


@pytest.mark.parametrize("seed", range(5))
def test_nms_is_that_of_torchvision(seed: int):
    boxes = random_boxes(seed, 40)
    scores = torch.from_numpy(np.random.default_rng(seed).permutation(40) / 40)
    expected = nms(boxes, scores, 0.3).tolist()
    assert 1 < len(expected) < 40
    assert NMS.solve()(box_iou(boxes, boxes).tolist(), scores.tolist(), 0.3) == expected


def test_recall_by_numpy():
    for seed in range(10):
        ious = box_iou(random_boxes(seed, 30), random_boxes(seed + 50, 8)).numpy()
        assert RECALL.solve()(ious.tolist(), 0.5) == pytest.approx(np.mean(ious.max(0) >= 0.5))


# Each a mistake that learners make, and the words of a case that has to catch it.


def anchors_by(
    centre=lambda row, column, stride: (column * stride, row * stride),
    side=lambda stride, scale: stride * scale,
    size=lambda side, ratio: (side / ratio**0.5, side * ratio**0.5),
):
    def answer(row, column, stride, scale, ratios):
        (x, y), length = centre(row, column, stride), side(stride, scale)
        found = [size(length, ratio) for ratio in ratios]
        return [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for w, h in found]

    return answer


def assign_by(
    enough=lambda iou, least: iou >= least, low=lambda iou, most: iou < most, rescue=True, override=True,
    all_ties=True, obey_least=True, best_object=True, between=-2,
):  # fmt: skip
    def answer(ious, positive, negative, least):
        found = []
        for row in ious:
            best = max(row, default=0.0)
            able = [m for m, iou in enumerate(row) if enough(iou, positive)]
            target = (row.index(best) if best_object else able[0]) if able else None
            found.append(target if target is not None else -1 if low(best, negative) else between)
        for m in range(len(ious[0]) if rescue and ious else 0):
            best = max(row[m] for row in ious)
            ties = [a for a, row in enumerate(ious) if row[m] == best and (best >= least or not obey_least)]
            for a in ties if all_ties else ties[:1]:
                found[a] = m if override or found[a] < 0 else found[a]
        return found

    return answer


def nms_by(drop=lambda iou, threshold: iou > threshold, by_score=True, fallen_count=False, ordered=False):
    def answer(ious, scores, threshold):
        order = sorted(range(len(scores)), key=lambda i: -scores[i]) if by_score else list(range(len(scores)))
        kept = []
        for place, box in enumerate(order):
            rivals = order[:place] if fallen_count else kept
            if not any(drop(ious[other][box], threshold) for other in rivals):
                kept.append(box)
        return sorted(kept) if ordered else kept

    return answer


def recall_by(enough=lambda iou, threshold: iou >= threshold, one_to_one=False):
    def answer(ious, threshold):
        found, used = [], set()
        for m in range(len(ious[0])):
            able = [p for p, row in enumerate(ious) if enough(row[m], threshold) and p not in used]
            found.append(bool(able))
            used |= set(able[:1]) if one_to_one else set()
        return sum(found) / len(found)

    return answer


def precision(ious, threshold):
    return sum(max(row) >= threshold for row in ious) / len(ious)


MISTAKES = [
    (ANCHORS, "row and column mixed up", anchors_by(centre=lambda r, c, s: (r * s, c * s)),
     "row 1 and column"),
    (ANCHORS, "the middle of the cell", anchors_by(centre=lambda r, c, s: (c * s + s / 2, r * s + s / 2)),
     "first cell"),
    (ANCHORS, "the cell's number for its place", anchors_by(centre=lambda r, c, s: (c, r)),
     "row 1 and column"),
    (ANCHORS, "scale without stride", anchors_by(side=lambda stride, scale: scale), "first cell"),
    (ANCHORS, "width over height", anchors_by(size=lambda s, r: (s * r**0.5, s / r**0.5)), "as high as"),
    (ANCHORS, "no square root", anchors_by(size=lambda s, r: (s, s * r)), "as high as"),
    (ASSIGN, "no rescue", assign_by(rescue=False), "that no anchor fits"),
    (ASSIGN, "rescues only what is left", assign_by(override=False), "overlaps another object more"),
    (ASSIGN, "rescues one of two", assign_by(all_ties=False), "equally good"),
    (ASSIGN, "rescues everything", assign_by(obey_least=False), "hardly touches"),
    (ASSIGN, "more than the threshold", assign_by(enough=lambda iou, least: iou > least), "exactly the two"),
    (ASSIGN, "at most the lower threshold", assign_by(low=lambda iou, most: iou <= most), "exactly the two"),
    (ASSIGN, "the first object", assign_by(best_object=False), "takes the better one"),
    (ASSIGN, "no gap between", assign_by(between=-1), "each kind"),
    (NMS, "at the threshold too", nms_by(drop=lambda iou, threshold: iou >= threshold),
     "exactly the threshold"),
    (NMS, "not sorted", nms_by(by_score=False), "better one second"),
    (NMS, "in the order of the list", nms_by(ordered=True), "better one second"),
    (NMS, "the fallen drop others", nms_by(fallen_count=True), "a chain"),
    (NMS, "drops nothing", nms_by(drop=lambda iou, threshold: False), "on one object"),
    (RECALL, "share of the proposals", precision, "of two is found"),
    (RECALL, "more than the threshold", recall_by(enough=lambda iou, t: iou > t), "exactly the threshold"),
    (RECALL, "one proposal, one object", recall_by(one_to_one=True), "over two objects"),
    (RECALL, "counts the finds", lambda ious, t: sum(i >= t for row in ious for i in row) / len(ious[0]),
     "same object"),
]  # fmt: skip


@pytest.mark.parametrize(
    "exercise, answer, words",
    [(exercise, answer, words) for exercise, _, answer, words in MISTAKES],
    ids=[f"{exercise.name}: {mistake}" for exercise, mistake, _, _ in MISTAKES],
)
def test_mistake_is_caught_and_its_case_named(exercise: Exercise, answer, words: str):
    assert_caught(exercise, answer, words)


@pytest.mark.parametrize(
    "exercise, right",
    [(ANCHORS, anchors_by()), (ASSIGN, assign_by()), (NMS, nms_by()), (RECALL, recall_by())],
    ids=["anchors", "assign", "nms", "recall"],
)
def test_the_mistakes_are_one_step_from_an_answer_that_passes(exercise: Exercise, right):
    assert judge(exercise, right).state == "right"
