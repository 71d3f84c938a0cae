"""Chapter 07: solutions agree with the library, and each likely mistake is caught and named."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from cascade_lab.heads.cascade_config import CascadeConfig
from cascade_lab.heads.postprocess import ensemble_scores
from cascade_lab.learn.chapter_07 import RECALL_AT, RENORMALISED, STAGE_LABELS, VOTES
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.ops.box_coder import decode_deltas
from cascade_lab.structures import Instances
from cascade_lab.trace import StageTrace
from tests.learn.mistakes import assert_caught


def scene(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return four objects and thirty boxes, each near one of them."""
    random = np.random.default_rng(seed)
    corner, side = random.uniform(0, 60, (4, 2)), random.uniform(10, 40, (4, 2))
    objects = torch.from_numpy(np.hstack([corner, corner + side]))
    return objects, objects[random.integers(0, 4, 30)] + torch.from_numpy(random.normal(0, 3, (30, 4)))


@pytest.mark.parametrize("k", range(3))
def test_stage_labels_are_those_of_the_assigner(k: int):
    objects, boxes = scene(k)
    labels = torch.tensor([3, 0, 2, 0])
    config = CascadeConfig()
    index = config.assigner(k).assign(boxes, Instances((100, 100), objects, labels)).target_index
    expected = torch.where(index >= 0, labels[index.clamp(min=0)], 4).tolist()
    mine = STAGE_LABELS.solve()(box_iou(boxes, objects).tolist(), labels.tolist(), config.stages[k].iou, 4)
    assert mine == expected and 4 in expected and len(set(expected)) > 2


def test_recall_is_counted_object_by_object():
    objects, boxes = scene(7)
    ious, levels = box_iou(boxes, objects), [0.5, 0.7, 0.8, 0.9]
    expected = [(ious >= level).any(0).double().mean().item() for level in levels]
    assert RECALL_AT.solve()(ious.tolist(), levels) == expected and len(set(expected)) > 1


def test_renormalised_deltas_move_a_box_to_the_same_place():
    stds = [stage.delta_std for stage in CascadeConfig().stages]
    proposals, deltas = scene(3)[1], torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    for old in stds:
        for new in stds:
            mine = torch.tensor([RENORMALISED.solve()(row, old, new) for row in deltas.tolist()])
            there = decode_deltas(deltas, proposals, old)
            torch.testing.assert_close(decode_deltas(mine, proposals, new), there, rtol=1e-5, atol=1e-4)


def test_votes_are_those_of_the_library():
    logits = torch.randn(3, 20, 5, generator=torch.Generator().manual_seed(1)) * 3
    none = torch.zeros(20, 4)
    stages = [
        StageTrace(0.5, (1, 1, 1, 1), [none], [none], [one], [none], [torch.zeros(20, dtype=torch.bool)])
        for one in logits
    ]
    rules = ("own_rois_logits", "own_rois_probabilities")
    expected = torch.stack([ensemble_scores(stages, range(3), 0, rule) for rule in rules], dim=1)
    mine = torch.stack([torch.stack(VOTES.solve()(logits[:, r].tolist())) for r in range(20)])
    torch.testing.assert_close(mine, expected)
    assert (expected[:, 0] - expected[:, 1]).abs().max() > 0.05


# Each a mistake that learners make, and the words of a case that has to catch it.


def labels_by(enough=lambda iou, t: iou >= t, pick=max, free=True):
    def answer(ious, labels, threshold, background):
        taken, answers = set(), []
        for row in ious:
            able = [m for m, iou in enumerate(row) if enough(iou, threshold) and (free or m not in taken)]
            best = pick(able, key=row.__getitem__) if able else None
            taken.add(best)
            answers.append(background if best is None else labels[best])
        return answers

    return answer


def first(able, key):
    return able[0]


def votes_by(one, two):
    def answer(logits):
        said = torch.tensor(logits)
        return [one(said), two(said)]

    return answer


def naive(logits):
    """Return the right thing with exponentials that overflow."""
    rows = [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in logits]
    mean = [sum(column) / len(column) for column in zip(*logits, strict=True)]
    first = [math.exp(x) / sum(map(math.exp, mean)) for x in mean]
    return [first, [sum(column) / len(column) for column in zip(*rows, strict=True)]]


def of_logits(said):
    return said.mean(0).softmax(-1)


def of_probabilities(said):
    return said.softmax(-1).mean(0)


def by_boxes(ious, thresholds):
    return [sum(max(row) >= t for row in ious) / len(ious) for t in thresholds]


def average(ious, thresholds):
    mean = [sum(column) / len(column) for column in zip(*ious, strict=True)]
    return [sum(iou >= t for iou in mean) / len(mean) for t in thresholds]


def numbers(ious, labels, threshold, background):
    return labels_by()(ious, list(range(len(labels))), threshold, background)


recalls, renormalised = RECALL_AT.solve(), RENORMALISED.solve()
MISTAKES = [
    (STAGE_LABELS, "no threshold", labels_by(lambda iou, t: iou > 0), "overlaps too little"),
    (STAGE_LABELS, "more than", labels_by(lambda iou, t: iou > t), "exactly the threshold"),
    (STAGE_LABELS, "always .5", labels_by(lambda iou, t: iou >= 0.5), "before the last one"),
    (STAGE_LABELS, "takes the first", labels_by(pick=first), "on two objects"),
    (STAGE_LABELS, "takes objects away", labels_by(free=False), "both are positives"),
    (STAGE_LABELS, "the index", numbers, "overlaps well"),
    (RECALL_AT, "counts boxes", by_boxes, "the other has none"),
    (RECALL_AT, "averages boxes", average, "the better one counts"),
    (RECALL_AT, "in percent", lambda i, t: [100 * v for v in recalls(i, t)], "one box and one object"),
    (RECALL_AT, "more than", lambda i, t: recalls(i, [v + 1e-9 for v in t]), "exactly the threshold"),
    (RENORMALISED, "upside down", lambda d, a, b: renormalised(d, b, a), "from stage 1 to stage 2"),
    (RENORMALISED, "divides only", lambda d, a, b: renormalised(d, [1] * 4, b), "same std twice"),
    (RENORMALISED, "forgets the new", lambda d, a, b: renormalised(d, a, [1] * 4), "same std twice"),
    (RENORMALISED, "one ratio", lambda d, a, b: [x * a[0] / b[0] for x in d], "in another way"),
    (VOTES, "other order", votes_by(of_probabilities, of_logits), "99 percent"),
    (VOTES, "logits twice", votes_by(of_logits, of_logits), "99 percent"),
    (VOTES, "sum, not mean", votes_by(lambda s: s.sum(0).softmax(-1), of_probabilities), "99 percent"),
    (VOTES, "softmax over stages", votes_by(of_logits, lambda s: s.softmax(0).mean(0)), "a single stage"),
    (VOTES, "overflows", naive, "overflow"),
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
    [(STAGE_LABELS, labels_by()), (VOTES, votes_by(of_logits, of_probabilities))],
    ids=["stage_labels", "votes"],
)
def test_the_mistakes_are_one_step_from_an_answer_that_passes(exercise: Exercise, right):
    assert judge(exercise, right).state == "right"
