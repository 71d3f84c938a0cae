"""What an answer may be, and what is said about one that is not."""

import numpy as np
import pytest
import torch

from cascade_lab.learn.exercise import Case, Exercise
from cascade_lab.learn.judge import judge, show

PAIR = Exercise(
    id="09.1",
    name="pair",
    question="Return a row of x and twice x.",
    cases=(Case(words="a row", inputs=(torch.tensor([1.0, 2.0]),), expected=[2.0, 4.0]),),
    hints=("a", "b", "c"),
    solution="def my_pair(x):\n    return 2 * x\n",
)


def undone(x):
    raise NotImplementedError


@pytest.mark.parametrize(
    "answer", [..., None, NotImplemented, lambda x: ..., lambda x: None, lambda x: NotImplemented, undone]
)
def test_blank_is_not_wrong(answer):
    assert judge(PAIR, answer).state == "blank"


def test_a_forgotten_return_is_suspected():
    assert "is a `return` missing?" in judge(PAIR, lambda x: None).text
    assert "return" not in judge(PAIR, lambda x: ...).text


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: 2 * x,
        lambda x: (2 * x).tolist(),
        lambda x: tuple(2 * x),  # of tensors
        lambda x: 2 * x.numpy(),
        lambda x: (2 * x).requires_grad_(),
        lambda x: x.mul_(2),  # in place: the next case still sees its own inputs
        lambda x: [2, 4],
        lambda x: 2 * x + 1e-6,
    ],
)
def test_any_form_of_the_right_numbers_passes(answer):
    for _ in range(2):
        assert judge(PAIR, answer).state == "right"


@pytest.mark.parametrize(
    "answer, said",
    [
        (lambda x: x, "got       [1, 2]"),
        (lambda x: 2, "(a number, expected a list of 2 values)"),
        (lambda x: [], "(an empty list, expected a list of 2 values)"),
        (lambda x: [2], "(a list of 1 value, expected a list of 2 values)"),
        (lambda x: (2 * x)[None], "(shape (1, 2), expected a list of 2 values)"),
        (lambda x: x * np.nan, "got       [nan, nan]"),
        (lambda x: "2, 4", "(a str, which holds no plain numbers)"),
        (lambda x: [[1], [1, 2]], "(a list, which holds no plain numbers)"),
        (lambda x: {}, "(a dict, which holds no plain numbers)"),
        (lambda: 1, "TypeError"),
        (lambda x: 1 / 0, "ZeroDivisionError: division by zero\n    in line"),
        (7, "expected a function, got 7. Pass my_pair without brackets."),
    ],
)
def test_wrong_answers_are_described(answer, said: str):
    verdict = judge(PAIR, answer)
    assert verdict.state == "wrong" and said in verdict.text
    assert verdict.failed == ("a row",)


def test_none_in_some_cases_only_is_wrong():
    two = Exercise(
        id="09.1",
        name="same",
        question="Return x.",
        cases=(Case(words="one", inputs=(1,), expected=1), Case(words="two", inputs=(2,), expected=2)),
        hints=("a", "b", "c"),
        solution="def my_same(x):\n    return x\n",
    )
    verdict = judge(two, lambda x: x if x == 1 else None)
    assert verdict.state == "wrong" and verdict.failed == ("two",)
    assert "got       None  (nothing: is a `return` missing?)" in verdict.text


def test_values_are_shown_as_they_would_be_written():
    assert show(torch.tensor([[1.0, 0.25], [1 / 3, 2]])) == "[[1, 0.25], [0.333333, 2]]"
    assert show([True, 3, 0.1 + 0.2]) == "[True, 3, 0.3]"
    assert show(list(range(1000))).endswith(" ...") and len(show(list(range(1000)))) < 320
