"""Chapter 12: solutions agree with the library, and each likely mistake is caught and named."""

import pytest
import torch

from cascade_lab.heads.box_head import BoxHead, BoxHeadConfig
from cascade_lab.learn.chapter_12 import HEAD_COST, ON_PICTURE
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.ops.boxes import scale
from tests.learn.mistakes import assert_caught


@pytest.mark.parametrize("size, original", [((96, 128), (480, 640)), ((50, 31), (20, 70))])
def test_a_box_moves_as_in_the_library(size: tuple[int, int], original: tuple[int, int]):
    box = torch.tensor([1.5, 2.25, 20.0, 18.5])
    expected = scale(box, (original[0] / size[0], original[1] / size[1]))
    torch.testing.assert_close(torch.tensor(ON_PICTURE.solve()(box.tolist(), size, original)), expected)


@pytest.mark.parametrize("channels, width, classes", [(256, 1024, 80), (3, 7, 2)])
def test_cost_is_that_of_the_module(channels: int, width: int, classes: int):
    config = BoxHeadConfig(convs=0, fcs=2, fc_channels=width, class_aware=False)
    with torch.device("meta"):
        head = BoxHead(config, channels, classes)
    assert HEAD_COST.solve()(channels, width, classes) == sum(p.numel() for p in head.parameters())


def moved(x=lambda s, o: o[1] / s[1], y=lambda s, o: o[0] / s[0], done=lambda value: value):
    return lambda box, s, o: [done(v * f) for v, f in zip(box, 2 * [x(s, o), y(s, o)], strict=True)]


def cost(
    hidden=lambda c, w: (49 * c + 1) * w + (w + 1) * w, names=lambda k: k + 1, moves=lambda k: 4, bias=1
):
    return lambda c, w, k: hidden(c, w) + (w + bias) * (names(k) + moves(k))


MISTAKES = [
    (ON_PICTURE, "the wrong way", moved(lambda s, o: s[1] / o[1], lambda s, o: s[0] / o[0]), "to a half"),
    (ON_PICTURE, "not at all", lambda box, s, o: box, "enlarged"),
    (ON_PICTURE, "width first", moved(lambda s, o: o[0] / s[0], lambda s, o: o[1] / s[1]), "differently"),
    (ON_PICTURE, "one factor for both", moved(y=lambda s, o: o[1] / s[1]), "the whole of a flat"),
    (ON_PICTURE, "whole pixels", moved(done=round), "between the pixels"),
    (ON_PICTURE, "sides only", lambda box, s, o: [*box[:2], *moved()(box, s, o)[2:]], "to a half"),
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
    assert judge(ON_PICTURE, moved()).state == "right" and judge(HEAD_COST, cost()).state == "right"
