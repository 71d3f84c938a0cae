"""Chapter 12: solutions agree with the library, and each likely mistake is caught and named."""

import pytest
import torch

from cascade_lab.heads.box_head import BoxHead, BoxHeadConfig
from cascade_lab.heads.postprocess import ensemble_scores
from cascade_lab.learn.chapter_12 import HEAD_COST, VOTE
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.trace import StageTrace
from tests.learn.mistakes import assert_caught


def stage(logits: torch.Tensor) -> StageTrace:
    box = torch.zeros(1, 4)
    return StageTrace(0.5, (0.1, 0.1, 0.2, 0.2), [box], [box], [logits[None]], [box], [torch.zeros(1) > 0])


def test_votes_are_those_of_the_library():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    stages = [stage(row) for row in logits]
    rules = ("own_rois_logits", "own_rois_probabilities")
    expected = torch.cat([ensemble_scores(stages, [0, 1, 2], 0, rule) for rule in rules])
    torch.testing.assert_close(VOTE.solve()(logits.tolist()), expected)


@pytest.mark.parametrize("channels, width, classes", [(256, 1024, 80), (3, 7, 2)])
def test_cost_is_that_of_the_module(channels: int, width: int, classes: int):
    config = BoxHeadConfig(convs=0, fcs=2, fc_channels=width, class_aware=False)
    with torch.device("meta"):
        head = BoxHead(config, channels, classes)
    assert HEAD_COST.solve()(channels, width, classes) == sum(p.numel() for p in head.parameters())


def rows(logits, first=lambda t: t.mean(0).softmax(-1), second=lambda t: t.softmax(-1).mean(0)):
    table = torch.tensor(logits)
    return torch.stack([first(table), second(table)])


def cost(
    hidden=lambda c, w: (49 * c + 1) * w + (w + 1) * w, names=lambda k: k + 1, moves=lambda k: 4, bias=1
):
    return lambda c, w, k: hidden(c, w) + (w + bias) * (names(k) + moves(k))


MISTAKES = [
    (VOTE, "twice the same", lambda x: rows(x, second=lambda t: t.mean(0).softmax(-1)), "9 to 1"),
    (VOTE, "exchanged", lambda x: rows(x).flip(0), "9 to 1"),
    (VOTE, "over the stages", lambda x: rows(x, second=lambda t: t.softmax(0).mean(0)), "9 to 1"),
    (VOTE, "sum", lambda x: rows(x, first=lambda t: t.sum(0).softmax(-1)), "9 to 1"),
    (VOTE, "sigmoid", lambda x: rows(x, first=lambda t: t.mean(0).sigmoid()), "three stages"),
    (VOTE, "overflows", lambda x: rows(x, first=lambda t: t.mean(0).exp() / t.mean(0).exp().sum()), "large"),
    (HEAD_COST, "no biases", cost(lambda c, w: 49 * c * w + w * w, bias=0), "one channel"),
    (HEAD_COST, "no background", cost(names=lambda k: k), "one channel"),
    (HEAD_COST, "deltas for each class", cost(moves=lambda k: 4 * k), "five classes"),
    (HEAD_COST, "one hidden layer", cost(lambda c, w: (49 * c + 1) * w), "ten units"),
    (HEAD_COST, "7 and not 49", cost(lambda c, w: (7 * c + 1) * w + (w + 1) * w), "two channels"),
]  # fmt: skip


@pytest.mark.parametrize(
    "exercise, answer, words",
    [(exercise, answer, words) for exercise, _, answer, words in MISTAKES],
    ids=[f"{exercise.name}: {mistake}" for exercise, mistake, _, _ in MISTAKES],
)
def test_mistake_is_caught_and_its_case_named(exercise: Exercise, answer, words: str):
    assert_caught(exercise, answer, words)


def test_the_mistakes_are_one_step_from_an_answer_that_passes():
    assert judge(VOTE, rows).state == "right" and judge(HEAD_COST, cost()).state == "right"
