"""Chapter 02: solutions agree with PyTorch and with the library's own operator; likely mistakes are named."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cascade_lab.learn.chapter_02 import BILINEAR, DCNV3, MODULATION, POINTS, STILL
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.ops.dcnv3_reference import dcnv3_reference, sampling_points


def test_bilinear_is_grid_sample_of_pytorch():
    random = np.random.default_rng(0)
    picture, places = random.uniform(-5, 5, (4, 7)), random.uniform(-2, 8, (200, 2))
    height, width = picture.shape
    grid = torch.from_numpy((2 * places + 1) / (width, height) - 1).view(
        1, 1, -1, 2
    )  # pixel centres are whole
    expected = functional.grid_sample(torch.from_numpy(picture)[None, None], grid, align_corners=False)
    mine = [BILINEAR.solve()(picture.tolist(), x, y) for x, y in places]
    np.testing.assert_allclose(mine, expected.flatten().numpy(), atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
def test_points_are_those_of_the_library(scale: float):
    offset = torch.randn(1, 5, 6, 18, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, y = sampling_points((5, 6), offset, groups=1, offset_scale=scale)
    for row, column in ((0, 0), (2, 4), (4, 5)):
        mine = POINTS.solve()(column, row, offset[0, row, column].view(9, 2).tolist(), scale)
        expected = torch.stack([x[0, row, column, 0], y[0, row, column, 0]], dim=1)
        np.testing.assert_allclose(mine, expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("group", range(3))
def test_modulation_is_softmax_of_pytorch(group: int):
    logits = 4 * torch.randn(27, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = logits.view(3, 9).softmax(-1)[group]
    np.testing.assert_allclose(MODULATION.solve()(logits.tolist(), group), expected.numpy(), atol=1e-12)


def test_dcnv3_is_the_operator():
    generator = torch.Generator().manual_seed(2)
    picture = torch.randn(1, 5, 6, 1, dtype=torch.float64, generator=generator)
    offset = 1.5 * torch.randn(1, 5, 6, 18, dtype=torch.float64, generator=generator)
    logits = torch.randn(1, 5, 6, 9, dtype=torch.float64, generator=generator)
    expected = dcnv3_reference(picture, offset, logits.softmax(-1), groups=1)[0, ..., 0]
    for row, column in np.ndindex(5, 6):
        at = offset[0, row, column].view(9, 2).tolist(), logits[0, row, column].tolist()
        mine = DCNV3.solve()(picture[0, ..., 0].tolist(), column, row, *at)
        assert mine == pytest.approx(expected[row, column].item(), abs=1e-12)


# Each a mistake that learners make, and the words of a case that has to catch it.


def bilinear_by(floor=math.floor, inside=True, share=lambda x, j, y, i: (1 - abs(x - j)) * (1 - abs(y - i))):
    def answer(picture, x, y):
        total = 0.0
        for row in (floor(y), floor(y) + 1):
            for column in (floor(x), floor(x) + 1):
                is_in = 0 <= row < len(picture) and 0 <= column < len(picture[0])
                if is_in or not inside:
                    total += share(x, column, y, row) * picture[row % len(picture)][column % len(picture[0])]
        return total

    return answer


def clamped(picture, x, y):
    x, y = min(max(x, 0), len(picture[0]) - 1), min(max(y, 0), len(picture) - 1)
    return BILINEAR.solve()(picture, x, y)


def points_by(order=lambda k: (k // 3, k % 3), grid=1.0, swap=False):
    def answer(column, row, offsets, scale):
        found = []
        for k in range(9):
            i, j = order(k)
            dx, dy = offsets[k][::-1] if swap else offsets[k]
            stretch = scale if grid else 1
            found.append([column + stretch * (i - 1) + scale * dx, row + stretch * (j - 1) + scale * dy])
        return found

    return answer


def modulation_by(begin=lambda group: 9 * group, shift=max, over=sum, power=math.exp):
    def answer(logits, group):
        own = logits[begin(group) : begin(group) + 9]
        powers = [power(value - shift(own)) for value in own]
        return [value / over(powers) for value in powers]

    return answer


def dcnv3_by(points=POINTS.solve(), weights=MODULATION.solve(), read=BILINEAR.solve()):  # noqa: B008
    def answer(picture, column, row, offsets, logits):
        places = points(column, row, offsets, 1)
        return sum(m * read(picture, x, y) for (x, y), m in zip(places, weights(logits, 0), strict=True))

    return answer


def sigmoid(logits, group):
    return [1 / (1 + math.exp(-value)) for value in logits]


ROWS_FIRST = points_by(order=lambda k: (k % 3, k // 3))
MISTAKES = [
    (BILINEAR, "the nearest pixel", lambda p, x, y: p[round(y) % len(p)][round(x) % len(p[0])], "a quarter"),
    (BILINEAR, "wraps around", bilinear_by(inside=False), "outside on the left"),
    (BILINEAR, "repeats the border", clamped, "half a pixel outside below"),
    (BILINEAR, "int, not floor", bilinear_by(floor=int), "outside on the left"),
    (BILINEAR, "x and y mixed up", lambda p, x, y: BILINEAR.solve()(p, y, x), "exactly on a pixel"),
    (
        BILINEAR, "the shares turned round", bilinear_by(share=lambda x, j, y, i: abs(x - j) * abs(y - i)),
        "a quarter of the way",
    ),
    (POINTS, "along the rows", ROWS_FIRST, "its order"),
    (POINTS, "the scale for offsets alone", points_by(grid=None), "no offsets and a scale of 2"),
    (POINTS, "x and y of the offset mixed up", points_by(swap=True), "one offset"),
    (MODULATION, "of all groups", lambda g, _: torch.tensor(g).softmax(-1).tolist(), "the first of two"),
    (MODULATION, "always the first", modulation_by(begin=lambda group: 0), "the second of two groups"),
    (MODULATION, "not divided", modulation_by(over=lambda powers: 1), "nine equal logits"),
    (MODULATION, "overflows", modulation_by(shift=lambda own: 0), "exp overflows"),
    (MODULATION, "base 2", modulation_by(power=lambda value: 2**value), "log 4"),
    (MODULATION, "sigmoid", sigmoid, "nine equal logits"),
    (DCNV3, "along the rows", dcnv3_by(points=ROWS_FIRST), "the pixel on the left"),
    (DCNV3, "not softmax", dcnv3_by(weights=sigmoid), "away from its border"),
    (DCNV3, "repeats the border", dcnv3_by(read=clamped), "five of the nine"),
    (DCNV3, "no offsets", dcnv3_by(points=lambda c, r, o, s: POINTS.solve()(c, r, STILL, s)), "moved half"),
]  # fmt: skip


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
    "exercise, right",
    [(BILINEAR, bilinear_by()), (POINTS, points_by()), (MODULATION, modulation_by()), (DCNV3, dcnv3_by())],
    ids=["bilinear", "points", "modulation", "dcnv3"],
)
def test_the_mistakes_are_one_step_from_an_answer_that_passes(exercise: Exercise, right):
    assert judge(exercise, right).state == "right"
