"""Chapter 11: solutions agree with PyTorch and the library, and each likely mistake is caught and named."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from cascade_lab.datasets.loader import Batch
from cascade_lab.engine.accumulate import split
from cascade_lab.engine.ema import Ema
from cascade_lab.learn.chapter_11 import SCALED_LR, SPLIT_BATCH, TRAINING_MEMORY
from cascade_lab.learn.exercise import Exercise
from cascade_lab.recipes import recipe
from cascade_lab.settle import scale_lr
from tests.learn.mistakes import assert_caught
from tests.tiny_detector import objects, pictures


@pytest.mark.parametrize("average", [False, True])
def test_memory_is_what_pytorch_holds(average: bool):
    """Weights, gradients and AdamW's moments of a small layer, counted tensor by tensor after one step."""
    layer = nn.Linear(30, 20)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(30)).sum().backward()
    optimizer.step()
    held = list(layer.parameters()) + [p.grad for p in layer.parameters()]
    held += [value for state in optimizer.state.values() for value in state.values() if value.numel() > 1]
    held += list(Ema(layer, 0.01).state.values()) if average else []
    parameters = sum(p.numel() for p in layer.parameters())
    expected = sum(t.numel() * t.element_size() for t in held)
    assert TRAINING_MEMORY.solve()(parameters, 0, 1, average) == expected


@pytest.mark.parametrize("share, at_once", [(2, 2), (4, 1), (5, 2), (3, 7)])
def test_parts_are_those_of_the_loop(share: int, at_once: int):
    batch = Batch(0, list(range(share)), pictures(share), [objects()] * share, list(range(share)))
    assert SPLIT_BATCH.solve()(3 * share, 3, at_once) == [share, len(split(batch, at_once))]


@pytest.mark.parametrize("batch", [4, 16, 48])
def test_rate_and_steps_are_those_of_the_library(batch: int, capsys):
    large = recipe("cascade_internimage_l_fpn_1x_coco")
    asked = replace(large, data=replace(large.data, images_per_batch=batch))
    rate, steps = SCALED_LR.solve()(large.optim.lr, 16, batch, large.schedule.epochs, 1003)
    assert rate == pytest.approx(scale_lr(asked).optim.lr)
    assert steps == asked.schedule.total_steps(1003, batch)


MISTAKES = [
    (TRAINING_MEMORY, "one moment", lambda p, k, n, a: 4 * (4 if a else 3) * p + n * k, "nothing kept"),
    (TRAINING_MEMORY, "weights alone", lambda p, k, n, a: 4 * p + n * k, "nothing kept"),
    (TRAINING_MEMORY, "no average", lambda p, k, n, a: 16 * p + n * k, "its running average"),
    (TRAINING_MEMORY, "pictures forgotten", lambda p, k, n, a: 4 * (5 if a else 4) * p + k, "two pictures"),
    (TRAINING_MEMORY, "all by n", lambda p, k, n, a: n * (4 * (5 if a else 4) * p + k), "two pictures"),
    (SPLIT_BATCH, "rounds down", lambda b, p, a: [b // p, max(1, b // p // a)], "not full"),
    (SPLIT_BATCH, "parts of the whole", lambda b, p, a: [b // p, math.ceil(b / a)], "8 GPUs of 2"),
    (SPLIT_BATCH, "no processes", lambda b, p, a: [b, math.ceil(b / a)], "8 GPUs of 2"),
    (SPLIT_BATCH, "no parts", lambda b, p, a: [b // p, 1], "one GPU"),
    (SPLIT_BATCH, "divides", lambda b, p, a: [b // p, b / p / a], "more than the share"),
    (SCALED_LR, "upside down", lambda r, f, b, e, n: [r * f / b, math.ceil(e * n / b)], "half the batch"),
    (SCALED_LR, "square root", lambda r, f, b, e, n: [r * (b / f) ** 0.5, math.ceil(e * n / b)], "half the"),
    (SCALED_LR, "keeps the rate", lambda r, f, b, e, n: [r, math.ceil(e * n / b)], "half the batch"),
    (SCALED_LR, "keeps the steps", lambda r, f, b, e, n: [r * b / f, e * n // f], "half the batch"),
    (SCALED_LR, "rounds down", lambda r, f, b, e, n: [r * b / f, e * n // b], "do not fill"),
    (SCALED_LR, "epoch by epoch", lambda r, f, b, e, n: [r * b / f, e * math.ceil(n / b)], "not one by one"),
]  # fmt: skip


@pytest.mark.parametrize(
    "exercise, answer, words",
    [(exercise, answer, words) for exercise, _, answer, words in MISTAKES],
    ids=[f"{exercise.name}: {mistake}" for exercise, mistake, _, _ in MISTAKES],
)
def test_mistake_is_caught_and_its_case_named(exercise: Exercise, answer, words: str):
    assert_caught(exercise, answer, words)
