"""Chapter 09: solutions agree with the library that trains, and each likely mistake is caught and named."""

import numpy as np
import pytest
import torch
from torch import nn

from cascade_lab.engine.ema import Ema
from cascade_lab.engine.optim import OptimConfig, build_optimizer
from cascade_lab.engine.schedule import ScheduleConfig, lr_factor
from cascade_lab.learn.chapter_09 import AVERAGE, BATCH_LOSS, LAYER_SCALE, WARM_UP
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from tests.learn.mistakes import assert_caught


@pytest.mark.parametrize("ratio", [0.0, 0.001, 0.5])
def test_warm_up_is_that_of_the_schedule(ratio):
    config = ScheduleConfig(steps=40, warmup_steps=12, warmup_ratio=ratio, decay="none")
    for step in range(40):
        assert WARM_UP.solve()(step, 12, ratio) == pytest.approx(lr_factor(step, 40, config))


class Stack(nn.Module):
    """Layers 0 to 3, the last of which are the heads."""

    num_layers = 2

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(4))

    def layer_of(self, name: str) -> int:
        return int(name.split(".")[1])


def test_layer_scale_is_that_of_the_optimizer():
    optimizer = build_optimizer(Stack(), OptimConfig(lr=1.0, layer_decay=0.7))  # type: ignore[arg-type]
    assert [group["lr_scale"] for group in optimizer.param_groups] == pytest.approx(
        [LAYER_SCALE.solve()(layer, 2, 0.7) for layer in range(4)]
    )


def test_average_is_that_of_the_library():
    model, weights = nn.Linear(1, 1, bias=False).double(), [3.0, -1.0, 4.0, 1.0]
    start = model.weight.item()
    average = Ema(model, final=0.2, warmup=0)
    for step, weight in enumerate(weights):
        with torch.no_grad():
            model.weight.fill_(weight)
        average.update(model, step)
    assert AVERAGE.solve()(start, weights, 0.2) == pytest.approx(average.state["weight"].item())


def test_batch_loss_is_the_mean_over_all():
    random = np.random.default_rng(0)
    values = random.random(30)
    parts = [part.tolist() for part in np.split(values, [4, 5, 17])]
    assert BATCH_LOSS.solve()(parts) == pytest.approx(values.mean())


# Each a mistake that learners make, and the words of a case that has to catch it.


def warm_up_by(done=lambda step, steps: step, end=1.0):
    def answer(step, warmup_steps, ratio):
        if warmup_steps == 0 or step >= warmup_steps:
            return end
        return ratio + (end - ratio) * done(step, warmup_steps) / warmup_steps

    return answer


def average_by(keep=lambda m: 1 - m, new=lambda m: m):
    def answer(start, weights, momentum):
        for weight in weights:
            start = keep(momentum) * start + new(momentum) * weight
        return start

    return answer


MISTAKES = [
    (WARM_UP, "counts from 1", warm_up_by(lambda step, steps: step + 1), "the first step"),
    (WARM_UP, "adds the ratio to the share", lambda s, w, r: 1.0 if s >= w else r + s / w, "from a fifth"),
    (WARM_UP, "times the share", lambda s, w, r: 1.0 if s >= w else s / w, "the first step"),
    (WARM_UP, "never ends", lambda s, w, r: r + (1 - r) * s / max(w, 1), "long after"),
    (WARM_UP, "divides by 0", lambda s, w, r: min(1.0, r + (1 - r) * s / w), "no warm-up at all"),
    (LAYER_SCALE, "the heads are layers", lambda k, n, d: d ** (n - k), "the highest layer"),
    (LAYER_SCALE, "upside down", lambda k, n, d: d**k, "the highest layer"),
    (LAYER_SCALE, "a product, no power", lambda k, n, d: max(1, d * (n + 1 - k)), "two layers"),
    (AVERAGE, "momentum is what stays", average_by(lambda m: m, lambda m: 1 - m), "one step"),
    (AVERAGE, "a sum", average_by(lambda m: 1.0), "two steps"),
    (AVERAGE, "the plain mean", lambda s, w, m: sum([s, *w]) / (1 + len(w)), "one step"),
    (AVERAGE, "the last alone", lambda s, w, m: (1 - m) * s + m * w[-1] if w else s, "two steps"),
    (BATCH_LOSS, "mean of means", lambda p: sum(sum(a) / max(len(a), 1) for a in p) / len(p), "a sparse"),
    (BATCH_LOSS, "the sum", lambda p: sum(map(sum, p)), "a single part"),
    (BATCH_LOSS, "divides by 0", lambda p: sum(map(sum, p)) / sum(map(len, p)), "no box at all"),
]  # fmt: skip


@pytest.mark.parametrize(
    "exercise, answer, words",
    [(exercise, answer, words) for exercise, _, answer, words in MISTAKES],
    ids=[f"{exercise.name}: {mistake}" for exercise, mistake, _, _ in MISTAKES],
)
def test_mistake_is_caught_and_its_case_named(exercise: Exercise, answer, words: str):
    assert_caught(exercise, answer, words)


@pytest.mark.parametrize(
    "exercise, right", [(WARM_UP, warm_up_by()), (AVERAGE, average_by())], ids=["warm_up", "average"]
)
def test_the_mistakes_are_one_step_from_an_answer_that_passes(exercise: Exercise, right):
    assert judge(exercise, right).state == "right"
