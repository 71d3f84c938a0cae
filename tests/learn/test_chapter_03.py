"""Chapter 03: solutions agree with PyTorch's strides and autograd, and with what emulated threads told."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cascade_lab.learn.chapter_03 import ELEMENT, OUTPUT_OF, SCATTER
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.widgets.kernel_trace import stored_trace


def test_element_is_where_numpy_has_it():
    shape = (3, 4, 5, 6)
    for at in np.ndindex(*shape):
        assert ELEMENT.solve()(*at, shape[1:]) == np.ravel_multi_index(at, shape)


def test_outputs_are_those_of_the_kernel():
    trace = stored_trace()
    block = trace.block_size.tolist()
    for place, thread, told in zip(trace.blocks, trace.threads, trace.places, strict=True):
        mine = OUTPUT_OF.solve()(place[0], thread[0], thread[1], block[:2], trace.size)
        assert mine == told[:3].tolist()


def test_blocks_deal_out_every_output_once():
    found = [
        OUTPUT_OF.solve()(block, x, y, [4, 16], [7, 9])
        for block in range(4) for y in range(16) for x in range(4)
    ]  # fmt: skip
    outputs = [tuple(output) for output in found if output]
    assert sorted(outputs) == list(np.ndindex(7, 9, 4))


def test_scatter_is_the_gradient_of_grid_sample():
    random = np.random.default_rng(0)
    height, width = 4, 6
    for x, y in random.uniform(-1.5, 7, (50, 2)):
        m, gradient = random.normal(size=2)
        picture = torch.zeros(1, 1, height, width, dtype=torch.float64, requires_grad=True)
        grid = torch.tensor([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1]).double().view(1, 1, 1, 2)
        (m * functional.grid_sample(picture, grid, align_corners=False)).backward(
            torch.full((1, 1, 1, 1), gradient, dtype=torch.float64)
        )
        mine = SCATTER.solve()(x, y, m, gradient, height, width)
        np.testing.assert_allclose(mine, picture.grad[0, 0].numpy(), atol=1e-12)


def scatter_by(share=lambda x, j: 1 - abs(x - j), times=lambda m, g: m * g, add=True, wrap=False):
    def answer(x, y, m, gradient, height, width):
        table = [[0.0] * width for _ in range(height)]
        for i in (math.floor(y), math.floor(y) + 1):
            for j in (math.floor(x), math.floor(x) + 1):
                if wrap or (0 <= i < height and 0 <= j < width):
                    table[i % height][j % width] += share(x, j) * share(y, i) * times(m, gradient)
        return table

    return answer


def output_by(spare=True, before=lambda block, size: block * size[1], width=1, turned=False):
    def answer(block, x, y, block_size, size):
        pixel = before(block, block_size) + y
        if spare and pixel >= size[0] * size[1]:
            return []
        row, column = divmod(pixel, size[width])
        return [column, row, x] if turned else [row, column, x]

    return answer


MISTAKES = [
    (
        ELEMENT,
        "channels first",
        lambda n, y, x, c, s: ((n * s[2] + c) * s[0] + y) * s[1] + x,
        "fourth channel",
    ),
    (ELEMENT, "x before y", lambda n, y, x, c, s: ((n * s[1] + x) * s[0] + y) * s[2] + c, "to the right"),
    (ELEMENT, "forgets the channels", lambda n, y, x, c, s: (n * s[0] + y) * s[1] + x + c, "to the right"),
    (ELEMENT, "height for width", lambda n, y, x, c, s: ((n * s[1] + y) * s[0] + x) * s[2] + c, "pixel down"),
    (ELEMENT, "ignores the picture", lambda n, y, x, c, s: (y * s[1] + x) * s[2] + c, "second picture"),
    (OUTPUT_OF, "no threads to spare", output_by(spare=False), "to spare"),
    (OUTPUT_OF, "ignores the block", output_by(before=lambda block, size: 0), "second block"),
    (OUTPUT_OF, "all threads of a block", output_by(before=lambda b, s: b * s[0] * s[1]), "second block"),
    (OUTPUT_OF, "height for width", output_by(width=0), "third row"),
    (OUTPUT_OF, "column first", output_by(turned=True), "the next pixel"),
    (SCATTER, "no modulation", scatter_by(times=lambda m, g: g), "which gets all of it"),
    (SCATTER, "no gradient", scatter_by(times=lambda m, g: m), "which gets all of it"),
    (SCATTER, "wraps around", scatter_by(wrap=True), "falls off the map"),
    (SCATTER, "equal shares", scatter_by(share=lambda x, j: 0.5), "half way"),
]


@pytest.mark.parametrize(
    "exercise, answer, words",
    [(exercise, answer, words) for exercise, _, answer, words in MISTAKES],
    ids=[f"{exercise.name}: {mistake}" for exercise, mistake, _, _ in MISTAKES],
)
def test_mistake_is_caught_and_its_case_named(exercise: Exercise, answer, words: str):
    verdict = judge(exercise, answer)
    assert verdict.state == "wrong"
    assert [failed for failed in verdict.failed if words in failed and failed in verdict.text], verdict.text


@pytest.mark.parametrize(
    "exercise, right", [(OUTPUT_OF, output_by()), (SCATTER, scatter_by())], ids=["output_of", "scatter"]
)
def test_the_mistakes_are_one_step_from_an_answer_that_passes(exercise: Exercise, right):
    assert judge(exercise, right).state == "right"
