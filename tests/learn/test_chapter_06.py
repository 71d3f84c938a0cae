"""Chapter 06: solutions agree with other code, and each likely mistake is caught and named."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from cascade_lab.layers.roi_pooler import level_of
from cascade_lab.learn.chapter_06 import BIN_MEAN, DECODE, LEVEL, POSITIONS
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.ops.box_coder import decode_deltas
from tests.learn.mistakes import assert_caught


def random_boxes(seed: int, count: int, largest: float) -> torch.Tensor:
    random = np.random.default_rng(seed)
    corner, size = random.uniform(0, 20, (count, 2)), np.exp(random.uniform(0, np.log(largest), (count, 2)))
    return torch.from_numpy(np.hstack([corner, corner + size]))


def test_levels_are_those_of_the_library():
    boxes = random_boxes(0, 300, 1500)
    expected = level_of(boxes, 4, 56.0).tolist()
    assert set(expected) == {0, 1, 2, 3}
    assert [LEVEL.solve()(box, 4, 56) for box in boxes.tolist()] == expected


def test_samples_and_means_make_the_roi_align_of_torchvision():
    """Positions of both axes, then the mean of every bin, on a map of noise."""
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(12, 15)))
    x1, y1, x2, y2 = 2.3, 1.1, 11.9, 9.7  # in cells, counted from the border of the map
    expected = roi_align(
        values[None, None], torch.tensor([[0, x1, y1, x2, y2]], dtype=torch.float64), 3, 1.0, 2, aligned=True
    )
    rows = POSITIONS.solve()(y1 - 0.5, y2 - 0.5, 3, 2)
    columns = POSITIONS.solve()(x1 - 0.5, x2 - 0.5, 3, 2)
    mine = [
        [
            float(BIN_MEAN.solve()(values, rows[2 * r : 2 * r + 2], columns[2 * c : 2 * c + 2]))
            for c in range(3)
        ]
        for r in range(3)
    ]
    np.testing.assert_allclose(mine, expected[0, 0].numpy(), rtol=1e-6)


def test_boxes_are_those_of_the_box_coder():
    proposals, std = random_boxes(2, 50, 60), [0.1, 0.2, 0.3, 0.4]
    deltas = torch.from_numpy(np.random.default_rng(3).normal(size=(50, 4)))
    mine = [DECODE.solve()(p, d, std) for p, d in zip(proposals.tolist(), deltas.tolist(), strict=True)]
    np.testing.assert_allclose(mine, decode_deltas(deltas, proposals, std).numpy(), rtol=1e-9)


# Each a mistake that learners make, and the words of a case that has to catch it.


def level_by(side=lambda w, h: math.sqrt(w * h), whole=math.floor, low=True, high=True):
    def answer(box, levels, canonical):
        found = whole(math.log2(side(box[2] - box[0], box[3] - box[1]) / canonical))
        return (
            max(found, 0 if low else found) if not high else min(max(found, 0 if low else found), levels - 1)
        )

    return answer


def positions_by(place=lambda start, k, step: start + (k + 0.5) * step):
    def answer(start, end, bins, samples):
        step = (end - start) / (bins * samples)
        return [place(start, k, step) for k in range(bins * samples)]

    return answer


def bin_mean_by(read=None, pairs=lambda rows, columns: [(y, x) for y in rows for x in columns], join=np.mean):
    read = read or bilinear
    return lambda values, rows, columns: float(
        join([float(read(values, y, x)) for y, x in pairs(rows, columns)])
    )


def bilinear(values, y, x, swap=False, turn=False):
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, values.shape[0] - 1), min(x0 + 1, values.shape[1] - 1)
    fy, fx = (x - x0, y - y0) if swap else (y - y0, x - x0)
    fy, fx = (1 - fy, 1 - fx) if turn else (fy, fx)
    above, below = (values[r, x0] * (1 - fx) + values[r, x1] * fx for r in (y0, y1))
    return above * (1 - fy) + below * fy


def decode_by(
    scale=lambda d, s: d * s, grow=math.exp, from_=lambda low, high: (low + high) / 2, size=lambda p, new: p,
    back=lambda centre, new: (centre - new / 2, centre + new / 2),
):  # fmt: skip
    def answer(proposal, deltas, std):
        found = []
        for axis in (0, 1):
            low, high = proposal[axis], proposal[axis + 2]
            move, change = (scale(deltas[axis + k], std[axis + k]) for k in (0, 2))
            new = (high - low) * grow(change)
            found.append(back(from_(low, high) + move * size(high - low, new), new))
        (x1, x2), (y1, y2) = found
        return [x1, y1, x2, y2]

    return answer


MISTAKES = [
    (LEVEL, "the width", level_by(side=lambda w, h: w), "twice as wide"),
    (LEVEL, "the area", level_by(side=lambda w, h: w * h), "a square of the canonical side"),
    (LEVEL, "rounds to the nearest", level_by(whole=round), "a little smaller"),
    (LEVEL, "rounds up", level_by(whole=math.ceil), "a little smaller"),
    (LEVEL, "no lowest level", level_by(low=False), "much smaller"),
    (LEVEL, "no highest level", level_by(high=False), "too large"),
    (LEVEL, "always 56 and 4 levels", lambda box, levels, canonical: level_by()(box, 4, 56),
     "another canonical"),
    (POSITIONS, "from the border", positions_by(lambda start, k, step: start + k * step), "one sample each"),
    (POSITIONS, "forgets start", positions_by(lambda start, k, step: (k + 0.5) * step),
     "does not start at 0"),
    (POSITIONS, "rounds", positions_by(lambda start, k, step: int(start + (k + 0.5) * step)),
     "than one cell"),
    (POSITIONS, "one sample a bin", lambda s, e, b, n: positions_by()(s, e, b, 1), "two samples each"),
    (POSITIONS, "both ends", lambda s, e, b, n: np.linspace(s, e, b * n).tolist(), "one sample each"),
    (BIN_MEAN, "the nearest cell", bin_mean_by(lambda v, y, x: v[round(y), round(x)]), "between two columns"),
    (BIN_MEAN, "the cell before", bin_mean_by(lambda v, y, x: v[int(y), int(x)]), "between two columns"),
    (BIN_MEAN, "rows for columns", bin_mean_by(lambda v, y, x: bilinear(v, x, y)), "in the middle of a cell"),
    (BIN_MEAN, "weights mixed up", bin_mean_by(lambda v, y, x: bilinear(v, y, x, swap=True)), "a quarter"),
    (BIN_MEAN, "weights turned round", bin_mean_by(lambda v, y, x: bilinear(v, y, x, turn=True)),
     "a quarter"),
    (BIN_MEAN, "pairs", bin_mean_by(pairs=lambda rows, columns: list(zip(rows, columns, strict=False))),
     "hence four samples"),
    (BIN_MEAN, "the maximum", bin_mean_by(join=np.max), "hence four samples"),
    (BIN_MEAN,
     "beyond the last row", bin_mean_by(lambda v, y, x: v[int(y) + 1, int(x)] * (y % 1) + v[int(y), int(x)]),
     "in the last row"),
    (DECODE, "no std", decode_by(scale=lambda d, s: d), "the stds of the first stage"),
    (DECODE, "divides by std", decode_by(scale=lambda d, s: d / s), "the stds of the first stage"),
    (DECODE, "no exponential", decode_by(grow=lambda d: d), "leave the proposal"),
    (DECODE, "one plus the delta", decode_by(grow=lambda d: 1 + d), "twice the width"),
    (DECODE, "corner for centre", decode_by(from_=lambda low, high: low), "leave the proposal"),
    (DECODE, "in new widths", decode_by(size=lambda p, new: new), "a move and a change"),
    (DECODE, "centre and size", decode_by(back=lambda centre, new: (centre, new)), "leave the proposal"),
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
    [(LEVEL, level_by()), (POSITIONS, positions_by()), (BIN_MEAN, bin_mean_by()), (DECODE, decode_by())],
    ids=["level", "positions", "bin_mean", "decode"],
)
def test_the_mistakes_are_one_step_from_an_answer_that_passes(exercise: Exercise, right):
    assert judge(exercise, right).state == "right"
